"""Where a process of `mecha` begins: Ctrl-C ends it in one way, from before its first large import on."""

import signal
import sys
from typing import TYPE_CHECKING

from mecha.errors import INTERRUPTED_EXIT_CODE

if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the command line, and end with its exit code."""
    came: list[int] = []

    def note(number: int, _frame: "FrameType | None") -> None:
        # A library in C that is being imported may make an ImportError of the KeyboardInterrupt.
        came.append(number)
        raise KeyboardInterrupt

    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, note)
        from mecha.cli.app import main as run

        run(lambda: bool(came))
    except (Exception, KeyboardInterrupt):
        if not came:
            raise
        sys.exit(INTERRUPTED_EXIT_CODE)
    finally:
        if came:
            # A KeyboardInterrupt that has passed through an exec() of text, as that of dataclasses, ends CPython by the
            # signal and not with our exit code, unless another text is executed.
            exec("")  # noqa: S102
