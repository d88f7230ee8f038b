"""Laying out a project: the catalog, nodes and configs that ship with mecha, in a folder of the user's."""

import shutil
from pathlib import Path

from mecha.errors import DiskError, UsageError
from mecha.project import bundled_dir

# calibration/ holds what the cameras of one device saw, people perhaps, and belongs to that device.
_GITIGNORE = "models/\ncalibration/\n__pycache__/\n"
_CATALOG = """# The models of this project. Entries here win over those that ship with mecha.
# `mecha models list` shows all.
# An entry looks like this; docs/catalog.md explains every key.
#
# [[models]]
# name = "my-detector"
# description = "What it finds"
# task = "object-detection"
# repo = "owner/name"
# filename = "model.onnx"
# preprocessing_preset = "yolo"
#
# [models.quantize]
# enabled = true
# method = "static_int8"
"""


def lay_out(folder: Path) -> tuple[Path, ...]:
    """Write a project into a folder and return what was written; files that are there stay as they are.

    Raises:
        UsageError: there is a project already.
        DiskError: the folder cannot be written.
    """
    catalog = folder / "model_catalog.toml"
    if catalog.exists():
        raise UsageError(f"{folder}: is a project already, it holds model_catalog.toml", hint="name another folder")
    written: list[Path] = []
    try:
        for part in ("nodes", "configs"):
            for source in sorted((bundled_dir() / part).rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    target = folder / part / source.relative_to(bundled_dir() / part)
                    written += _copy(source, target)
        written += _write(folder / ".gitignore", _GITIGNORE)
        # The catalog makes the folder a project, so it comes last: a folder that was cut off half-way is none.
        written += _write(catalog, _CATALOG)
    except OSError as error:
        raise DiskError(
            f"{error.filename or folder}: {error.strerror}", hint="name a folder you may write to"
        ) from error
    return tuple(written)


def _copy(source: Path, target: Path) -> list[Path]:
    if target.exists():
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return [target]


def _write(target: Path, text: str) -> list[Path]:
    if target.exists():
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return [target]
