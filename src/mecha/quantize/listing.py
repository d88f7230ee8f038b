"""Photos that a text file names, one a line."""

from dataclasses import dataclass
from pathlib import Path

from mecha.errors import QuantizationError
from mecha.quantize.photos import bytes_of


@dataclass(frozen=True, slots=True)
class Listing:
    """Photos, or folders of them, that a file names.

    Attributes:
        paths: those that are there, in the order of the file.
        named: how many the file names.
        first_missing: the first that is not there and where it is named, `calib.txt:3: images/a.jpg`; empty for none.
    """

    paths: tuple[Path, ...]
    named: int
    first_missing: str = ""

    @property
    def missing(self) -> int:
        """How many are not there."""
        return self.named - len(self.paths)

    def joined(self, other: "Listing") -> "Listing":
        """Return both as one."""
        return Listing(self.paths + other.paths, self.named + other.named, self.first_missing or other.first_missing)


def listed_photos(file: Path, *other_roots: Path) -> Listing:
    """Return the photos that a text file names; empty lines and those that begin with # are passed over.

    Args:
        file: its paths are relative to its own folder.
        other_roots: folders that a path is looked for in where its own folder does not have it.

    Raises:
        NotFoundError: there is no such file.
        DiskError: it cannot be read.
        QuantizationError: it is no text, names nothing, or more than half of what it names is not there.
    """
    try:
        lines = bytes_of(file, what="a list of photos").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise QuantizationError(f"{file}: got bytes that are no text; expected one path of a photo a line") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    named = [(number, name) for number, name in named if name and not name.startswith("#")]
    if not named:
        raise QuantizationError(f"{file}: got no line that names a photo; expected one path a line")
    roots = (file.parent, *other_roots)
    found: list[Path] = []
    first_missing = ""
    for number, name in named:
        path = next((root / name for root in roots if is_there(root / name) and (root / name).is_file()), None)
        if path is not None:
            found.append(path)
        elif not first_missing:
            first_missing = f"{file}:{number}: {name}"
    listing = Listing(tuple(found), len(named), first_missing)
    require_most(listing, str(file))
    return listing


def is_there(path: Path) -> bool:
    """Tell whether there is anything; a text that cannot be a path, because it is too long, names nothing."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def require_most(listing: Listing, where: str) -> None:
    """Refuse a list of which more than half is missing: calibrated on the rest, it would not be what was asked for.

    Raises:
        QuantizationError: it is so.
    """
    if listing.missing > listing.named - listing.missing:
        raise QuantizationError(
            f"{where}: got {listing.missing} of {listing.named} photos that are not there, the first at "
            f"{listing.first_missing}; expected at most half",
            hint="Paths are relative to the folder of the list that names them.",
        )
