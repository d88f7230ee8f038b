"""How a command ends: whatever becomes of it, as a sentence and an exit code."""

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

import typer

from mecha.errors import INTERNAL_EXIT_CODE, INTERRUPTED_EXIT_CODE, DiskError, MechaError, NoSpaceError
from mecha.redaction import redacted, unforeseen

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def ended(command: Callable[[], object], interrupted: Callable[[], bool]) -> int:
    """Run a command, tell what it failed of, and return its exit code.

    Args:
        command: ends by SystemExit, as those of typer do, or by returning.
        interrupted: tells whether Ctrl-C came: a library that was being imported fails of something else then.
    """
    # typer puts another in its place when a reader goes away.
    streams = {"standard output": sys.stdout, "standard error": sys.stderr}
    try:
        code = _run(command, sys.stdout)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    except Exception as error:  # noqa: BLE001 - the edge of the process: nothing ends as a trace
        if isinstance(error, BrokenPipeError) and _lose_readers(streams.values()):
            return 0
        meant = _meant(error, streams)
        # What a run has not kept on the disk is told also after Ctrl-C.
        if interrupted() and not isinstance(meant, DiskError):
            return INTERRUPTED_EXIT_CODE
        _tell(_sentences(meant))
        return meant.exit_code if isinstance(meant, MechaError) else INTERNAL_EXIT_CODE
    return INTERRUPTED_EXIT_CODE if code and interrupted() else code


def write_nowhere(stream: TextIO) -> None:
    """Lose what is still to be written to a stream, so that no flush of it fails any more."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _run(command: Callable[[], object], output: TextIO | None) -> int:
    """Run a command, until what it has written is out of this process; return its exit code."""
    code: object = None
    try:
        command()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            # typer has 1 for it.
            raise end.__context__ from None
        code = end.code
    if output is not None:
        output.flush()
    return code if isinstance(code, int) else int(code is not None)


def _lose_readers(streams: Iterable[TextIO | None]) -> bool:
    """Write nowhere from now on where nobody reads any more, as `head` and the like want it; tell whether."""
    gone = [stream for stream in streams if stream is not None and _is_unread(stream)]
    for stream in gone:
        write_nowhere(stream)
    return bool(gone)


def _is_unread(stream: TextIO) -> bool:
    if sys.platform == "win32":
        return True  # nobody can tell
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
        return bool(poll.poll(0))
    except OSError:
        return False


def _meant(error: Exception, streams: Mapping[str, TextIO | None]) -> Exception:
    """Return the failure of a disk that an output goes to as a DiskError, every other one as it is."""
    if not isinstance(error, OSError) or error.errno not in _FULL or error.filename is not None:
        return error
    for name, stream in streams.items():
        if stream is not None and _is_on_disk(stream):
            write_nowhere(stream)
            reason = "no space left" if error.errno == errno.ENOSPC else os.strerror(error.errno).lower()
            return NoSpaceError(
                f"{name}: cannot write: {reason} where it goes to", hint="Free some space there, or write elsewhere."
            )
    return error


def _is_on_disk(stream: TextIO) -> bool:
    """Tell whether a stream can be full: a pipe and a terminal never are."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not stream.isatty())


def _sentences(error: Exception) -> str:
    if not isinstance(error, MechaError):
        return unforeseen(error)
    return f"error: {error}\n" + (f"  next: {error.hint}\n" if error.hint else "")


def _tell(sentences: str) -> None:
    stream = sys.stderr
    try:
        typer.echo(redacted(sentences), err=True, nl=False)
    except OSError:
        write_nowhere(stream)
