"""What every command starts from: the project, the service, and how results are written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mecha.redaction import redacted

if TYPE_CHECKING:
    from mecha.daemon.client import DaemonModels
    from mecha.project import Project
    from mecha.service.models import ModelService


def current_project(environment: str | None = None) -> "Project":
    """Return the project the working folder is in, else the user-level one."""
    from mecha.project import find_project

    return find_project(Path.cwd(), os.environ, environment)


def required_project(environment: str | None = None) -> "Project":
    """Return the project the working folder is in.

    Raises:
        NotFoundError: it is in none.
    """
    from mecha.project import require_project

    return require_project(Path.cwd(), os.environ, environment)


def required_root(environment: str | None = None) -> Path:
    """Return the root of the project the working folder is in; its settings are not read.

    Raises:
        NotFoundError: it is in none.
    """
    from mecha.project import require_root

    return require_root(Path.cwd(), os.environ, environment)


def model_service(*, offline: bool = False) -> "ModelService":
    """Return the service of the current project; `offline` keeps all that it does off the network."""
    from mecha.service.models import ModelService

    environ = {**os.environ, "HF_HUB_OFFLINE": "1"} if offline else os.environ
    return ModelService(current_project(), environ)


def project_models() -> "DaemonModels":
    """Return the models of the current project, by the way of its daemon where one runs."""
    from mecha.daemon.client import DaemonModels

    return DaemonModels(current_project(), os.environ, model_service)


def echo_json(value: Mapping[str, Any]) -> None:
    """Write one JSON document on one line."""
    typer.echo(redacted(json.dumps(value)))


def bytes_text(count: int | None) -> str:
    """Return a size for people, decimal units as file managers use: "12.8 MB", "-" for None."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - decimal units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun: "1 frame", "3 frames"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
