"""`mecha config get|set`: what a node runs with."""

import json
import os
from typing import Annotated

import typer

from mecha.cli.context import required_project
from mecha.redaction import redacted

app = typer.Typer(
    help="Read and change what a node runs with.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)

Node = Annotated[str, typer.Argument(metavar="NODE", help="Name of a folder in nodes/.")]
Environment = Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")]


@app.command()
def get(
    node: Node,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="One key, dotted for tables in tables.")] = None,
    environment: Environment = None,
) -> None:
    """Print what NODE runs with, all layers together, or the value of one KEY; JSON in both cases.

    It is for programs: passwords of addresses are in it as the files have them.
    """
    from mecha.runtime.settle import effective_config, value_at

    config = effective_config(required_project(environment), node, os.environ)
    value = value_at(config, key) if key else config.model_dump(mode="json")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command(name="set")
def set_key(
    node: Node,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key, dotted for tables in tables.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON (true, 0.3, null); other text is a string.")],
    environment: Environment = None,
) -> None:
    """Write one value; a node that runs follows within two seconds. Nothing is written that NODE would refuse."""
    from mecha.runtime.settle import set_value
    from mecha.runtime.sources.address import without_password

    project = required_project(environment)
    file = set_value(project, node, key, value, os.environ)
    typer.echo(f"{file.relative_to(project.root)}: {key} = {redacted(without_password(value))}")
