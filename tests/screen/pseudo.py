"""A program on a terminal of its own, without a person before it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from typing import Any

# The terminal is the one of the program's session, as that of a shell is.
_OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


class PseudoTerminal:
    """Runs a program of Python on a pseudo-terminal, and keeps all that it writes there.

    Attributes:
        before: the modes of the terminal before the program began.
    """

    def __init__(
        self, program: str, *, environ: Mapping[str, str] | None = None, size: tuple[int, int] = (80, 24)
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(*size)
        self.before = self.modes()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL + program],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**os.environ, "TERM": "xterm-256color", **(environ or {})},
            start_new_session=True,
        )
        self._written = b""
        self._hung_up = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    @property
    def written(self) -> str:
        return self._written.decode(errors="replace")

    def hang_up(self) -> None:
        """Go away, as a connection that is lost does."""
        os.close(self._slave)
        os.close(self._master)
        self._hung_up = True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        if not self._hung_up:
            os.close(self._slave)
        self._reader.join(10)
        if not self._hung_up:
            os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                # Nobody holds the other end any more.
                return
            if not data:
                return
            self._written += data
