"""What INT8 is calibrated on: what an entry names, or nothing, which means the built-in scenes."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mecha.catalog.schema import CalibrationConfig
from mecha.errors import ConfigError
from mecha.progress import Progress
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.job import SCENES_SEED

DEFAULT_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where calibration frames come from, and a digest that changes when they may have changed.

    Attributes:
        paths: photos, folders of photos or a video; empty for built-in scenes.
        origin: where they came from, in words; empty for built-in scenes.
        samples: frames to take.
    """

    paths: tuple[Path, ...]
    origin: str
    samples: int
    digest: str


def known_calibration(config: CalibrationConfig | None, root: Path, fetcher: Fetcher) -> Calibration | None:
    """Return the calibration where it can be told without the network and without opening a photo, else None."""
    if config is None:
        return Calibration((), "", DEFAULT_SAMPLES, f"scenes {SCENES_SEED} {DEFAULT_SAMPLES}")
    if config.repo is None:
        return _on_disk(config, root)
    known = [fetcher.known(_wanted(config, file)) for file in config.files]
    digests = [item.sha256 for item in known if item is not None]
    return _of_repo(config, (), digests) if len(digests) == len(config.files) else None


def resolve_calibration(
    config: CalibrationConfig | None, root: Path, fetcher: Fetcher, progress: Progress
) -> Calibration:
    """Bring what calibration needs to this device.

    Args:
        config: the entry's [models.quantize.calibration], None for the built-in scenes.
        root: folder that relative paths start from.

    Raises:
        NotFoundError: a list or its repo does not exist.
        NetworkError: as the Hub, for a repo of photos.
    """
    if config is None or config.repo is None:
        known = known_calibration(config, root, fetcher)
        if known is not None:
            return known
        raise ConfigError("calibration: names no source; expected path, list or repo")
    fetched = [fetcher.fetch(_wanted(config, file), progress) for file in config.files]
    return _of_repo(config, tuple(item.path for item in fetched), [item.locked.sha256 for item in fetched])


def _wanted(config: CalibrationConfig, file: str) -> Wanted:
    return Wanted(repo=str(config.repo), filename=file, repo_type=config.repo_type)


def _of_repo(config: CalibrationConfig, paths: tuple[Path, ...], digests: list[str]) -> Calibration:
    digest = sha256(" ".join(digests).encode()).hexdigest()
    return Calibration(paths, f"repo {config.repo}", config.samples, f"files {config.samples} {digest}")


def _on_disk(config: CalibrationConfig, root: Path) -> Calibration:
    if config.data is not None:
        raise ConfigError(
            f"calibration data {config.data}: dataset files cannot be read yet; expected path, list or repo",
            hint="name the folder of photos with `path`, or a text file of photos with `list`",
        )
    if config.list is not None:
        from mecha.quantize.frames import listed_photos

        paths, origin = listed_photos(root / config.list), f"list {config.list}"
    else:
        paths, origin = (root / str(config.path),), str(config.path)
    return Calibration(paths, origin, config.samples, f"files {config.samples} {_state_of(paths)}")


def _state_of(paths: tuple[Path, ...]) -> str:
    """Digest names, sizes and times of files: to read gigabytes of photos and find them unchanged takes minutes."""
    state = sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                stat = file.stat()
                state.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return state.hexdigest()
