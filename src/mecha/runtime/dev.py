"""`mecha dev`: all nodes of a project together, until somebody or something ends it."""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecha.errors import INTERRUPTED_EXIT_CODE, NotFoundError
from mecha.faults import KeyFault
from mecha.project import NodeSettings, Project
from mecha.runtime.bus import Bus
from mecha.runtime.bus.place import BUS_VARIABLE, BusPlace
from mecha.runtime.code_watch import CodeWatch
from mecha.runtime.config import CONFIG_VARIABLE
from mecha.runtime.events import SEEN_VARIABLE, SUPERVISED_VARIABLE
from mecha.runtime.fault_log import FaultLog, FaultRecord
from mecha.runtime.faults import BEGAN_VARIABLE, FAULTS_VARIABLE, Fault, fault_environ, require_nodes
from mecha.runtime.lifeline import STOP_DEADLINE_S
from mecha.runtime.program import node_names, require_node
from mecha.runtime.run import LOG_VARIABLE
from mecha.runtime.signals import signals_to
from mecha.runtime.supervisor import Supervisor
from mecha.runtime.timing import NodeStats
from mecha.validation import config_error, read_text, toml_line_of
from mecha.words import did_you_mean

SOURCE_NODE = "camera"
"""The node whose source `--source` names."""
CODE_CHANGED = "its code changed"
"""Why a node is started again, in its state."""


@dataclass(frozen=True, slots=True)
class DevOptions:
    """How to run.

    Attributes:
        duration_s: end after so many seconds with all nodes ready; None for no end.
        source: what the camera shows instead of what its config says; a path is relative to the working directory.
        verbose: every line of the log, as with MECHA_LOG=debug.
        stop_deadline_s: how long a node may take to end before it is killed.
        faults: what is to go wrong, see `mecha.runtime.injection`.
    """

    duration_s: float | None = None
    source: str | None = None
    verbose: bool = False
    stop_deadline_s: float = STOP_DEADLINE_S
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class DevSummary:
    """How it went.

    Attributes:
        nodes: by name.
        failure: why it ended, when a node failed for good; empty otherwise.
        exit_code: 0, the one of the node that failed for good, or 130.
        faults: what came of those that were asked for.
    """

    nodes: Mapping[str, NodeStats]
    failure: str = ""
    exit_code: int = 0
    faults: tuple[FaultRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the last line of `mecha dev --json`."""
        return {
            "event": "summary",
            "nodes": {
                name: {
                    "frames": stats.frames,
                    "dropped": stats.dropped,
                    "restarts": stats.restarts,
                    "state": stats.state,
                    "p50_ms": stats.p50_ms,
                    "p95_ms": stats.p95_ms,
                    "rss_mb": stats.rss_mb,
                }
                for name, stats in self.nodes.items()
            },
            "faults": [record.to_json() for record in self.faults],
        }


def run_dev(
    project: Project,
    nodes: Sequence[str],
    options: DevOptions,
    on_line: Callable[[str], None],
    on_event: Callable[[dict[str, Any]], None],
    *,
    on_begin: Callable[[Supervisor, Bus], None] = lambda supervisor, bus: None,  # noqa: ARG005 - nobody asks
    environ: Mapping[str, str] = os.environ,
) -> DevSummary:
    """Run nodes until a source has come to its end, the time is over, a node fails for good, or a signal comes.

    SIGINT, SIGTERM and SIGHUP end it in order while it runs in the main thread; a second one ends it at once.

    Args:
        nodes: their names; none means all of the project.
        on_line: gets each line of the log, prefixed. Called in this thread, as is on_event.
        on_event: gets the events, as `mecha dev --json` writes them.
        on_begin: called once before the nodes are started, with what commands them while they run.

    Raises:
        NotFoundError: the project has no such node, or none at all.
        UsageError: a fault is asked for a node that does not run.
        ConfigError: the settings name a node that is not there.
        BusyError: the project runs already.
        NetworkError: an endpoint of the settings cannot be used.
        DiskError: the run-time folder cannot be made.
    """
    names = _required_nodes(project, nodes)
    require_known_settings(project)
    require_nodes(options.faults, names)
    faults = FaultLog(options.faults)

    def take(event: dict[str, Any]) -> None:
        faults.take(event)
        on_event(event)

    place = BusPlace(project.root, environ)
    with place.hosted(project.settings.bus) as (bus, endpoint):
        environs = {name: node_environ(project, name, endpoint, options, environ) for name in names}
        supervisor = Supervisor(
            project.root,
            environs,
            on_line=on_line,
            on_event=take,
            on_exit=place.forget,
            settings=project.settings.nodes,
            duration_s=options.duration_s,
            stop_deadline_s=options.stop_deadline_s,
        )
        on_begin(supervisor, bus)
        code = CodeWatch(
            project,
            environs,
            on_proven=lambda name: supervisor.restart(name, CODE_CHANGED),
            on_fault=lambda name, fault: supervisor.say(name, "ERROR", fault),
            deadline_s=lambda name: project.settings.nodes.get(name, NodeSettings()).ready_s,
        )
        with signals_to(supervisor.stop) as came, code:
            outcome = supervisor.run()
    exit_code = outcome.exit_code or (INTERRUPTED_EXIT_CODE if signal.SIGINT in came else 0)
    return DevSummary(outcome.nodes, outcome.failure, exit_code, faults.records)


def _required_nodes(project: Project, nodes: Sequence[str]) -> tuple[str, ...]:
    if nodes:
        for name in nodes:
            require_node(project.nodes_dir, name)
        return tuple(dict.fromkeys(nodes))
    names = node_names(project.nodes_dir)
    if not names:
        raise NotFoundError(
            f"no nodes here: {project.nodes_dir} has no folder with a node.py",
            hint="`mecha init` lays out a project with nodes.",
        )
    return names


def require_known_settings(project: Project) -> None:
    """Refuse settings of nodes that are not there: they would do nothing.

    Raises:
        ConfigError: with each of them, and its line.
    """
    known = node_names(project.nodes_dir)
    unknown = [name for name in project.settings.nodes if name not in known]
    if not unknown:
        return
    file = project.settings_file
    where = file.relative_to(project.root).as_posix()
    line_of = toml_line_of(read_text(file, where=where))
    faults = [
        KeyFault(("nodes", name), line_of(("nodes", name)), f"no such node{did_you_mean(name, known)}")
        for name in unknown
    ]
    raise config_error(where, faults)


def node_environ(
    project: Project, node: str, endpoint: str, options: DevOptions, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the process of a node that this process supervises.

    Args:
        endpoint: of the bus.
        environ: of this process.
    """
    own = {
        name: value
        for name, value in environ.items()
        if name
        not in {"MECHA_ENV", CONFIG_VARIABLE, SEEN_VARIABLE, SUPERVISED_VARIABLE, FAULTS_VARIABLE, BEGAN_VARIABLE}
    }
    own.update(fault_environ(options.faults, node))
    own[BUS_VARIABLE] = endpoint
    own[SUPERVISED_VARIABLE] = str(os.getpid())
    if project.environment is not None:
        own["MECHA_ENV"] = project.environment
    if options.verbose:
        own[LOG_VARIABLE] = "debug"
    if options.source is not None and node == SOURCE_NODE:
        own[CONFIG_VARIABLE] = json.dumps({"source": _absolute(options.source)})
    return own


def _absolute(source: str) -> str:
    """Return a source as it must be named from another working directory."""
    path = Path(source)
    return str(path.absolute()) if path.exists() or "*" in source else source
