"""Which projects a cache serves: one small file for each, with its folder in it, written by the first pull there.

<root>/projects/<digest of the folder>
"""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.atomic import make_dir, write_file


def note_project(root: Path, project: Path) -> None:
    """Note that a project uses a cache; where nothing can be written, nothing is evicted either."""
    text = str(project.absolute())
    file = root / "projects" / sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
    with suppress(OSError, DiskError):
        if not file.exists():
            make_dir(file.parent)
            write_file(file, text.encode(errors="surrogateescape"))


def known_projects(root: Path) -> tuple[Path, ...]:
    """Return the folders of all projects that ever used a cache, those that are gone or not mounted included."""
    found: set[Path] = set()
    with suppress(OSError):
        for file in (root / "projects").iterdir():
            with suppress(OSError, UnicodeDecodeError):
                text = file.read_text(encoding="utf-8", errors="surrogateescape")
                if not file.name.startswith(".") and Path(text).is_absolute():
                    found.add(Path(text))
    return tuple(sorted(found))
