"""What a published file became, when it is not what its manifest says; and the mark that lets the next pull know.

A pull of what is complete compares sizes only, so it cannot see a flipped bit. Who reads the files finds it, and leaves
`.damaged` in the folder of the model. The mark is a suspicion, no verdict: a pull that sees it reads the files itself.
It goes with the folder, when another one takes its place.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.atomic import write_file
from mecha.store.digests import sha256_of
from mecha.store.manifest import FileRecord, Manifest, broken_seal

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


def faults_in(folder: Path, manifest: Manifest, content: bytes, manifest_file: str) -> tuple[Fault, ...]:
    """Read every file of a model and return those that are not what the manifest says, the manifest among them.

    Args:
        content: of the manifest file, as it was when it was read.
    """
    faults = [
        Fault(name, got, expected)
        for name, record in sorted(manifest.files.items())
        for got, expected in _compared(folder / name, record)
    ]
    digest = broken_seal(content, manifest)
    if digest is not None:
        faults.append(Fault(manifest_file, f"sha256 {digest}", f"sha256 {manifest.digest}"))
    return tuple(faults)


def _compared(file: Path, record: FileRecord) -> Iterator[tuple[str, str]]:
    try:
        size = file.stat().st_size
        digest = sha256_of(file) if size == record.size_bytes else ""
    except FileNotFoundError:
        yield "no such file", f"sha256 {record.sha256}"
    except (OSError, DiskError):
        yield "cannot be read", f"sha256 {record.sha256}"
    else:
        if size != record.size_bytes:
            yield f"{size} bytes", f"{record.size_bytes} bytes"
        elif digest != record.sha256:
            yield f"sha256 {digest}", f"sha256 {record.sha256}"


def mark(folder: Path, files: Iterable[str]) -> None:
    """Note which files of a model are damaged, or that none is; where nothing can be written, nothing is noted."""
    names = sorted(files)
    with suppress(DiskError, OSError):
        if names:
            write_file(folder / _MARK, "".join(f"{name}\n" for name in names).encode())
        else:
            (folder / _MARK).unlink(missing_ok=True)


def marked(folder: Path) -> tuple[str, ...]:
    """Return the names of files in which somebody found damage."""
    try:
        return tuple((folder / _MARK).read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return ()


def is_marked(folder: Path) -> bool:
    """Tell whether somebody found a damaged file in the folder of a model."""
    return (folder / _MARK).exists()
