"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with (stage, completed, total).

Stages are "download", "quantize", "gate" and so on; the unit of completed and total belongs to the stage (bytes of a
download, steps of a build); total is None while nobody knows it. A stage that begins with WAITING stands for no work:
it says whom the work waits for, once.
"""

WAITING = "waiting for "


def silent(stage: str, completed: int, total: int | None) -> None:
    """Take a progress report and show it to nobody."""
