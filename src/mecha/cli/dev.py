"""`mecha dev`: the project's nodes, until Ctrl-C."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import required_project
from mecha.cli.run_output import RunOutput
from mecha.errors import UsageError
from mecha.words import seconds

if TYPE_CHECKING:
    from mecha.project import Project
    from mecha.runtime.dev import DevOptions, DevSummary

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_LAST_LINES = 10


@app.command()
def dev(
    nodes: Annotated[
        list[str] | None, typer.Argument(metavar="[NODE]...", help="Nodes to run; all by default.")
    ] = None,
    environment: Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Stop after 30s, 5m, 1h; never by default.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="S", help="What the camera shows, in place of its config.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Write log lines on a terminal too.")] = False,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="KIND@AT[:FOR]",
            help="Let something go wrong: camera-drop, node-crash, node-hang, slow-inference, bad-config or disk-full, "
            "as in camera-drop@5s:3s; with ,node=NAME in another node. Can be given several times.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines for programs; the log to stderr.")] = False,
) -> None:
    """Run nodes with inference timing logs; a changed config.json is followed while they run.

    On a terminal it shows a screen with keys, `?` tells which; elsewhere it writes the log line by line.
    """
    from mecha.cli.screen.terminal import can_show
    from mecha.daemon.service_unit import require_no_service
    from mecha.runtime.dev import DevOptions
    from mecha.runtime.fault_log import fault_lines
    from mecha.runtime.faults import Fault

    options = DevOptions(
        duration_s=parse_duration(duration) if duration else None,
        source=source,
        verbose=os.environ.get("MECHA_LOG", "").lower() == "debug",
        faults=tuple(Fault.parsed(request) for request in faults or ()),
    )
    project, names = required_project(environment), tuple(nodes or ())
    require_no_service(project, os.environ)
    output = RunOutput(lines_to_stderr=as_json)
    if not (plain or as_json) and can_show(os.environ):
        summary = _on_screen(project, names, options, output)
    else:
        summary = _in_lines(project, names, options, output, as_json=as_json)
    told = summary.to_json()
    if as_json:
        output.event(told)
    else:
        for line in (*summary_lines(told["nodes"]), *fault_lines(told["faults"])):
            output.line(line)
    if summary.failure:
        typer.echo(f"error: {summary.failure}", err=True)
    raise typer.Exit(summary.exit_code)


def _in_lines(
    project: "Project", names: tuple[str, ...], options: "DevOptions", output: RunOutput, *, as_json: bool
) -> "DevSummary":
    from mecha.runtime.dev import run_dev

    return run_dev(
        project,
        names,
        options,
        on_line=output.line,
        on_event=output.event if as_json else lambda event: None,  # noqa: ARG005 - people read lines
        on_begin=lambda supervisor, bus: output.stops(supervisor.stop),  # noqa: ARG005 - lines command nothing
    )


def _on_screen(project: "Project", names: tuple[str, ...], options: "DevOptions", output: RunOutput) -> "DevSummary":
    from mecha.cli.screen.live import LiveScreen
    from mecha.runtime.dev import run_dev

    screen = LiveScreen(project, options.duration_s, os.environ, output.line)
    with screen.shown():
        summary = run_dev(project, names, options, screen.line, screen.event, on_begin=screen.begin)
    if summary.failure:
        # The screen is gone, and with it what it said of why.
        for line in screen.last_lines(_LAST_LINES):
            output.line(line)
    return summary


def summary_lines(nodes: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines that a run ends with."""
    lines = [f"{'NODE':<20}{'FRAMES':>8}{'DROPPED':>9}{'RESTARTS':>10}{'P50':>10}{'P95':>10}{'MEMORY':>10}"]
    for name, stats in nodes.items():
        times = "".join(f"{'-':>10}" if value is None else f"{value:>7.1f} ms" for value in _times(stats))
        memory = "-" if stats["rss_mb"] is None else f"{stats['rss_mb']:.0f} MB"
        lines.append(f"{name:<20}{stats['frames']:>8}{stats['dropped']:>9}{stats['restarts']:>10}{times}{memory:>10}")
    return lines


def _times(stats: dict[str, Any]) -> tuple[float | None, float | None]:
    return stats["p50_ms"], stats["p95_ms"]


def parse_duration(text: str) -> float:
    """Return seconds of "30s", "5m", "1h" or "30".

    Raises:
        UsageError: it is no duration.
    """
    duration_s = seconds(text)
    if not duration_s:
        raise UsageError(f'--duration: got "{text}"; expected a time such as 30s, 5m or 1h')
    return duration_s
