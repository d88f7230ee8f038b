"""The camera: publishes frames of a device, a file, a stream or the arena."""

import time
from typing import ClassVar

from mecha import Field, FrameMessage, Node, NodeConfig
from mecha.errors import ConfigError, IntegrityError, MechaError, NotFoundError
from mecha.runtime.messages import CameraStateMessage
from mecha.runtime.node import Rate
from mecha.runtime.sources import FrameSize, FrameSource, open_source
from mecha.runtime.sources.feed import Feed
from mecha.runtime.sources.pace import Pace, Thinning

FRAMES, STATE = "/camera/rgb", "/camera/state"
STATE_PERIOD_S = 1.0
OPENING_S = 6.0
TURN_S = 0.2


class CameraConfig(NodeConfig):
    """config.json.

    Attributes:
        source: "0" or "/dev/video0", a picture, folder, pattern or video, "rtsp://…", or "arena://"; see docs/nodes.md.
        width: pixels that frames are brought to; height: the same. null leaves them as they come.
        max_fps: at most so many frames a second; null is no limit.
        frame_skip: frames that are left out after each one that is published.
        real_time: play recordings as fast as they were made; false is as fast as possible.
        loop: begin recordings again at their end; otherwise the node ends with them.
    """

    source: str = Field("arena://", min_length=1)
    width: int | None = Field(None, ge=16, le=16384)
    height: int | None = Field(None, ge=16, le=16384)
    max_fps: float | None = Field(None, gt=0, le=1000)
    frame_skip: int = Field(0, ge=0)
    real_time: bool = True
    loop: bool = False


class Camera(Node[CameraConfig]):
    """Publishes every frame it reads, but those it is told to leave out, and whether the camera is there."""

    config_model = CameraConfig
    outputs: ClassVar = {FRAMES: FrameMessage, STATE: CameraStateMessage}

    def setup(self) -> None:
        """Open the source; without one the node does not start, but a camera in the network may come later."""
        self.seq = 0
        self.captured_at: int | None = None
        self.lost_s: float | None = None
        self.state_due = Rate(STATE_PERIOD_S)
        self.source: FrameSource | None = None
        self.next: Feed | None = None
        self.feed = self.opening(final=(NotFoundError, ConfigError, IntegrityError))
        self.feed.settled(OPENING_S)
        self.follow()

    def configure(self, previous: CameraConfig) -> None:
        """Follow the config, and open the source again where it has to be, beside the one that runs."""
        reopened = ("source", "width", "height", "loop")
        if any(getattr(previous, key) != getattr(self.config, key) for key in reopened):
            if self.next is not None:
                self.next.close()
                self.next = None
            if previous.source == self.config.source and (self.source is None or self.source.live):
                # A camera can be opened once.
                self.feed.close()
                self.feed = self.opening(after=self.feed)
            else:
                self.next = self.opening(final=(MechaError,))
        self.follow()

    def step(self, _message: None) -> None:
        """Publish the next frame when it is due."""
        self.change_over()
        captured = self.feed.take(TURN_S)
        self.mark_missed(self.feed.take_missed())
        self.watch()
        if captured is None:
            if self.feed.ended and self.next is None:
                self.log.info("%s has ended; frames: %d", self.feed.name, self.seq)
                self.finish()
            return
        if self.source is not self.feed.source:
            self.follow()
        if self.pace is not None and self.wait(self.pace.wait_s(time.monotonic())):
            return
        if self.thinning.keep(time.monotonic()):
            # What was recorded counts as taken when it is played.
            live = self.source is not None and self.source.live
            self.captured_at = captured.captured_at if live else time.time_ns()
            self.publish(FRAMES, FrameMessage(captured.frame_bgr, self.seq, self.captured_at, captured.source))
            self.seq += 1
            # From the capture on: the wait for the next frame is no work.
            self.measured((time.time_ns() - self.captured_at) / 1e6)

    def close(self) -> None:
        """Give the sources back."""
        for feed in (self.next, self.feed):
            if feed is not None:
                feed.close()

    def opening(self, *, final: tuple[type[MechaError], ...] = (), after: Feed | None = None) -> Feed:
        """Begin to open what the config says."""
        size, loop = FrameSize(self.config.width, self.config.height), self.config.loop
        return Feed(
            self.config.source, lambda text: open_source(text, size=size, loop=loop), self.log, final=final, after=after
        )

    def change_over(self) -> None:
        """Go over to the source that was opened beside this one; what runs goes on where it cannot be opened."""
        if self.next is None:
            return
        try:
            if not self.next.settled(0):
                return
        except MechaError as error:
            self.log.warning("%s; %s goes on", error, self.feed.name)
            self.next = None
            return
        self.feed.close()
        self.feed, self.next = self.next, None

    def watch(self) -> None:
        """Tell when the camera is lost, and when it is back."""
        trouble, now_s = self.feed.trouble(), time.monotonic()
        if trouble and self.lost_s is None:
            self.log.error("%s; what comes from here is stale until it is back", trouble)
            self.lost_s = now_s
            self.mark_stale(True)
        elif not trouble and self.lost_s is not None:
            self.log.info("%s is back after %.1f s", self.feed.name, now_s - self.lost_s)
            self.lost_s = None
            self.mark_stale(False)
        if self.state_due.due(trouble):
            seq = self.seq - 1 if self.seq else None
            state = CameraStateMessage(stale=bool(trouble), reason=trouble, seq=seq, captured_at=self.captured_at)
            self.publish(STATE, state)

    def follow(self) -> None:
        """Time frames as the config and the source say now."""
        source, config = self.feed.source, self.config
        if source is not None and (self.source is None or source.name != self.source.name):
            self.log.info("Source %s%s", source.name, f", {source.fps:g} frames per second" if source.fps else "")
        self.source = source
        recorded = None if source is None or source.live else source.fps
        self.pace = Pace(recorded) if config.real_time and recorded else None
        self.thinning = Thinning(skip=config.frame_skip, max_fps=config.max_fps, fps=recorded)
