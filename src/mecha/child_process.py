"""Following a process that this one has started: the lines it writes, its end, and how that is told."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


def read_lines(
    stream: IO[bytes] | None, take: Callable[[bytes], None], name: str, at_end: Callable[[], None] = lambda: None
) -> threading.Thread:
    """Give each line of a pipe to `take`, in a thread of that name, until all that hold its other end are gone.

    The thread closes the pipe, and nobody else may: a close waits for a read that is under way, and a read that
    finds a closed pipe fails.
    """

    def read() -> None:
        with piped(stream) as lines:
            for line in lines:
                take(line)
        at_end()

    thread = threading.Thread(target=read, name=name, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def ended_after(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End a process when the block ends, however it does. Its output belongs to those that read it."""
    try:
        yield
    finally:
        child.kill()
        # What was not taken from us is lost with it.
        with contextlib.suppress(OSError):
            piped(child.stdin).close()
        child.wait()


def piped(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a stream of a process that was started with a pipe for it."""
    if stream is None:
        raise RuntimeError("the process was started without a pipe for it")
    return stream


def exit_words(code: int) -> str:
    """Return how a process ended: `exit code 9`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
