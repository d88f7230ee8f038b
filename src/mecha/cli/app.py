"""The `mecha` command: its groups, each loaded only when it is used."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mecha import __version__
from mecha.cli.ending import ended
from mecha.redaction import RedactingFormatter

# Name, module that holds its Typer app, and the line `mecha --help` shows. The line stands here and not in the module
# because help must not import eight modules to print eight lines.
_COMMANDS: dict[str, tuple[str, str]] = {
    "models": ("mecha.cli.models", "Pull, list, measure and remove models."),
    "detect": ("mecha.cli.detect", "Detect objects in an image, a folder, a video or a camera."),
    "quantize": ("mecha.cli.quantize", "Make INT8 as a configuration of xquant or xslim says."),
    "dev": ("mecha.cli.dev", "Run the project's nodes, with inference timing logs."),
    "run": ("mecha.cli.run", "Run one node in this process."),
    "topic": ("mecha.cli.topic", "See what the nodes of a running project tell each other."),
    "record": ("mecha.cli.record", "Write what the nodes tell each other into a file."),
    "replay": ("mecha.cli.replay", "Send what a recording holds to the nodes that run."),
    "config": ("mecha.cli.config", "Read and change what a node runs with."),
    "init": ("mecha.cli.init", "Lay out a new project."),
    "hub": ("mecha.cli.hub", "Serve a folder as a Hub for devices on the LAN."),
    "daemon": ("mecha.cli.daemon", "Keep this device as catalog, lock and configs describe it."),
    "doctor": ("mecha.cli.doctor", "Look what is wrong with this device, and what to do about it."),
    "demo": ("mecha.cli.demo", "Show the whole path on this machine: no network, no camera."),
}


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer gives the context no public type
        """Return the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        """Import and return one command, or None when there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002
        """Write the table without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


app = typer.Typer(
    cls=LazyGroup,
    name="mecha",
    help="The model manager of an edge device: pull a detector, build INT8 on the device, measure it, run it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mecha {__version__}")
        raise typer.Exit


@app.callback()
def mecha(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show everything (also MECHA_LOG=debug).")] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Parse the options that stand before the command."""
    if verbose:
        os.environ["MECHA_LOG"] = "debug"
    debug = os.environ.get("MECHA_LOG", "").lower() == "debug"
    lines = logging.StreamHandler()
    lines.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[lines])


def main(interrupted: Callable[[], bool] = lambda: False) -> None:
    """Run the command line; every failure ends as a sentence and an exit code.

    Args:
        interrupted: tells whether Ctrl-C came.
    """
    sys.exit(ended(app, interrupted))
