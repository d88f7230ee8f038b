"""What a run of nodes writes: it must not end a robot that a disk is full or a terminal is gone."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer

from mecha.cli.context import echo_json
from mecha.cli.ending import write_nowhere


class RunOutput:
    """Writes lines and events. What cannot be written is lost; where nobody reads any more the run ends in order.

    Args:
        lines_to_stderr: standard output is for events.
    """

    def __init__(self, *, lines_to_stderr: bool = False) -> None:
        self._lines_to_stderr = lines_to_stderr
        self._stop: Callable[[], None] | None = None

    def stops(self, stop: Callable[[], None]) -> None:
        """Say what ends the run in order."""
        self._stop = stop

    def line(self, text: str) -> None:
        """Write a line of the log."""
        self._write(lambda: typer.echo(text, err=self._lines_to_stderr))

    def event(self, event: Mapping[str, Any]) -> None:
        """Write an event as a line of JSON."""
        self._write(lambda: echo_json(event))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BrokenPipeError:
            self._lose_readers()
        except OSError:
            # A full disk has room again, later; of a terminal that is gone a signal tells.
            return

    def _lose_readers(self) -> None:
        """Write nowhere from now on, as `head` and the like want it of what they read from."""
        write_nowhere(sys.stdout)
        if self._stop is not None:
            self._stop()
            self._stop = None
