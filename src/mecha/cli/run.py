"""`mecha run`: one node in this process."""

from typing import Annotated

import typer

from mecha.cli.context import required_project

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def run(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of a folder in nodes/.")],
    environment: Annotated[str | None, typer.Option("--env", metavar="E", help="Environment laid over common.")] = None,
) -> None:
    """Run NODE until it ends or is stopped; it joins the bus that MECHA_BUS names."""
    from mecha.runtime.run import run_node

    raise typer.Exit(run_node(required_project(environment), node))
