"""`mecha daemon`: what keeps a device in the state that its catalog, lock and configs describe."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Keep this device as catalog, lock and configs describe it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Name = Annotated[
    str, typer.Option("--name", metavar="UNIT", help="Name of the unit, and of its folders in /var and /run.")
]


@app.callback()
def daemon() -> None:
    """Keep this device as catalog, lock and configs describe it."""


@app.command()
def install(
    name: Name = "mecha",
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Who runs it; made where there is no such user.")
    ] = "mecha",
    environment: Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Answer there too, those who show the token.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="F", help="Certificate for --listen.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="F", help="Its key; NAME must own it.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Start it with the system, and not now.")] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Write the unit to standard output, and do nothing.")] = (
        False
    ),
) -> None:
    """Let systemd run the daemon of this project from now on; again after an update of mecha or a move."""
    from mecha.cli.context import required_project
    from mecha.daemon.service_unit import Host, planned
    from mecha.daemon.service_unit import install as install_unit
    from mecha.daemon.unit_text import unit_text

    host = Host()
    project = required_project(environment)
    plan = planned(project, name=name, user=user, listen=listen, tls=(tls_cert, tls_key), host=host)
    if only_print:
        typer.echo(unit_text(plan), nl=False)
        return
    install_unit(plan, host, start=not no_start, say=typer.echo)


@app.command()
def uninstall(name: Name = "mecha") -> None:
    """Stop the daemon of this project, and remove its unit; models, user and settings stay."""
    from mecha.cli.context import required_root
    from mecha.daemon.service_unit import Host
    from mecha.daemon.service_unit import uninstall as uninstall_unit

    uninstall_unit(name, required_root(), Host(), say=typer.echo)


# Its commands register themselves.
import mecha.cli.keeping  # noqa: E402, F401
