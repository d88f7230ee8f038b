"""What the service manager is told: ready, reloading, stopping, alive. A datagram each; nothing where nobody asked.

https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}


class Notifier:
    """Sends to NOTIFY_SOCKET of the environment.

    Attributes:
        watchdog_s: how often `alive` is to be told, half of what the service manager allows; None where nobody asks.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str = "") -> None:
        """It answers."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """It reads its files again; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """It is not stuck."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in a sentence how it does, for `systemctl status`."""
        self._send(*_status(text))

    def _send(self, *lines: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        # A name in the abstract namespace is written with @ for its first byte, which is zero.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # A service manager that does not listen must not hold up anything.
            sender.setblocking(False)
            sender.connect(address)
            sender.send("\n".join(lines).encode())


def journal_line(line: str) -> str:
    """Return a line of the log as the journal reads its priority: `<3>` before an error."""
    level = line[1:].partition("]")[0] if line.startswith("[") else ""
    return f"<{_PRIORITIES.get(level, _PRIORITIES['INFO'])}>{line}"


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether an open file of this process goes to the journal, and not to a pipe or file in its place."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    asked, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not asked.isdecimal() or pid != str(os.getpid()):
        return None
    return int(asked) / 2e6
