"""Whether the files of a project can be used: catalog, lock, node configs, models."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mecha.catalog.catalog import Catalog, load_catalog
from mecha.doctor.child import run_child
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.errors import MechaError
from mecha.project import Project
from mecha.service.pinning import project_lock
from mecha.store.models import ModelStore
from mecha.store.published import BrokenModel
from mecha.words import counted, did_you_mean

CHECK = "project"
TIMEOUT_S = 60.0

_KEPT = "A daemon that runs goes on with what it read before; what starts now has nothing to go by."
_NO_NODE = "The node does not start."


@dataclass(frozen=True, slots=True)
class NodeConfigs:
    """What the nodes of a project run with.

    Attributes:
        read: by node; those with faults are left out.
        faults: what is wrong.
    """

    read: dict[str, dict[str, Any]]
    faults: tuple[Finding, ...] = ()


def read_configs(project: Project, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> NodeConfigs:
    """Read the configs of all nodes, as the nodes themselves check them, in a process of its own."""
    command = [sys.executable, "-m", "mecha.doctor.config_child", str(project.root)]
    command += [project.environment] if project.environment else []
    try:
        done = run_child(command, environ, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        fault = wrong(
            CHECK,
            f"the nodes were not imported in {timeout_s:g} s",
            _NO_NODE,
            "If nothing else takes the CPU: a node.py does too much when it is imported; move that into `setup`.",
        )
        return NodeConfigs({}, (fault,))
    told = list(_told(done.stdout))
    read = {line["node"]: line["config"] for line in told if "config" in line}
    faults = [
        wrong(CHECK, line["fault"], _NO_NODE, line["hint"] or "Correct the line that it names.")
        for line in told
        if "fault" in line
    ]
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        faults.append(wrong(CHECK, f"the code of a node broke off: {last[0]}", _NO_NODE, "Correct its node.py."))
    return NodeConfigs(read, tuple(faults))


def _told(stdout: str) -> Iterator[dict[str, Any]]:
    """Give the objects that a child wrote; what the code of a node prints is none of them."""
    for line in stdout.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and {"node"} < value.keys() <= {"node", "config", "fault", "hint"}:
            yield value


def project_findings(project: Project, configs: NodeConfigs) -> Iterator[Finding]:
    """Give what is wrong with the files of a project.

    Args:
        configs: what its nodes run with.
    """
    catalog = None
    faults: list[Finding] = []
    try:
        catalog = load_catalog(project)
    except MechaError as error:
        faults.append(wrong(CHECK, str(error), _KEPT, error.hint or "Correct the line that it names."))
    try:
        locked = len(project_lock(project).entries())
    except MechaError as error:
        locked = 0
        faults.append(wrong(CHECK, str(error), _KEPT, error.hint or "Restore mecha.lock from version control."))
    faults += configs.faults
    yield from faults
    if not faults and catalog is not None:
        where = "the user's own project" if project.user_level else str(project.root)
        models, nodes = counted(len(catalog.entries), "model"), counted(len(configs.read), "node")
        yield ok(CHECK, f"{where}: {models} in the catalog, {counted(locked, 'file')} locked, {nodes}")
    yield from _models(project, configs, catalog)


def _models(project: Project, configs: NodeConfigs, catalog: Catalog | None) -> Iterator[Finding]:
    """Give what is wrong with the models that nodes run, and with those that are published."""
    store = ModelStore(project.models_dir)
    try:
        published = {model.name: model for model in store.all()}
    except MechaError as error:
        yield wrong("models", str(error), "No model can be found.", error.hint or "See whose folder it is.")
        return
    for model in published.values():
        if isinstance(model, BrokenModel):
            yield wrong(
                "models",
                f"{model.name} cannot be used: {model.reason}",
                "A node that wants it does not start.",
                "Use the newer mecha that wrote it." if model.newer else f"`mecha models pull {model.name}`",
            )
    known = () if catalog is None else tuple(entry.name for entry in catalog.entries)
    for node, config in configs.read.items():
        model_name = config.get("model")
        # What has a slash or an ending is a file.
        if not isinstance(model_name, str) or model_name in published or "/" in model_name or ".onnx" in model_name:
            continue
        if model_name in known:
            yield note(
                "models",
                f"{node} wants {model_name}, which is not pulled",
                "`mecha dev` ends with 4 until it is; a daemon pulls it by itself.",
                f"`mecha models pull {model_name}`",
            )
        elif catalog is not None:
            yield wrong(
                "models",
                f"{node} wants {model_name}, which no catalog has{did_you_mean(model_name, known)}",
                "The node does not start.",
                f'Correct "model": `mecha config set {node} model NAME`; `mecha models list` shows the names.',
            )
