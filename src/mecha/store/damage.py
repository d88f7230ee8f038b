"""What a published file became, when it is not what its manifest says; and the mark that lets the next pull know.

A pull of what is complete compares sizes only, so it cannot see a flipped bit. Who reads the files finds it, and leaves
`.damaged` in the folder of the model. The mark is a suspicion, no verdict: a pull that sees it reads the files itself.
It goes with the folder, when another one takes its place.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.atomic import write_file

_MARK = ".damaged"


@dataclass(frozen=True, slots=True)
class Fault:
    """A published file that is not what the manifest says.

    Attributes:
        remedy: what the next pull does about it, to follow the name of the file; empty where nobody asked.
    """

    file: str
    got: str
    expected: str
    remedy: str = ""


def mark(folder: Path, files: Iterable[str]) -> None:
    """Note which files of a model are damaged, or that none is; where nothing can be written, nothing is noted."""
    names = sorted(files)
    with suppress(DiskError, OSError):
        if names:
            write_file(folder / _MARK, "".join(f"{name}\n" for name in names).encode())
        else:
            (folder / _MARK).unlink(missing_ok=True)


def is_marked(folder: Path) -> bool:
    """Tell whether somebody found a damaged file in the folder of a model."""
    return (folder / _MARK).exists()
