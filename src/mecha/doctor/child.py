"""A process of its own for what may crash or hang: what becomes of it is told, and harms nothing here."""

import subprocess
from collections.abc import Mapping, Sequence


def run_child(
    command: Sequence[str], environ: Mapping[str, str], *, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run a process to its end and keep what it writes; bytes that are no text are replaced.

    Args:
        environ: of the process.
        timeout_s: how long it may take.

    Raises:
        subprocess.TimeoutExpired: if it took longer; it was killed.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env=dict(environ),
    )
