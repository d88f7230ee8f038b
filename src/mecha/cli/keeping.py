"""`mecha daemon run`, `status` and `stop`."""

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from mecha.cli.context import echo_json, required_project, required_root
from mecha.cli.daemon import app
from mecha.errors import BusyError, NodeError, NotFoundError

_STOP_PATIENCE_S = 15.0
_POLL_S = 0.05
_LEAVE_S = 0.5

Environment = Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")]


@app.command()
def run(
    socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="Answer there, and not in the run-time folder.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Answer there too, those who show the token.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="F", help="Holds the token, mode 0600 (or MECHA_TOKEN).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="F", help="Certificate for --listen.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="F", help="Its key, mode 0600.")] = None,
    environment: Environment = None,
) -> None:
    """Keep this project as its catalog, lock and configs describe it, until SIGTERM or Ctrl-C; SIGHUP reloads."""
    import logging

    from mecha.daemon.access import Access, known_hosts
    from mecha.daemon.app import daemon_app
    from mecha.daemon.daemon import Daemon
    from mecha.daemon.network import network
    from mecha.daemon.notify import Notifier, is_journal, journal_line
    from mecha.daemon.server import LogToDaemon, serve, tcp_listener, unix_listener
    from mecha.daemon.service_unit import require_no_service

    project = required_project(environment)
    require_no_service(project, os.environ)
    net = network(listen, token_file, tls_cert, tls_key, os.environ)
    journal = is_journal(sys.stdout.fileno(), os.environ)

    def write(line: str) -> None:
        typer.echo(journal_line(line) if journal else line)

    daemon = Daemon(project, os.environ, on_line=write)
    daemon.start()
    logging.basicConfig(level=logging.WARNING, handlers=[LogToDaemon(daemon)], force=True)
    try:
        with ExitStack() as held:
            listeners = [held.enter_context(unix_listener(socket or daemon.place.socket))]
            access = Access(hosts=known_hosts("", os.environ))
            if net is not None:
                listeners.append(held.enter_context(tcp_listener(net.address, net.tls)))
                access = net.access(lambda sentence: daemon.log("WARNING", sentence))
                daemon.log("INFO", f"answers at {net.url(listeners[-1].opened.getsockname())}, who shows the token")
                if net.warning:
                    daemon.log("WARNING", net.warning)
            daemon.place.note((socket or daemon.place.socket).absolute())
            serve(daemon, access.guard(daemon_app(daemon)), listeners, Notifier(os.environ))
    finally:
        daemon.stop()
    # A request that waits for a library to return holds up nobody.
    sys.stdout.flush()
    end = threading.Timer(_LEAVE_S, os._exit, args=(0,))
    end.daemon = True
    end.start()


@app.command()
def status(
    environment: Environment = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for programs.")] = False,
) -> None:
    """Tell what the daemon of this project does; exit code 4 where none runs."""
    from mecha.daemon.asking import asked_status
    from mecha.daemon.place import DaemonPlace

    root = required_root(environment)
    told = asked_status(DaemonPlace.of_running(root, os.environ))
    if as_json:
        echo_json(told or {"schema": 1, "running": False, "project": str(root)})
        raise typer.Exit(0 if told else NotFoundError.exit_code)
    if told is None:
        raise _none_runs(root)
    for line in status_lines(told):
        typer.echo(line)


@app.command()
def stop(environment: Environment = None) -> None:
    """Stop the daemon of this project, and wait until it has ended."""
    from mecha.daemon.place import DaemonPlace

    root = required_root(environment)
    place = DaemonPlace.of_running(root, os.environ)
    pid = place.pid
    if pid is None:
        raise _none_runs(root)
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise BusyError(
            f"process {pid} keeps {root} and belongs to another user: it cannot be stopped from here",
            hint="A service is stopped by `sudo systemctl stop`, with the name of its unit.",
        ) from error
    except ProcessLookupError:
        return
    deadline_s = time.monotonic() + _STOP_PATIENCE_S
    while place.pid == pid:
        if time.monotonic() > deadline_s:
            raise NodeError(
                f"process {pid} has not ended after {_STOP_PATIENCE_S:g} s", hint=f"`kill -9 {pid}` ends it at once."
            )
        time.sleep(_POLL_S)
    typer.echo(f"process {pid} has ended")


def status_lines(told: dict[str, Any]) -> list[str]:
    """Return what people read of a status."""
    lines = [
        f"{'ready' if told['ready'] else 'not ready'}, process {told['pid']}, up {_duration(told['uptime_s'])}, "
        f"mecha {told['version']}, {told['project']}"
    ]
    if not told["ready"]:
        lines.append(f"  why: {told['why']}")
    for what, key in (("file", "catalog_fault"), ("mirror", "mirror_fault")):
        lines += [f"  {what}: {line}" for line in told[key].splitlines()]
    if told["models"]:
        lines.append(f"{'MODEL':<24}{'STATE':<12}{'RUN BY':<24}")
    for model in told["models"]:
        nodes = ", ".join(model["wanted_by"]) or "-"
        lines.append(f"{model['name']:<24}{model['state']:<12}{nodes:<24}{_doing(model)}".rstrip())
    if told["nodes"]:
        lines.append(f"{'NODE':<24}{'STATE':<12}{'FRAMES':>10}{'DROPPED':>10}{'RESTARTS':>10}{'P95':>12}  PRECISION")
    for node in told["nodes"]:
        lines.append(_node_line(node))
    return lines


def _doing(model: dict[str, Any]) -> str:
    stage = model["stage"]
    if stage and model["total"]:
        stage += f" {100 * model['completed'] // model['total']} %"
    again = f"tried again at {model['retry_at']}" if model["retry_at"] else ""
    return "; ".join(part for part in (model["reason"], stage, again) if part)


def _node_line(node: dict[str, Any]) -> str:
    stats = node["stats"] or {}
    p95_ms = stats.get("p95_ms")
    line = (
        f"{node['name']:<24}{node['state']:<12}{stats.get('frames', 0):>10}{stats.get('dropped', 0):>10}"
        f"{node['restarts']:>10}{'-' if p95_ms is None else f'{p95_ms:.1f} ms':>12}  {stats.get('precision') or '-'}"
    )
    return f"{line}  {node['reason']}".rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _none_runs(root: Path) -> NotFoundError:
    return NotFoundError(
        f"no daemon runs in {root}",
        hint="`mecha daemon run` starts one here, `mecha daemon install` one that starts with the system.",
    )
