"""A camera that gives no frames because it was asked to."""

import threading

import numpy as np
import pytest

from mecha.errors import NodeError
from mecha.runtime.faults import Fault
from mecha.runtime.injection import Injection
from mecha.runtime.sources import CapturedFrame, FrameSource
from mecha.runtime.sources.dropped import present


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Counted(FrameSource):
    """Gives frames that are numbered."""

    def __init__(self, *, live: bool) -> None:
        super().__init__("counted", fps=30.0, live=live)
        self.closed = False

    def read(self) -> CapturedFrame:
        return self._captured(np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A process whose camera drops from the 5th to the 8th second; its clock."""
    clock = Clock()
    injection = Injection([Fault.parsed("camera-drop@5s:3s")], began_s=100.0, clock=clock)
    monkeypatch.setattr("mecha.runtime.injection._here", injection)
    return clock


def test_a_dropped_camera_is_lost_and_cannot_be_opened_until_it_is_back(dropping: Clock) -> None:
    inner = Counted(live=True)
    source = present(lambda: inner)
    assert source.read() is not None

    dropping.now_s = 105.0
    with pytest.raises(NodeError) as lost:
        source.read()
    with pytest.raises(NodeError) as absent:
        present(lambda: inner)

    assert str(lost.value) == "counted: no frame comes any more"
    assert str(absent.value) == "counted: it was opened, but no frame comes"
    assert inner.closed
    dropping.now_s = 108.0
    assert present(lambda: inner).read() is not None


def test_a_dropped_recording_stands_still_and_goes_on_where_it_was(dropping: Clock) -> None:
    source = present(lambda: Counted(live=False))
    taken: list[int] = []
    first = source.read()
    dropping.now_s = 105.0

    def read() -> None:
        captured = source.read()
        assert captured is not None
        taken.append(captured.sequence)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(0.1)
    assert taken == []
    dropping.now_s = 108.0
    thread.join(10)

    assert first is not None
    assert (first.sequence, taken) == (0, [1])
