"""What is asked for: the catalog's entry with the options of one pull laid over it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mecha.catalog.schema import Method, ModelCatalogEntry, QuantizeConfig
from mecha.errors import UsageError
from mecha.quantize.key import build_key
from mecha.service.fetch import Wanted
from mecha.store.manifest import ChosenCalibration
from mecha.store.published import PublishedModel

METHODS = get_args(Method)
# INT8 is about 0.27 of FP32; the rest is room for the candidates that are not chosen.
_INT8_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How a pull differs from the plain one.

    Attributes:
        force: ask the Hub again what the revision means, and build INT8 again.
        method: INT8 method in place of the catalog's.
        limit_bytes_per_s: ceiling of the transfer rate.
        int8_only: build INT8 again from the FP32 that is there.
        calibration: what INT8 is calibrated on; "catalog" for what the catalog names, None for what was chosen for the
            build that is published, else what the catalog names.
        staged: where the frames of a chosen calibration lie until the build is right and they take their place.
        frozen: bring nothing that mecha.lock does not name, and never write it.
        update: another version is brought in the place of the one that is published, when it has passed its gate.
        imported: a model of a bundle, its path the folder of its INT8 build; that is published in the place of a build
            where it is what would be built here.
    """

    force: bool = False
    revision: str | None = None
    offline: bool = False
    quantize: bool = True
    method: str | None = None
    limit_bytes_per_s: int | None = None
    int8_only: bool = False
    calibration: ChosenCalibration | Literal["catalog"] | None = None
    staged: Path | None = None
    frozen: bool = False
    update: bool = False
    imported: PublishedModel | None = None


def wanted_int8(entry: ModelCatalogEntry, options: PullOptions) -> QuantizeConfig | None:
    """Return how INT8 is to be made, None when none is wanted."""
    config = entry.quantize
    if options.method is not None:
        config = config.model_copy(update={"method": options.method, "enabled": True})
    return config if config.enabled and options.quantize else None


def int8_key(entry: ModelCatalogEntry, fp32_sha256: str, quantize: QuantizeConfig, calibration_digest: str) -> str:
    """Return the digest of all that an INT8 build of an entry depends on."""
    options = quantize.model_dump(exclude={"enabled", "method", "calibration"})
    options["input_size"] = entry.input_size
    options["family"] = entry.family
    return build_key(fp32_sha256, quantize.method, options, calibration_digest)


def wanted_file(entry: ModelCatalogEntry, options: PullOptions, root: Path) -> Wanted:
    """Return the FP32 file that is wanted.

    Args:
        root: of the project; a file in it is known by its path from there, so that mecha.lock holds on every device.

    Raises:
        UsageError: a revision of a file on this device.
    """
    if entry.path is not None:
        return _wanted_here(entry, Path(entry.path), options, root)
    # A revision asked for by hand is not the one that the catalog pins by digest.
    pinned = options.revision is None
    return Wanted(
        repo=entry.repo,
        filename=entry.filename,
        revision=options.revision or entry.revision or "main",
        sha256=entry.sha256 if pinned else None,
        size_bytes=entry.size_bytes if pinned else None,
        extra_share=_INT8_SHARE if wanted_int8(entry, options) else 0.0,
    )


def _wanted_here(entry: ModelCatalogEntry, file: Path, options: PullOptions, root: Path) -> Wanted:
    if options.revision is not None:
        raise UsageError(
            f"--revision: got {options.revision}; {entry.name} is the file {file} on this device, which has none"
        )
    return Wanted(
        repo="",
        filename=file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix(),
        revision="",
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
        extra_share=_INT8_SHARE if wanted_int8(entry, options) else 0.0,
        file=file,
    )


def parse_rate(text: str) -> int:
    """Return bytes per second of "500k", "2M" or "1.5M" (powers of 1024).

    Raises:
        UsageError: it is no rate.
    """
    units = {"k": 1024, "m": 1024**2, "g": 1024**3}
    number, unit = (text[:-1], units.get(text[-1:].lower(), 0)) if text[-1:].isalpha() else (text, 1)
    try:
        rate = float(number) * unit
    except ValueError:
        rate = 0.0
    if not 1 <= rate < float("inf"):
        raise UsageError(f'--limit-rate: got "{text}"; expected bytes per second such as 500k or 2M')
    return int(rate)


def parse_method(text: str) -> str:
    """Return an INT8 method.

    Raises:
        UsageError: it is none.
    """
    if text not in METHODS:
        raise UsageError(f'--method: got "{text}"; expected {", ".join(METHODS[:-1])} or {METHODS[-1]}')
    return text
