"""One node as a process: `mecha run NODE`, and `python -m mecha.runtime.run`, which the supervisor starts."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mecha.errors import INTERRUPTED_EXIT_CODE, ConfigError, MechaError, NodeError
from mecha.project import Project, find_project
from mecha.runtime.bus import Bus
from mecha.runtime.bus.place import BUS_VARIABLE, BusPlace
from mecha.runtime.config import load_config, read_layers
from mecha.runtime.events import SEEN_VARIABLE, Events, configure_logging, prefixed, take_stdout
from mecha.runtime.faults import BEGAN_VARIABLE
from mecha.runtime.injection import begin_faults
from mecha.runtime.lifeline import Life
from mecha.runtime.live import LiveConfig
from mecha.runtime.loop import NodeLoop
from mecha.runtime.node import NodeContext
from mecha.runtime.program import load_node, what_failed

LOG_VARIABLE = "MECHA_LOG"
_CHECK_NICENESS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mecha.runtime.run")
    parser.add_argument("node")
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="only import it and read its config")
    parsed = parser.parse_args(arguments)
    try:
        project = find_project(parsed.project, os.environ)
    except MechaError as error:
        sys.stderr.write(f"{prefixed('ERROR', parsed.node, str(error))}\n")
        return error.exit_code
    return run_node(project, parsed.node, check=parsed.check)


def run_node(project: Project, name: str, *, check: bool = False) -> int:
    """Run a node of a project in this process, until it has finished or is to stop; returns the exit code.

    It joins the bus that MECHA_BUS names, else the one of `mecha dev` in this project, else it hosts the project's bus.
    Paths in its config are relative to the project's root, which becomes the working directory.

    Args:
        check: only see that it can be imported and takes its config.
    """
    life = Life(os.environ)
    events = Events(name, take_stdout() if life.supervisor_pid is not None else None)
    log = logging.getLogger(name)
    try:
        configure_logging(name, events, log_level(os.environ))
        life.begin()
        os.chdir(project.root)
        if check:
            _check(project, name)
            return 0
        with joined_bus(project, os.environ) as bus:
            _live(project, name, NodeContext(name, project.root, bus, events, log, life.stopping), life)
    except MechaError as error:
        log.error("%s", f"{error}\n{error.hint}" if error.hint else str(error))  # noqa: TRY400 - a sentence, no trace
        return error.exit_code
    except Exception as error:
        log.error("%s", what_failed(error))  # noqa: TRY400 - the trace follows, below the line that says what happened
        log.info("Where it happened:", exc_info=error)
        return NodeError.exit_code
    return INTERRUPTED_EXIT_CODE if life.interrupted else 0


def log_level(environ: Mapping[str, str]) -> int:
    """Return the level that MECHA_LOG names, INFO by default.

    Raises:
        ConfigError: it names none.
    """
    name = environ.get(LOG_VARIABLE) or "info"
    levels = {level.lower(): value for level, value in logging.getLevelNamesMapping().items()}
    if name.lower() not in levels:
        raise ConfigError(f'{LOG_VARIABLE}: got "{name}"; expected debug, info, warning or error')
    return levels[name.lower()]


@contextmanager
def joined_bus(project: Project, environ: Mapping[str, str]) -> Iterator[Bus]:
    """Join the bus of a project, or host it when nobody does.

    Raises:
        NetworkError: the bus that MECHA_BUS names does not answer.
    """
    place = BusPlace(project.root, environ)
    endpoint = environ.get(BUS_VARIABLE) or place.live_endpoint()
    if endpoint is None:
        with place.hosted(project.settings.bus) as (bus, _):
            yield bus
        return
    member = place.join(endpoint)
    try:
        yield member
    finally:
        member.close()


def _check(project: Project, name: str) -> None:
    """See that a node can be imported and takes its config; gives way to what runs.

    Raises:
        MechaError: it does not.
    """
    if hasattr(os, "nice"):
        os.nice(_CHECK_NICENESS)
    node_class = load_node(project.nodes_dir, name)
    load_config(node_class.config_model, read_layers(project.node_config_files(name), project.root, os.environ))


def _live(project: Project, name: str, context: NodeContext, life: Life) -> None:
    faults = begin_faults(os.environ, name, life.go, events=context.events, log=context.log)
    node_class = faults.node_class(load_node(project.nodes_dir, name))
    live = LiveConfig(
        node_class.config_model,
        project.node_config_files(name),
        project.root,
        os.environ,
        log=context.log,
        on_change=life.wake,
        on_fault=context.events.config,
    )
    from_the_first = life.supervisor_pid is not None and BEGAN_VARIABLE not in os.environ
    seen = json.loads(os.environ.get(SEEN_VARIABLE) or "{}")
    loop = NodeLoop(node_class, context, live, life.go, life.paused, from_the_first=from_the_first, seen=seen)
    life.on_wake = loop.wake
    loop.run()


if __name__ == "__main__":
    sys.exit(main())
