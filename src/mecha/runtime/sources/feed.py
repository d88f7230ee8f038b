"""A source that is read beside the node: one that hangs does not hang the node, and one that is gone comes back."""

import logging
import threading
import time
from collections.abc import Callable

from mecha.errors import IntegrityError, MechaError, NodeError
from mecha.runtime.node import Rate
from mecha.runtime.sources.address import without_password
from mecha.runtime.sources.frame import CapturedFrame, FrameSource
from mecha.runtime.sources.silence import Silence

NOTICED_S = 1.5
"""A source that gives nothing for so long is missed; one of less than two frames a second, for three of its frames."""
STUCK_S = 30.0
"""A read that does not come back for so long never will."""
STUCK_OPENING_S = 150.0
"""The same for opening: to ask for a machine by its name may take half a minute where no network is, and twice so."""

_PERIODS = 3.0
_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 2.0
_LASTING_S = 1.0
_TOLD_EVERY_S = 60.0
_CLOSED_WITHIN_S = 1.0
_UNREADABLE_LIMIT = 20


class Feed:
    """Reads a source in a thread of its own, and opens it again, however long that takes, when it is lost.

    Of a live source the newest frame waits to be taken, and those that it takes the place of are counted. Of a
    recording every frame waits.

    Args:
        text: what `opened` gets at first; later it gets `FrameSource.same`.
        opened: opens the source. It is called in the thread, and so is all that it returns.
        log: is told of tries that come to nothing.
        final: errors of the first try that end the feed; after any other it is tried again.
        after: is waited for first: a camera can be opened once.
    """

    def __init__(
        self,
        text: str,
        opened: Callable[[str], FrameSource],
        log: logging.Logger,
        *,
        final: tuple[type[MechaError], ...] = (),
        after: "Feed | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._text = text
        self._open = opened
        self._log = log
        self._final = final
        self._after = after
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._source: FrameSource | None = None
        self._frame: CapturedFrame | None = None
        self._missed = 0
        self._taking = False
        self._ended = False
        self._error: Exception | None = None
        self._trouble = ""
        # What the thread has done so far, and what it does now.
        self._given = 0
        self._calls = 0
        self._calling = False
        self._opening = False
        self._held = False
        self._silence = Silence()
        self._hanging = Silence()
        self._told = Rate(_TOLD_EVERY_S, clock)
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)
        self._thread.start()

    # The node's side

    @property
    def source(self) -> FrameSource | None:
        """The source as it was opened last, None before."""
        return self._source

    @property
    def name(self) -> str:
        """What is shown of it; without passwords."""
        return without_password(self._text) if self._source is None else self._source.name

    @property
    def ended(self) -> bool:
        """A recording is at its end, and its last frame was taken."""
        with self._changed:
            return self._ended and self._frame is None

    def settled(self, timeout_s: float) -> bool:
        """Wait until it has been opened or has ended for good; tells whether it has.

        Raises:
            MechaError: it cannot be opened and is not tried again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._source is not None or self._error is not None, timeout_s)
            self._raise()
            return self._source is not None

    def take(self, timeout_s: float) -> CapturedFrame | None:
        """Return the next frame, None when none came within `timeout_s` seconds.

        Raises:
            MechaError: it has ended for good, and it is no end as recordings have one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended or self._error is not None, timeout_s)
            frame, self._frame = self._frame, None
            self._taking = True
            if frame is None:
                self._raise()
            self._changed.notify_all()
            return frame

    def take_missed(self) -> int:
        """Return and forget how many frames of a live source were not taken in time, since the first that was."""
        with self._changed:
            missed, self._missed = self._missed, 0
            return missed

    def trouble(self) -> str:
        """Return why frames do not come, "" while they do. Ask a few times a second.

        Raises:
            NodeError: the source hangs in a call that does not come back; only another process can open it again.
        """
        now_s = self._clock()
        with self._changed:
            hanging_s = self._hanging.look(self._calls if self._calling else None, now_s)
            silent_s = self._silence.look(None if self._held or self._ended else self._given, now_s)
            stuck_s = STUCK_OPENING_S if self._opening else STUCK_S
            if hanging_s > stuck_s:
                raise NodeError(
                    f"{self.name}: hangs for {stuck_s:g} s, and can only be opened again by another process"
                )
            if self._trouble or self._source is None:
                return self._trouble
            fps = self._source.fps
            limit_s = max(NOTICED_S, _PERIODS / fps) if fps else NOTICED_S
            return f"{self.name}: no frame for {limit_s:.1f} s" if silent_s > limit_s else ""

    def join(self) -> None:
        """Wait, once it is closed, until the source was given back."""
        self._thread.join()

    def close(self) -> None:
        """Give the source back; one that hangs is left to its thread. Closing twice is allowed."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(_CLOSED_WITHIN_S)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # The thread's side

    def _run(self) -> None:
        if self._after is not None:
            self._after.join()
        try:
            self._read_for_good()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node's thread is the one to raise it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _read_for_good(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._closing.is_set():
            source = self._opened()
            if source is not None:
                opened_s = self._clock()
                with source:
                    if self._read(source):
                        return
                if self._clock() - opened_s > _LASTING_S:
                    delay_s = _FIRST_DELAY_S
            if self._closing.wait(delay_s):
                return
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    def _opened(self) -> FrameSource | None:
        """Try to open the source; returns None where that is to be tried again."""
        before = self._source
        self._call(begins=True, opening=True)
        try:
            source = self._open(self._text if before is None else before.same)
        except MechaError as error:
            if before is None and isinstance(error, self._final):
                raise
            self._lost(error)
            # The seconds within the sentence are others each time.
            if self._told.due(type(error).__name__):
                self._log.warning("%s; it is tried again until it is there%s", error, _next(error))
            return None
        finally:
            self._call(begins=False)
        if before is not None:
            source.name = before.name
        with self._changed:
            self._source = source
            self._changed.notify_all()
        return source

    def _read(self, source: FrameSource) -> bool:
        """Read until the source is lost; returns True where nothing more is to come."""
        unreadable, given = 0, 0
        while not self._closing.is_set():
            self._call(begins=True)
            try:
                captured = source.read()
            except IntegrityError as error:
                unreadable += 1
                # The last of all, or so many in a row that a folder that begins again holds nothing else.
                if unreadable == _UNREADABLE_LIMIT or (not given and unreadable == source.count):
                    raise
                self._log.warning("%s; it is left out", error)
                continue
            except MechaError as error:
                self._lost(error)
                return False
            finally:
                self._call(begins=False)
            if captured is None:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
                return True
            unreadable, given = 0, given + 1
            self._put(captured, live=source.live)
        return True

    def _put(self, captured: CapturedFrame, *, live: bool) -> None:
        with self._changed:
            if live:
                # Nobody takes any before all nodes are ready.
                self._missed += self._taking and self._frame is not None
            else:
                self._held = True
                self._changed.wait_for(lambda: self._frame is None or self._closing.is_set())
                self._held = False
            self._frame = captured
            self._given += 1
            self._trouble = ""
            self._changed.notify_all()

    def _lost(self, error: MechaError) -> None:
        with self._changed:
            self._trouble = self._trouble or str(error)

    def _call(self, *, begins: bool, opening: bool = False) -> None:
        with self._changed:
            self._opening = opening
            self._calling = begins
            self._calls += begins


def _next(error: MechaError) -> str:
    return f". {error.hint}" if error.hint else ""
