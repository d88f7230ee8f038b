"""A file on its way through a gateway."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mecha.errors import MechaError


class UnforeseenError(MechaError):
    """A gateway failed where it should not."""


class Flight:
    """A file on its way from the upstream, watched by any number of clients.

    Attributes:
        size: bytes that have come so far.
        total: of the whole file, None while it is not known.
        restarts: how often what had come was dropped; who has sent some of it must stop.
        whole: where the file is, once it is whole and verified.
        fault: why it will not become whole.
    """

    def __init__(self, partial: Path, total: int | None) -> None:
        self.partial, self.total = partial, total
        self.size, self.restarts = 0, 0
        self.whole: Path | None = None
        self.fault: MechaError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.whole is not None or self.fault is not None

    def may_send(self) -> int:
        """Return how many of the bytes may be sent on: the last one is held back until the digest is known."""
        if self.whole is not None:
            return self.total or 0
        return self.size if self.total is None else min(self.size, self.total - 1)

    def progress(self, _stage: str, completed: int, _total: int | None) -> None:
        """Take word from the download."""
        if completed < self.size:
            self.restarts += 1
        self.size = completed

    def look(self) -> None:
        """Take word from the partial file, while another process writes it."""
        # It is gone in the moment in which it is whole.
        with suppress(OSError):
            self.progress("download", self.partial.stat().st_size, self.total)

    def land(self, whole: Path, size_bytes: int) -> None:
        """Take word that the file is whole and verified."""
        self.total = self.size = size_bytes
        self.whole = whole

    def opened(self) -> BinaryIO | None:
        """Open what is there; None in the moment in which it moves to its place, and when it was removed."""
        with suppress(OSError):
            return (self.partial if self.whole is None else self.whole).open("rb")
        return None
