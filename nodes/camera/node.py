"""The camera: publishes frames of a device, a file, a stream or the arena."""

import time
from typing import ClassVar

from mecha.errors import MechaError
from mecha.runtime.messages import FrameMessage
from mecha.runtime.node import Field, Node, NodeConfig
from mecha.runtime.sources import FrameSize, FrameSource, open_source
from mecha.runtime.sources.pace import Pace, Thinning

FRAMES = "/camera/rgb"


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
    """Publishes every frame it reads, but those it is told to leave out."""

    config_model = CameraConfig
    outputs: ClassVar = {FRAMES: FrameMessage}

    def setup(self) -> None:
        """Open the source; without one the node does not start."""
        self.seq = 0
        self.source = self.opened()
        self.follow()

    def configure(self, previous: CameraConfig) -> None:
        """Follow the config, and open the source again where it has to be."""
        reopened = ("source", "width", "height", "loop")
        if any(getattr(previous, key) != getattr(self.config, key) for key in reopened):
            self.reopen(same_source=previous.source == self.config.source)
        self.follow()

    def step(self, _message: None) -> None:
        """Publish the next frame when it is due."""
        if self.pace is not None and self.wait(self.pace.wait_s(time.monotonic())):
            return
        captured = self.source.read()
        if captured is None:
            self.log.info("%s has ended; frames: %d", self.source.name, self.seq)
            self.finish()
        elif self.thinning.keep(time.monotonic()):
            self.publish(FRAMES, FrameMessage(captured.frame_bgr, self.seq, captured.captured_at, captured.source))
            self.seq += 1
            # From the capture on: the wait for the next frame is no work.
            self.measured((time.time_ns() - captured.captured_at) / 1e6)

    def close(self) -> None:
        """Give the source back."""
        self.source.close()

    def opened(self) -> FrameSource:
        """Return what the config says, open."""
        size = FrameSize(self.config.width, self.config.height)
        source = open_source(self.config.source, size=size, loop=self.config.loop)
        self.log.info("Source %s%s", source.name, f", {source.fps:g} frames per second" if source.fps else "")
        return source

    def reopen(self, *, same_source: bool) -> None:
        """Open what the config says now; what runs goes on where that cannot be opened."""
        if same_source and self.source.live:
            # A camera can be opened once.
            self.source.close()
            self.source = self.opened()
            return
        try:
            source = self.opened()
        except MechaError as error:
            self.log.warning("%s; %s goes on", error, self.source.name)
            return
        self.source.close()
        self.source = source

    def follow(self) -> None:
        """Time frames as the config says now."""
        source, config = self.source, self.config
        self.pace = Pace(source.fps) if config.real_time and source.fps and not source.live else None
        self.thinning = Thinning(skip=config.frame_skip, max_fps=config.max_fps, fps=source.fps)
