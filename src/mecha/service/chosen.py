"""Calibration that a user chooses: photos named by hand, or frames gathered for one model in `calibration/<name>/`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import UsageError
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.calibration import (
    DEFAULT_SAMPLES,
    GATHERED_FOLDER,
    calibration_on_disk,
    chosen_calibration,
    chosen_config,
)
from mecha.store.atomic import discard, make_dir, sweep, unfinished_path
from mecha.store.manifest import ChosenCalibration

if TYPE_CHECKING:
    from mecha.quantize.gathering import Live

_MOST_FRAMES = 4096
# Of what was gathered the gate gets the rest.
_CALIBRATED_SHARE = 0.75


def chosen_source(source: Path, samples: int | None, entry: ModelCatalogEntry, project: Project) -> ChosenCalibration:
    """Return what a user named to calibrate on, once it is known that it is there.

    Args:
        source: a folder, a photo, a video, a list (.txt) or a dataset file (.yaml).
        samples: frames to take; None for as many as the entry says.

    Raises:
        UsageError: the number of samples is none.
        MechaError: as `chosen_calibration`.
    """
    if samples is None:
        configured = entry.quantize.calibration
        samples = configured.samples if configured else DEFAULT_SAMPLES
    chosen = ChosenCalibration(source=_from_root(source, project.root), samples=parse_count(samples, "--samples"))
    chosen_calibration(chosen, project.root)
    return chosen


@dataclass(frozen=True, slots=True)
class Gathered:
    """Frames that lie in a folder of their own until INT8 was built from them, and what they are then."""

    folder: Path
    chosen: ChosenCalibration


@contextmanager
def gathered(source: "Live | Path", name: str, frames: int, project: Project, progress: Progress) -> Iterator[Gathered]:
    """Gather frames for a model. Unless they are put in their place, nothing is left of them at the end.

    Args:
        source: a camera, or what `chosen_source` takes.
        name: of the model.
        frames: at most so many.

    Raises:
        UsageError: the number of frames is none.
        MechaError: as `gather`.
    """
    from mecha.quantize.gathering import gather, whole_frames_at

    parse_count(frames, "--frames")
    if isinstance(source, Path):
        config = chosen_config(str(source.expanduser().absolute()), frames)
        found = whole_frames_at(calibration_on_disk(config, project.root).paths, frames)
    folder = project.root / GATHERED_FOLDER / name
    make_dir(folder.parent)
    sweep(folder.parent)
    staged = unfinished_path(folder, "staging")
    try:
        count = gather(found if isinstance(source, Path) else source, staged, frames, progress)
        yield Gathered(staged, _of_gathered(name, count))
    finally:
        discard(staged)


def gathered_before(name: str, root: Path) -> ChosenCalibration | None:
    """Return what frames that were gathered for a model are to calibration, None where there are none.

    Args:
        root: the project's folder.
    """
    from mecha.quantize.photos import photos_at

    folder = root / GATHERED_FOLDER / name
    count = len(photos_at(folder)) if folder.is_dir() else 0
    return _of_gathered(name, count) if count else None


def parse_count(count: int, option: str) -> int:
    """Return a number of frames.

    Raises:
        UsageError: it is none.
    """
    if not 1 <= count <= _MOST_FRAMES:
        raise UsageError(f"{option}: got {count}; expected a whole number from 1 to {_MOST_FRAMES}")
    return count


def _of_gathered(name: str, count: int) -> ChosenCalibration:
    samples = max(1, round(count * _CALIBRATED_SHARE))
    return ChosenCalibration(source=f"{GATHERED_FOLDER}/{name}", samples=samples)


def _from_root(source: Path, root: Path) -> str:
    """Return the path from the project's root, so that a project may be moved; the whole one of what lies elsewhere."""
    whole = source.expanduser().absolute()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.as_posix()
