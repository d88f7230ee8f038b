"""How long work says how far it is."""

from collections.abc import Callable
from typing import Self

Progress = Callable[[str, int, int | None], None]
"""Called with (stage, completed, total).

Stages are "download", "quantize", "gate" and so on; the unit of completed and total belongs to the stage (bytes of a
download, steps of a build); total is None while nobody knows it. A stage that begins with WAITING stands for no work:
it says whom the work waits for, once; one that begins with LICENCE says under which licence a model comes.
"""

WAITING = "waiting for "
LICENCE = "licence of "
ATTACHED = "attached download"
"""The stage of a download that another process does, told by one that waits for it; in bytes, like "download"."""
_TRANSFERS = frozenset({"download", ATTACHED})


class FileStage(str):
    """A stage that transfers a file, by its plain name, which also says what the file is.

    Attributes:
        sha256: of the whole file.
    """

    __slots__ = ("sha256",)

    sha256: str

    def __new__(cls, stage: str, sha256: str) -> Self:
        """Return a text that is equal to `stage`."""
        made = super().__new__(cls, stage)
        made.sha256 = sha256
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # as __new__ takes them
        """Let it be copied, as with the state that it is a part of."""
        return str(self), self.sha256


def of_file(progress: Progress, sha256: str | None) -> Progress:
    """Return what hands progress on, and says with each stage which file it is about, where that is known."""
    if sha256 is None:
        return progress
    return lambda stage, completed, total: progress(
        FileStage(stage, sha256) if stage in _TRANSFERS else stage, completed, total
    )


def licence_stage(name: str, licence: str) -> str:
    """Return the stage that says the licence of a model."""
    return f"{LICENCE}{name}: {licence}"


def licence_of(stage: str) -> tuple[str, str] | None:
    """Return name and licence that a stage says, None for any other stage."""
    name, _, licence = stage.removeprefix(LICENCE).partition(": ")
    return (name, licence) if stage.startswith(LICENCE) else None


def silent(stage: str, completed: int, total: int | None) -> None:
    """Take a progress report and show it to nobody."""
