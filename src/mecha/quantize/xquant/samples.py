"""The files that calibration looks at: those of a list that can be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mecha.errors import IntegrityError, NotFoundError, QuantizationError
from mecha.quantize.listing import listed_photos
from mecha.quantize.xquant.config import DEFAULT_STEPS, ConfigFile, InputParameters
from mecha.quantize.xquant.prepare import Prepare, Tensor, preparation
from mecha.quantize.xquant.reading import check_readable
from mecha.quantize.xquant.slot import Slot, input_path
from mecha.words import counted


@dataclass(frozen=True, slots=True)
class Samples:
    """Files to calibrate on.

    Attributes:
        files: those that can be read.
        skipped: how many were looked for or at before these were found, and are not there or cannot be read.
        prepare: makes a tensor of one.
    """

    files: tuple[Path, ...]
    skipped: int
    prepare: Prepare

    def __len__(self) -> int:
        return len(self.files)

    def tensors(self) -> Iterator[Tensor]:
        """Yield a tensor (1, ...) float32 of each file; the same at each call."""
        for file in self.files:
            yield self.prepare(file)


def find_samples(file: ConfigFile, entry: InputParameters, slot: Slot, root: Path) -> Samples:
    """Return the files to calibrate on, each of which was read once.

    Args:
        root: where relative paths of the configuration start; those in the list start at the list.

    Raises:
        NotFoundError: there is no such list, or no such Python file.
        ConfigError: a key does not fit the model's input.
        QuantizationError: the list names nothing, or more than half of what it names cannot be used.
    """
    if entry.data_list_path is None:
        text = "missing; expected a text file with the path of one calibration file a line"
        raise file.error(input_path(file, "data_list_path"), text)
    prepare = preparation(file, entry, slot, root)
    where = root / entry.data_list_path
    if not where.is_file():
        raise missing(file, where, entry.data_list_path, "a list of calibration files")
    listing = listed_photos(where)
    most = file.config.calibration_parameters.calibration_step or DEFAULT_STEPS
    good: list[Path] = []
    broken: list[str] = []
    for path in listing.paths:
        if len(good) == most:
            break
        try:
            check_readable(path, entry)
        except IntegrityError as error:
            broken.append(str(error))
        else:
            good.append(path)
    skipped = listing.missing + len(broken)
    if len(broken) > len(good) or skipped > listing.named - skipped:
        looked_at = counted(len(broken) + len(good), "file")
        absent = f" and {listing.missing} more that are not there" if listing.missing else ""
        raise QuantizationError(
            f"{where}: got {len(broken)} of {looked_at} that cannot be read{absent}; "
            f"expected at most half of the list; the first: {broken[0]}"
        )
    return Samples(tuple(good), skipped, prepare)


def missing(file: ConfigFile, path: Path, named: str, what: str) -> NotFoundError:
    """Return the error for a file that a configuration names and that is not there.

    Args:
        path: where it was looked for; named: what the configuration says.
    """
    folder = Path(file.where).parent
    beside = folder / named
    hint = "Relative paths start where the command runs."
    if beside.is_file() and beside != path:
        hint = (
            f"Relative paths start where the command runs; it is there from {folder}: run the command in that folder."
        )
    return NotFoundError(f"{path}: no such file; expected {what}", hint=hint)
