"""What the projects of this device use of the cache: why a download or a build is not to go."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from mecha.errors import MechaError
from mecha.store.cached import Kind, item_of
from mecha.store.lockfile import LockFile
from mecha.store.manifest import Manifest
from mecha.store.published import MANIFEST_FILE, MODEL_FILE


def uses_of(projects: Iterable[Path]) -> Mapping[str, str]:
    """Return why each item of the cache that a project uses is to stay, by `Cached.item`.

    A broken manifest or an unreadable config hides nothing of the other models and projects.
    """
    found: dict[str, str] = {}
    for project in projects:
        configured = dict(_configured(project))
        for model, item in _published(project):
            node = configured.get(model)
            why = f"used by the node {node} of {project}" if node else f"published as {model} in {project}"
            found.setdefault(item, why)
        for digest in _pinned(project):
            found.setdefault(item_of("download", digest), f"pinned in {project / 'mecha.lock'}")
    return found


def unreadable_pins(projects: Iterable[Path]) -> tuple[Path, ...]:
    """Return the mecha.lock files that cannot be read: nobody knows what they pin."""
    broken = []
    for project in projects:
        try:
            _lock_file(project).entries()
        except (MechaError, OSError, UnicodeDecodeError):
            broken.append(project / "mecha.lock")
    return tuple(broken)


def _pinned(project: Path) -> tuple[str, ...]:
    try:
        return tuple(item.sha256 for item in _lock_file(project).entries())
    except (MechaError, OSError, UnicodeDecodeError):
        return ()


def _lock_file(project: Path) -> LockFile:
    return LockFile(project / "mecha.lock", guard=project / "models" / ".mecha.lock.guard")


def _published(project: Path) -> Iterator[tuple[str, str]]:
    """Give the items of every model, those that are kept to go back to included."""
    for folder in _folders(project / "models"):
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        items: list[tuple[Kind, str]] = [("build", manifest.int8.key)] if manifest.int8.key else []
        record = manifest.files.get(MODEL_FILE)
        if record is not None:
            items.append(("download", record.sha256))
        yield from ((manifest.name, item_of(kind, key)) for kind, key in items)


def _configured(project: Path) -> Iterator[tuple[str, str]]:
    """Give each model that a node's config names, with the node."""
    for environment in _folders(project / "configs"):
        for node in _folders(environment / "nodes"):
            with suppress(OSError, ValueError):
                config = json.loads((node / "config.json").read_bytes())
                model = config.get("model") if isinstance(config, dict) else None
                if isinstance(model, str):
                    yield model, node.name


def _folders(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(entry for entry in folder.iterdir() if entry.is_dir()))
    except OSError:
        return ()
