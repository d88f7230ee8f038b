"""The digest of all that an INT8 build depends on."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mecha.graph.cpu import cpu_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

# Raised whenever the same arguments would give another INT8 file.
RECIPE = 7


def build_key(
    fp32_sha256: str,
    method: str,
    options: "Mapping[str, object] | DataclassInstance | None",
    calibration_digest: str,
) -> str:
    """Return the key of an INT8 build, sha256 in lower-case hex: equal keys mean that a build need not be made again.

    Besides its arguments it holds the version of onnxruntime, what the CPU offers and the version of the recipe.

    Args:
        fp32_sha256: of the FP32 file.
        method: "dynamic_int8", "static_int8" or "auto".
        options: what else was asked for; anything JSON can hold, or a dataclass of that.
        calibration_digest: of the calibration frames, empty where none are used.
    """
    parts = {
        "fp32": fp32_sha256,
        "method": method,
        "options": asdict(options) if is_dataclass(options) and not isinstance(options, type) else dict(options or {}),  # type: ignore[arg-type]  # a Mapping in the other case
        "calibration": calibration_digest,
        "onnxruntime": _version("onnxruntime"),
        "cpu": cpu_features().key(),
        "recipe": RECIPE,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
