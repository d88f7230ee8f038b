"""What ends the nodes, and all they started, when their supervisor is gone without a word.

A node ends with its supervisor by itself, see `mecha.runtime.lifeline`, but what it started does not: the system tells
only children, and a node that was killed can do nothing for its own.
"""

import contextlib
import os
import subprocess
import sys
from threading import Lock

# The shell, because it is 2 MB and a Python is 10. Its input ends with the supervisor, however that ended. There is no
# `--` before the group: dash knows none there.
_PROGRAM = """
trap '' HUP INT QUIT TERM
groups=' '
while read -r act id; do
    case $act in
        add) groups="$groups$id " ;;
        remove) groups="${groups%% "$id" *} ${groups#* "$id" }" ;;
    esac
done
for id in $groups; do
    kill -9 "-$id"
done
"""


class Guard:
    """Kills process groups as soon as this process is gone. Used from several threads.

    Where there is no shell, as on Windows, it guards nothing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; without it, nothing is guarded."""
        if sys.platform == "win32":
            return
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={"PATH": os.defpath},
            )

    def add(self, group: int) -> None:
        """Guard a process group."""
        self._tell(f"add {group}")

    def remove(self, group: int) -> None:
        """Guard it no more: its id may soon be another one's."""
        self._tell(f"remove {group}")

    def close(self) -> None:
        """Kill what is guarded still, and end."""
        if self._process is not None:
            with self._process:
                pass

    def _tell(self, line: str) -> None:
        # Without it nodes run as well.
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()
