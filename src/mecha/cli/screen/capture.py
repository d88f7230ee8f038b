"""What this process itself writes while the screen is on: a warning of a library belongs in the log, not across it."""

import os
import sys
import threading
from collections.abc import Callable

_READ_OUT_S = 1.0


class CapturedOutput:
    """Gives what is written to standard output and standard error to `take`, until `end`.

    Args:
        take: gets a line at a time, from a thread.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        _flush()
        self._take = take
        self._before = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
        self._reading, writing = os.pipe()
        for descriptor, _ in self._before:
            os.dup2(writing, descriptor)
        os.close(writing)
        self._reader = threading.Thread(target=self._read, name="captured-output", daemon=True)
        self._reader.start()

    def end(self) -> None:
        """Let both go where they went before, once all that was written is taken. Ended twice, nothing happens."""
        before, self._before = self._before, []
        if not before:
            return
        _flush()
        for descriptor, copy in before:
            os.dup2(copy, descriptor)
            os.close(copy)
        # A process that was started meanwhile may hold the other end, and live on.
        self._reader.join(_READ_OUT_S)

    def _read(self) -> None:
        with os.fdopen(self._reading, "rb") as stream:
            for line in stream:
                self._take(line.decode(errors="replace").rstrip())


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
