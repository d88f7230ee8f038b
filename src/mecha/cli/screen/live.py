"""The screen while a run lasts: takes what the nodes say, draws it, and does what keys ask for."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from mecha.cli.screen.capture import CapturedOutput
from mecha.cli.screen.commands import Commands, NodeControl
from mecha.cli.screen.drawing import Drawing
from mecha.cli.screen.keys import ACTIONS, Action, Key, KeyDecoder
from mecha.cli.screen.render import Moment, log_room, render
from mecha.cli.screen.state import ScreenState
from mecha.cli.screen.terminal import Terminal, encoding_of
from mecha.cli.screen.view import look, type_text
from mecha.errors import MechaError
from mecha.project import Project
from mecha.runtime.bus import Bus
from mecha.runtime.events import prefixed
from mecha.runtime.power import Heat, heat

_DRAW_PERIOD_S = 0.25
"""News are drawn four times a second at most: a device has better things to do, and nobody reads faster."""
_CLOCK_PERIOD_S = 1.0
_LOOK_PERIOD_S = 2.0
_ESCAPE_S = 0.05
_JOIN_S = 2.0
_NAME = "mecha"


class LiveScreen:
    """Shows a run on the terminal; `line`, `event` and `begin` are what `mecha.runtime.dev.run_dev` calls.

    Once the terminal is given back, whatever the reason, lines are written plainly.

    Args:
        project: that is run.
        duration_s: how long it runs; None for no end.
        environ: of this process.
        write: writes a line plainly.
    """

    def __init__(
        self,
        project: Project,
        duration_s: float | None,
        environ: Mapping[str, str],
        write: Callable[[str], None] = typer.echo,
    ) -> None:
        self._write = write
        self._project = project
        self._duration_s = duration_s
        self._environ = environ
        self._title = project.root.name + (f" ({project.environment})" if project.environment else "")
        self._lock = threading.Lock()
        self._state = ScreenState()
        self._commands: Commands | None = None
        self._heat = Heat(None, None, "", None, None)
        self._looked_s: float | None = None
        self._plain = False
        self._changed = False
        self._redraws = False
        self._over = threading.Event()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have the terminal while the context lasts, and give it back whatever happens."""
        with Terminal(encoding_of(self._environ, sys.stdout.encoding)) as terminal:
            captured = CapturedOutput(lambda text: self.line(prefixed("INFO", _NAME, text)))
            thread = threading.Thread(target=self._run, args=(terminal, captured), name="screen", daemon=True)
            try:
                with _resizes_to(terminal.wake):
                    thread.start()
                    yield
            finally:
                self._over.set()
                terminal.wake()
                # A terminal that takes nothing any more must not hold the end of the run.
                thread.join(_JOIN_S)
                self._give_back(terminal, captured)

    def line(self, text: str) -> None:
        """Take a line of the log."""
        with self._lock:
            self._state.log.add(text)
            self._changed = True
        if self._plain:
            self._write(text)

    def event(self, event: Mapping[str, Any]) -> None:
        """Take an event."""
        with self._lock:
            self._state.take(event, time.monotonic())
            self._changed = True

    def begin(self, control: NodeControl, bus: Bus) -> None:
        """Take what commands the nodes."""
        self._commands = Commands(control, bus, self._project, self._environ)

    def last_lines(self, count: int) -> list[str]:
        """Return the last warnings and errors, as the plain log writes them."""
        with self._lock:
            return [line.prefix + line.text for line in self._state.log.last(count, "WARNING")]

    def _give_back(self, terminal: Terminal, captured: CapturedOutput) -> None:
        terminal.leave()
        captured.end()
        self._plain = True

    # The thread of the screen

    def _run(self, terminal: Terminal, captured: CapturedOutput) -> None:
        drawing = Drawing(terminal, self._environ)
        keys = KeyDecoder()
        drawn_s = 0.0
        try:
            # A terminal that is gone sends SIGHUP, which ends the run, unless somebody wanted it to go on without one.
            with contextlib.suppress(OSError):
                while not self._over.is_set():
                    left_s = drawn_s + (_DRAW_PERIOD_S if self._changed else _CLOCK_PERIOD_S) - time.monotonic()
                    if left_s <= 0 or terminal.size != drawing.size:
                        self._draw(drawing, terminal.size)
                        drawn_s = time.monotonic()
                        left_s = _DRAW_PERIOD_S
                    data = terminal.keys(_ESCAPE_S if keys.is_waiting else min(left_s, _DRAW_PERIOD_S))
                    for key in keys.feed(data) if data else keys.settle():
                        self._press(key, drawing)
                        drawn_s = 0.0
        finally:
            # What went wrong is written where it can be read, and the run goes on with plain lines.
            self._give_back(terminal, captured)

    def _draw(self, drawing: Drawing, size: tuple[int, int]) -> None:
        now_s = time.monotonic()
        if self._looked_s is None or now_s - self._looked_s >= _LOOK_PERIOD_S:
            self._look_around()
            self._looked_s = now_s
        state = self._state
        with self._lock:
            self._changed = False
            moment = Moment(
                now_s=now_s,
                duration_s=self._duration_s,
                title=self._title,
                temperature_c=self._heat.temperature_c,
                slowed=self._heat.throttled or "",
            )
            lines = render(state, moment, *size, drawing.marks)
        drawing.show(lines, size, whole=self._redraws)
        self._redraws = False

    def _look_around(self) -> None:
        """Read what no event tells."""
        self._heat = heat()
        if self._commands is not None:
            with self._lock:
                detectors = self._state.detectors
            self._state.said = self._commands.in_words(detectors)

    def _press(self, key: Key, drawing: Drawing) -> None:
        state = self._state
        with self._lock:
            if state.typed is not None:
                type_text(state, key)
                return
            # Pasted text commands nothing.
            action = None if key.pasted else ACTIONS.get(key.name)
            if action is None or look(state, action, log_room(state, *drawing.size, drawing.marks)):
                return
        if action is Action.REDRAW:
            self._redraws = True
        elif self._commands is not None:
            self._command(action, self._commands)

    def _command(self, action: Action, commands: Commands) -> None:
        """Command the nodes, without the lock: a supervisor may take its time."""
        if action is Action.QUIT:
            self._state.stopping = True
            commands.stop()
            return
        with self._lock:
            row, detectors = self._state.row, self._state.detectors
        if row is None:
            return
        try:
            self.line(prefixed("INFO", _NAME, commands.do(action, row, detectors)))
        except MechaError as error:
            self.line(prefixed("ERROR", _NAME, str(error)))
        self._looked_s = None


@contextmanager
def _resizes_to(wake: Callable[[], None]) -> Iterator[None]:
    """Call `wake` when the terminal has another size."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        wake()

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGWINCH"):
        yield
        return
    before = signal.signal(signal.SIGWINCH, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
