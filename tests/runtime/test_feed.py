"""Sources that hang, end, are lost and come back."""

import logging
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mecha.errors import IntegrityError, MechaError, NetworkError, NodeError, NotFoundError
from mecha.runtime.sources import CapturedFrame, FrameSource, open_source
from mecha.runtime.sources.feed import NOTICED_S, STUCK_OPENING_S, STUCK_S, Feed
from mecha.runtime.sources.silence import Silence
from tests.runtime.rtsp_server import RtspCamera, number_of
from tests.runtime.waiting import wait_for

LOG = logging.getLogger("camera")
PATIENCE_S = 60.0


@pytest.fixture
def over() -> threading.Event:
    """Set when the test is: a source that waits for it gives no more frames."""
    return threading.Event()


@pytest.fixture
def feeds(over: threading.Event) -> Iterator[Callable[..., Feed]]:
    """Opens feeds and closes them again."""
    opened: list[Feed] = []

    def feed(text: str = "scripted", source: Callable[[str], FrameSource] = open_source, **options: object) -> Feed:
        opened.append(Feed(text, source, LOG, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield feed
    over.set()
    for one in opened:
        one.close()
        one.join()


def taken(feed: Feed) -> CapturedFrame:
    """Return the next frame, however long it takes."""
    return wait_for(lambda: feed.take(0.1), timeout_s=PATIENCE_S)  # type: ignore[return-value]


def in_trouble(feed: Feed) -> str:
    """Return why no frames come, once they do not."""

    def told() -> str:
        feed.take(0.05)
        return feed.trouble()

    return wait_for(told, timeout_s=PATIENCE_S)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Scripted(FrameSource):
    """Gives what a list says: frames by their brightness, errors, and waits until they are over."""

    def __init__(self, *script: int | MechaError | threading.Event, live: bool = True, same: str = "") -> None:
        super().__init__("scripted", fps=None, live=live, count=None if live else len(script), same=same)
        self.script = list(script)
        self.closed = False

    def read(self) -> CapturedFrame | None:
        while self.script:
            one = self.script.pop(0)
            if isinstance(one, threading.Event):
                one.wait(PATIENCE_S)
                continue
            if isinstance(one, MechaError):
                raise one
            return self._captured(np.full((8, 8, 3), one, np.uint8))
        return None

    def close(self) -> None:
        self.closed = True


def shade(frame: CapturedFrame) -> int:
    return int(frame.frame_bgr[0, 0, 0])


# A network camera


def test_a_camera_that_is_switched_off_and_on_again_comes_back_by_itself(
    feeds: Callable[..., Feed], caplog: pytest.LogCaptureFixture
) -> None:
    with RtspCamera(password="s3cret") as camera:
        feed = feeds(camera.address)
        assert feed.settled(PATIENCE_S)
        assert feed.trouble() == ""
        first = taken(feed)
    lost = in_trouble(feed)
    wait_for(lambda: caplog.records, timeout_s=PATIENCE_S)
    with RtspCamera(port=camera.port, password="s3cret") as again:
        back = taken(feed)

        assert feed.trouble() == ""
        assert again.played == 1

    at = f"rtsp://user:***@127.0.0.1:{camera.port}/live"
    assert lost.startswith(f"{at}: no frame comes any more, after ")
    assert (first.source, back.source) == (at, at)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{at}: no stream answers (")
    assert told.endswith(
        f" s): nothing listens at 127.0.0.1:{camera.port}; it is tried again until it is there. "
        "Try the address in a video player; is the camera on, and does the path belong to it?"
    )


def test_a_camera_that_hangs_is_missed_and_taken_up_where_it_goes_on(feeds: Callable[..., Feed]) -> None:
    with RtspCamera() as camera:
        feed = feeds(camera.address)
        taken(feed)
        camera.freeze()

        assert in_trouble(feed) == f"rtsp://127.0.0.1:{camera.port}/live: no frame for {NOTICED_S} s"
        camera.thaw()
        taken(feed)

        assert feed.trouble() == ""


def test_frames_of_a_camera_come_in_order_and_those_that_are_not_taken_are_counted(feeds: Callable[..., Feed]) -> None:
    with RtspCamera() as camera:
        feed = feeds(camera.address)
        first = taken(feed)
        wait_for(lambda: camera.sent > 60, timeout_s=PATIENCE_S)
        newest = taken(feed)

        assert feed.take_missed() >= newest.sequence - first.sequence - 1 > 0
        assert newest.captured_at > first.captured_at
        assert number_of(newest.frame_bgr) == (number_of(first.frame_bgr) + newest.sequence - first.sequence) % 24


def test_a_camera_in_the_network_that_is_not_there_yet_is_waited_for(
    feeds: Callable[..., Feed], free_port: Callable[[], int]
) -> None:
    port = free_port()
    feed = feeds(f"rtsp://127.0.0.1:{port}/live", final=(NotFoundError,))

    assert "nothing listens at" in in_trouble(feed)
    with RtspCamera(port=port):
        taken(feed)
    assert feed.source is not None


def test_a_camera_that_does_not_answer_lets_the_node_end(feeds: Callable[..., Feed]) -> None:
    with RtspCamera() as camera:
        feed = feeds(camera.address)
        taken(feed)
        camera.freeze()

        in_trouble(feed)

        feed.close()


# What any source does


def test_of_a_recording_every_frame_is_given(feeds: Callable[..., Feed]) -> None:
    source = Scripted(*range(20), live=False)
    feed = feeds(source=lambda _: source)

    assert [shade(taken(feed)) for _ in range(20)] == list(range(20))
    wait_for(lambda: feed.ended)
    assert (feed.take(0), feed.trouble(), feed.take_missed()) == (None, "", 0)
    wait_for(lambda: source.closed)


def test_a_source_that_is_lost_is_opened_again_as_the_same_one(
    feeds: Callable[..., Feed], over: threading.Event
) -> None:
    asked: list[str] = []
    sources: list[FrameSource | MechaError] = [
        Scripted(1, NodeError("it was unplugged"), same="/dev/v4l/by-id/one"),
        NotFoundError("it is not there"),
        Scripted(2, over),
    ]

    def opened(text: str) -> FrameSource:
        asked.append(text)
        source = sources.pop(0)
        if isinstance(source, MechaError):
            raise source
        return source

    feed = feeds("0", opened)

    assert shade(taken(feed)) == 1
    assert in_trouble(feed) == "it was unplugged"
    assert shade(taken(feed)) == 2
    assert feed.trouble() == ""
    assert asked == ["0", "/dev/v4l/by-id/one", "/dev/v4l/by-id/one"]


def test_what_is_final_at_the_first_try_ends_the_feed_and_nothing_else_does(feeds: Callable[..., Feed]) -> None:
    def refusing(error: MechaError) -> Callable[[str], FrameSource]:
        def opened(_text: str) -> FrameSource:
            raise error

        return opened

    final = feeds(source=refusing(NotFoundError("no such camera")), final=(NotFoundError,))
    with pytest.raises(NotFoundError, match="no such camera"):
        final.settled(PATIENCE_S)
    patient = feeds(source=refusing(NetworkError("it does not answer")), final=(NotFoundError,))
    assert in_trouble(patient) == "it does not answer"
    assert not patient.settled(0)


def test_whatever_else_goes_wrong_is_raised_where_frames_are_taken(feeds: Callable[..., Feed]) -> None:
    def opened(_text: str) -> FrameSource:
        raise ZeroDivisionError

    feed = feeds(source=opened)

    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: feed.take(0.1))


def test_pictures_that_cannot_be_read_are_left_out_as_long_as_there_are_others(
    feeds: Callable[..., Feed], caplog: pytest.LogCaptureFixture
) -> None:
    feed = feeds(source=lambda _: Scripted(1, IntegrityError("b.png: got no picture"), 3, live=False))

    assert [shade(taken(feed)), shade(taken(feed))] == [1, 3]
    assert [record.getMessage() for record in caplog.records] == ["b.png: got no picture; it is left out"]


def test_pictures_of_which_none_can_be_read_are_an_error(feeds: Callable[..., Feed]) -> None:
    broken = [IntegrityError(f"{name}.png: got no picture") for name in "ab"]
    feed = feeds(source=lambda _: Scripted(*broken, live=False))

    with pytest.raises(IntegrityError, match=r"b\.png"):
        wait_for(lambda: feed.take(0.1))


def test_a_camera_is_given_back_before_it_is_opened_again(feeds: Callable[..., Feed], over: threading.Event) -> None:
    hangs = threading.Event()
    held = Scripted(1, hangs, 2)
    before = feeds(source=lambda _: held)
    taken(before)

    def opened(_text: str) -> FrameSource:
        assert held.closed
        return Scripted(5, over)

    before.close()
    after = feeds(source=opened, after=before)
    assert not after.settled(0)
    hangs.set()

    assert shade(taken(after)) == 5


def test_a_call_that_never_comes_back_is_a_reason_to_end_the_process(feeds: Callable[..., Feed]) -> None:
    clock, hangs = Clock(), threading.Event()
    feed = feeds(source=lambda _: Scripted(1, hangs), clock=clock)
    taken(feed)
    # From here on the thread waits within one call.
    wait_for(lambda: feed.take(0) is None and feed.trouble() == "")

    told: list[str] = []

    def look_on() -> None:
        while clock.now_s < STUCK_S + 3:
            told.append(feed.trouble())
            clock.now_s += 0.25

    with pytest.raises(NodeError) as caught:
        look_on()
    hangs.set()

    assert told[0] == ""
    assert told[-1] == "scripted: no frame for 1.5 s"
    assert str(caught.value) == "scripted: hangs for 30 s, and can only be opened again by another process"


def test_opening_may_take_longer_where_no_network_is(feeds: Callable[..., Feed], over: threading.Event) -> None:
    clock, begun = Clock(), threading.Event()

    def opened(_text: str) -> FrameSource:
        begun.set()
        over.wait(PATIENCE_S)
        return Scripted(1)

    feed = feeds(source=opened, clock=clock)
    assert begun.wait(PATIENCE_S)

    def look_on(until_s: float) -> None:
        while clock.now_s < until_s:
            assert feed.trouble() == ""
            clock.now_s += 0.25

    look_on(STUCK_OPENING_S)
    with pytest.raises(NodeError, match="hangs for 150 s"):
        look_on(STUCK_OPENING_S + 3)


def test_silence_counts_only_while_somebody_looks() -> None:
    silence = Silence()

    assert [silence.look(7, at) for at in (0.0, 0.25, 0.5)] == [0.0, 0.25, 0.5]
    assert silence.look(7, 500.0) == 1.0, "a machine that was suspended"
    assert silence.look(8, 500.25) == 0.0
    assert silence.look(None, 500.5) == silence.look(None, 500.75) == 0.0
    assert silence.look(8, 501.0) == 0.0
