"""What INT8 is calibrated on: what an entry names, or nothing, which means the built-in scenes."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.catalog.schema import CalibrationConfig
from mecha.errors import ConfigError, NotFoundError, QuantizationError, UsageError
from mecha.progress import Progress
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.job import SCENES_SEED
from mecha.store.manifest import ChosenCalibration
from mecha.words import encodable

if TYPE_CHECKING:
    from mecha.quantize.listing import Listing

DEFAULT_SAMPLES = 32
# In the project: frames gathered for a model, in a folder of its name.
GATHERED_FOLDER = "calibration"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where calibration frames come from, and a digest that changes when they may have changed.

    Attributes:
        paths: photos, folders of photos or a video; empty for built-in scenes.
        origin: where they came from, in words; empty where they need none.
        samples: frames to take.
    """

    paths: tuple[Path, ...]
    origin: str
    samples: int
    digest: str


_SCENES = Calibration((), "", DEFAULT_SAMPLES, f"scenes {SCENES_SEED} {DEFAULT_SAMPLES}")


def known_calibration(config: CalibrationConfig | None, root: Path, fetcher: Fetcher) -> Calibration | None:
    """Return the calibration where it can be told without the network and without opening a photo, else None."""
    if config is None:
        return _SCENES
    if config.repo is None:
        try:
            return calibration_on_disk(config, root)
        except (ConfigError, NotFoundError, QuantizationError):
            # A pull that has to build says what is wrong with it; one that has nothing to build needs no photo.
            return None
    known = [fetcher.known(_wanted(config, file)) for file in config.files]
    digests = [item.sha256 for item in known if item is not None]
    return _of_repo(config, (), digests) if len(digests) == len(config.files) else None


def resolve_calibration(
    config: CalibrationConfig | None, root: Path, fetcher: Fetcher, progress: Progress
) -> Calibration:
    """Bring what calibration needs to this device.

    Args:
        config: the entry's [models.quantize.calibration], None for the built-in scenes.
        root: the project's folder: relative paths start from it.

    Raises:
        MechaError: as `calibration_on_disk`.
        NetworkError: as the Hub, for a repo of photos.
    """
    if config is None:
        return _SCENES
    if config.repo is None:
        return calibration_on_disk(config, root)
    fetched = [fetcher.fetch(_wanted(config, file), progress) for file in config.files]
    return _of_repo(config, tuple(item.path for item in fetched), [item.locked.sha256 for item in fetched])


def _wanted(config: CalibrationConfig, file: str) -> Wanted:
    return Wanted(repo=str(config.repo), filename=file, repo_type=config.repo_type)


def _of_repo(config: CalibrationConfig, paths: tuple[Path, ...], digests: list[str]) -> Calibration:
    digest = sha256(" ".join(digests).encode()).hexdigest()
    return Calibration(paths, f"repo {config.repo}", config.samples, f"files {config.samples} {digest}")


def calibration_on_disk(config: CalibrationConfig, root: Path) -> Calibration:
    """Return a calibration whose frames lie on this device.

    Args:
        config: names a path, a list or a dataset file.
        root: the project's folder: relative paths start from it.

    Raises:
        NotFoundError: what it names is not there.
        ConfigError: a dataset file has faults, or names photos that are not there.
        QuantizationError: a list names nothing, or more than half of its photos are not there.
        DiskError: something cannot be read.
    """
    paths, origin = _named(config, root)
    return Calibration(paths, origin, config.samples, f"files {config.samples} {_state_of(paths)}")


def chosen_calibration(chosen: ChosenCalibration, root: Path, *, staged: Path | None = None) -> Calibration:
    """Return the calibration that a user chose.

    Args:
        root: the project's folder.
        staged: where the frames of its source lie now.

    Raises:
        MechaError: as `calibration_on_disk`.
    """
    if staged is not None:
        found = calibration_on_disk(CalibrationConfig(path=str(staged), samples=chosen.samples), root)
        return replace(found, origin=f"{chosen.source}/")
    found = calibration_on_disk(chosen_config(chosen.source, chosen.samples), root)
    # A folder of the project is told by its whole path: `calibration/yolov8n` says more than `yolov8n`.
    return replace(found, origin=f"{chosen.source}/") if (root / chosen.source).is_dir() else found


def is_gathered(chosen: ChosenCalibration) -> bool:
    """Tell whether a calibration is made of frames that mecha gathered on this device."""
    return Path(chosen.source).parts[:1] == (GATHERED_FOLDER,)


def chosen_config(source: str, samples: int) -> CalibrationConfig:
    """Return what a path means by its ending: a dataset file, a list, or photos and videos.

    Raises:
        UsageError: it is no text, and so can stand in no manifest.
    """
    if encodable(source) != source:
        raise UsageError(
            f"{encodable(source)}: got a path that is no UTF-8; expected one, since a manifest names it",
            hint="Rename it; the names of photos in a folder may be any.",
        )
    suffix = Path(source).suffix.lower()
    key = "data" if suffix in (".yaml", ".yml") else "list" if suffix == ".txt" else "path"
    return CalibrationConfig.model_validate({key: source, "samples": samples})


def chosen_digest(chosen: ChosenCalibration, root: Path) -> str:
    """Return the digest of the calibration that a user chose; what it was, where the frames are gone since."""
    try:
        return chosen_calibration(chosen, root).digest
    except (ConfigError, NotFoundError, QuantizationError):
        return chosen.digest


def _named(config: CalibrationConfig, root: Path) -> tuple[tuple[Path, ...], str]:
    """Return the files and folders that a calibration names, and in words where it names them."""
    from mecha.quantize.dataset import dataset_photos
    from mecha.quantize.listing import listed_photos

    if config.data is not None:
        photos = dataset_photos(root / config.data, root)
        return photos.listing.paths, f"{photos.split} in {_short(config.data)}{_missing(photos.listing)}"
    if config.list is not None:
        listing = listed_photos(root / config.list)
        return listing.paths, f"list {_short(config.list)}{_missing(listing)}"
    path = root / str(config.path)
    # One photo and a video name themselves.
    return (path,), f"{path.name}/" if path.is_dir() else ""


def _short(path: str) -> str:
    """Name a file or folder by its last part: the catalog's paths are whole ones, and people look for a name."""
    return Path(path).name or path


def _missing(listing: "Listing") -> str:
    return f" ({listing.missing} of {listing.named} not there)" if listing.missing else ""


def _state_of(paths: tuple[Path, ...]) -> str:
    """Digest names, sizes and times of files: to read gigabytes of photos and find them unchanged takes minutes."""
    from mecha.quantize.photos import photos_at

    state = sha256()
    for path in paths:
        for file in photos_at(path):
            stat = file.stat()
            # A name need not be text.
            state.update(os.fsencode(file.name) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return state.hexdigest()
