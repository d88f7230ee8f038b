"""The terminal while the screen is on it: read key by key, drawn line by line, and given back as it was.

It is given back by `leave`; and when this process is killed so that it cannot, by a small shell that waits for its end.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[2J"
"""The other screen, no cursor, no wrapping at the right edge, pasted text marked as such, and all of it empty."""
_LEAVE = b"\x1b[0m\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN_FRAME, _END_FRAME = b"\x1b[?2026h", b"\x1b[?2026l"
"""A terminal that knows them shows what is between them at once."""

# Ends when it reads a line. At the end of the pipe instead, the process is gone: modes that nobody has changed since
# are those before it, and the other screen goes away.
_GUARD = """
trap '' HUP INT TERM QUIT
read -r _ && exit 0
exec 3<&1
[ "$(stty -g <&3)" = "$2" ] && stty "$1" <&3
printf '%b' "$3"
"""
_WRITABLE_S = 1.0


def can_show(environ: Mapping[str, str]) -> bool:
    """Tell whether there is a terminal that a screen can be on: both ways, not a dumb one, and ours now."""
    if sys.platform == "win32" or environ.get("TERM", "dumb") in {"", "dumb"}:
        return False
    if not (_is_terminal(0) and _is_terminal(1)):
        return False
    try:
        # A job in the background is stopped when it touches the terminal.
        return os.tcgetpgrp(1) == os.getpgrp()
    except OSError:
        return False


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def encoding_of(environ: Mapping[str, str], written: str | None) -> str:
    """Return the encoding of a terminal.

    Args:
        environ: of the process.
        written: what standard output writes. Python writes UTF-8 where the locale is "C", which promises ASCII only.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    told = locale.lower().replace("-", "")
    return (written or "ascii") if not told or "utf8" in told else "ascii"


class Terminal:
    """The terminal of this process, as a context: entered, it shows the screen; left, it is as it was.

    `keys`, `draw` and `leave` belong to one thread at a time; `wake` may be called from any, and by a signal handler.

    Attributes:
        encoding: of the text that it shows.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        # Not 0 and 1: what else is written there must not end on the screen.
        self._in, self._out = os.dup(0), os.dup(1)
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._modes: list[Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._shown: list[str] = []
        self._listens = True

    def __enter__(self) -> Self:
        import termios

        self._modes = termios.tcgetattr(self._in)
        try:
            before = self._stty("-g")
            self._listen_by_key()
            self._guard = _guard(self._out, before, self._stty("-g"))
            self._write(_ENTER)
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        for descriptor in (self._in, self._out, self._woken, self._wake):
            os.close(descriptor)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        # A serial line knows no size.
        return (columns, lines) if columns and lines else (80, 24)

    def wake(self) -> None:
        """End a wait for keys."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def keys(self, timeout_s: float) -> bytes:
        """Return what was typed, b"" when nothing was in this time or `wake` was called."""
        inputs = [self._woken, self._in] if self._listens else [self._woken]
        ready, _, _ = select.select(inputs, [], [], max(0.0, timeout_s))
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
        if self._in not in ready:
            return b""
        try:
            data = os.read(self._in, 4096)
        except OSError:
            data = b""
        # At its end it would be ready for ever.
        self._listens = bool(data)
        return data

    def draw(self, lines: Sequence[str], *, whole: bool = False) -> None:
        """Show lines, which are as wide as the terminal; only what has changed is written.

        Args:
            lines: from the top, with their colours.
            whole: write all of them, onto an empty screen.
        """
        shown = [] if whole else self._shown
        changed = [
            f"\x1b[{index + 1};1H{line}"
            for index, line in enumerate(lines)
            if index >= len(shown) or shown[index] != line
        ]
        self._shown = list(lines)
        if changed:
            text = ("\x1b[2J" if whole else "") + "".join(changed)
            self._write(_BEGIN_FRAME + text.encode(self.encoding, "replace") + _END_FRAME)

    def leave(self) -> None:
        """Give the terminal back, at once; left twice, nothing happens."""
        if self._modes is None:
            return
        import termios

        modes, self._modes = self._modes, None
        # A terminal that takes nothing any more (a line that hangs) must not hold the end of the run.
        _, writable, _ = select.select([], [self._out], [], _WRITABLE_S)
        if writable:
            with contextlib.suppress(OSError):
                self._write(_LEAVE)
        with contextlib.suppress(termios.error):
            # What was typed for the screen is no command for the shell.
            termios.tcsetattr(self._in, termios.TCSANOW, modes)
            termios.tcflush(self._in, termios.TCIFLUSH)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.write(b"done\n")
                self._guard.stdin.close()
            self._guard.wait()

    def _listen_by_key(self) -> None:
        """Give each key at once and show none; Ctrl-C stays a signal.

        Ctrl-Z does not stop this process: nobody would start a node again meanwhile. Ctrl-S does not hold it up.
        """
        import termios

        modes = termios.tcgetattr(self._in)
        modes[0] &= ~termios.IXON
        modes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        off = os.fpathconf(self._in, "PC_VDISABLE")
        modes[6][termios.VSUSP] = bytes([off])
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSAFLUSH, modes)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                # Somebody else has set the terminal so.
                select.select([], [self._out], [], _WRITABLE_S)

    def _stty(self, *arguments: str) -> str:
        """Return what `stty` says of the terminal, "" where there is no such command."""
        try:
            done = subprocess.run(["stty", *arguments], stdin=self._in, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip()


def _guard(terminal: int, before: str, ours: str) -> subprocess.Popen[bytes] | None:
    """Start what gives the terminal back when this process is killed; None where that cannot be had.

    In a session of its own, so that no Ctrl-C ends it before.
    """
    leave = _LEAVE.decode().replace("\x1b", "\\033")
    if not (before and ours):
        return None
    try:
        return subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", before, ours, leave],
            stdin=subprocess.PIPE,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
