"""What a project asks for, read from its files: its nodes, and the model that each of them runs."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from mecha.catalog.catalog import load_catalog
from mecha.errors import ConfigError, MechaError
from mecha.project import CATALOG_NAME, Project, find_project
from mecha.runtime.config import CONFIG_VARIABLE, NodeConfig, load_config, read_layers
from mecha.runtime.dev import require_known_settings
from mecha.runtime.program import PROGRAM_NAME, node_names
from mecha.service.pinning import project_lock
from mecha.store.published import INT8_FILE, MANIFEST_FILE, MODEL_FILE

SETTINGS, CATALOG, LOCK, NODES = "settings", "catalog", "mecha.lock", "nodes"
"""Names of what may have a fault; a node's config is called by the node."""


class _ModelOf(NodeConfig):
    """What is read of any config.json; what else it says is the node's own business."""

    model_config = ConfigDict(extra="ignore")

    model: Any = None
    model_path: Any = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What was read last, or before it where that has a fault now.

    Attributes:
        project: with the settings.
        catalog: names of all models that a catalog has; None where none could be read yet.
        models: the model of each node, None for a node without one. The keys are all nodes.
        faults: what cannot be used, by what it is; see `SETTINGS`.
    """

    project: Project
    catalog: frozenset[str] | None
    models: Mapping[str, str | None]
    faults: Mapping[str, str]

    def wanted_by(self, model: str) -> tuple[str, ...]:
        """Return the nodes that run a model, sorted."""
        return tuple(sorted(node for node, name in self.models.items() if name == model))

    @property
    def wanted(self) -> tuple[str, ...]:
        """The models that nodes run, sorted."""
        return tuple(sorted({name for name in self.models.values() if name is not None}))


def read_needs(project: Project, environ: Mapping[str, str], before: Needs | None = None) -> Needs:
    """Read what a project asks for now.

    Args:
        project: it is read again, with its settings.
        environ: as in `find_project`.
        before: stands in for what has a fault.
    """
    faults: dict[str, str] = {}
    try:
        project = _read_again(project, environ)
    except MechaError as error:
        faults[SETTINGS] = _sentence(error)
    catalog = before.catalog if before is not None else None
    try:
        if not (project.catalog_file.is_file() or project.user_level):
            raise ConfigError(f"{CATALOG_NAME}: no such file any more; expected the catalog of this project")
        catalog = frozenset(entry.name for entry in load_catalog(project).entries)
    except MechaError as error:
        faults[CATALOG] = _sentence(error)
    try:
        project_lock(project).entries()
    except MechaError as error:
        faults[LOCK] = _sentence(error)
    models: dict[str, str | None] = {}
    try:
        nodes = node_names(project.nodes_dir)
    except OSError as error:
        faults[NODES] = f"{project.nodes_dir}: cannot be read: {(error.strerror or str(error)).lower()}"
        nodes = tuple(before.models) if before is not None else ()
    for node in nodes:
        try:
            models[node] = model_of(project, node)
        except MechaError as error:
            faults[node] = _sentence(error)
            models[node] = before.models.get(node) if before is not None else None
    return Needs(project, catalog, models, faults)


def model_of(project: Project, node: str) -> str | None:
    """Return the name of the model that the config of a node asks for, None where it asks for none by name.

    Raises:
        ConfigError: its config cannot be read.
    """
    files = project.node_config_files(node)
    config = load_config(_ModelOf, read_layers(files, project.root, {CONFIG_VARIABLE: ""}))
    said = config.model_path or config.model or _default_model(project.nodes_dir / node / PROGRAM_NAME)
    if not isinstance(said, str) or not said:
        return None
    path = project.root / said
    folder = path.parent if path.name in {MODEL_FILE, INT8_FILE} else path
    if folder.parent == project.models_dir:
        return folder.name
    return None if "/" in said or config.model_path else said


def _default_model(program: Path) -> str | None:
    """Return what a node's class of its config has for `model` where no file says it; the program is only read."""
    try:
        classes = [one for one in ast.parse(program.read_bytes()).body if isinstance(one, ast.ClassDef)]
    except (OSError, SyntaxError, ValueError):
        return None
    for one in classes:
        if not any(ast.unparse(base).rpartition(".")[2] == NodeConfig.__name__ for base in one.bases):
            continue
        for line in one.body:
            if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "model" and line.value is not None:
                value = line.value.args[0] if isinstance(line.value, ast.Call) and line.value.args else line.value
                return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def read_files(needs: Needs) -> tuple[Path, ...]:
    """Return the files of people that a project's needs are read from, existing or not."""
    project = needs.project
    catalogs = (project.catalog_file, project.user_root / CATALOG_NAME)
    signatures = tuple(file.with_name(f"{file.name}.minisig") for file in catalogs)
    try:
        nodes = node_names(project.nodes_dir)
    except OSError:
        nodes = tuple(needs.models)
    configs = tuple(file for node in nodes for file in project.node_config_files(node))
    return (*catalogs, *signatures, project.settings_file, *configs)


def written_files(needs: Needs) -> tuple[Path, ...]:
    """Return the files that pulls write too: mecha.lock, and the manifests of the models that are needed."""
    project = needs.project
    return (project.lock_file, *(project.models_dir / name / MANIFEST_FILE for name in needs.wanted))


def _read_again(project: Project, environ: Mapping[str, str]) -> Project:
    if not (project.catalog_file.is_file() or project.user_level):
        # Without it another project would be found, above this one.
        return project
    found = find_project(project.root, environ, project.environment)
    require_known_settings(found)
    return found


def _sentence(error: MechaError) -> str:
    return f"{error}\n{error.hint}" if error.hint else str(error)
