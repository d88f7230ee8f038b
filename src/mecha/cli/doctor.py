"""`mecha doctor`: what is wrong with this device, and what to do about it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import echo_json
from mecha.redaction import redacted

if TYPE_CHECKING:
    from mecha.doctor.finding import Finding

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
_INDENT = " " * 22


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server.")] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whose permissions matter; the service's, else your own."),
    ] = None,
    environment: Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")] = None,
) -> None:
    """Look at onnxruntime, CPU, limits, disks, clock, network, cameras and the daemon; exit code 3 if one is wrong."""
    from mecha.doctor.examination import Asked, examined
    from mecha.doctor.finding import exit_code

    found: list[Finding] = []
    for finding in examined(Asked(Path.cwd(), os.environ, environment, user, offline)):
        found.append(finding)
        if not as_json:
            typer.echo(redacted("\n".join(finding_lines(finding))))
    wrong = sum(finding.level == "wrong" for finding in found)
    if as_json:
        echo_json({"schema": 1, "wrong": wrong, "findings": [finding.to_json() for finding in found]})
    else:
        typer.echo(_summary(wrong))
    raise typer.Exit(exit_code(found))


def finding_lines(finding: "Finding") -> list[str]:
    """Return how a finding reads on a terminal."""
    first, *more = finding.what.splitlines()
    lines = [f"{_MARKS[finding.level]:<6}{finding.check:<16}{first}", *(f"{_INDENT}{line}" for line in more)]
    if finding.level != "ok" and finding.why:
        lines.append(f"{_INDENT}why   {finding.why}")
    if finding.remedy:
        lines.append(f"{_INDENT}next  {finding.remedy}")
    return lines


def _summary(wrong: int) -> str:
    if not wrong:
        return "nothing has to be changed"
    return "1 thing has to be changed" if wrong == 1 else f"{wrong} things have to be changed"
