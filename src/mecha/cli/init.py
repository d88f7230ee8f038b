"""`mecha init`: lay out a new project, or a new node in one."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; the working folder by default.")] = Path(),
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Lay out a node in the project DIR is in.")
    ] = None,
) -> None:
    """Lay out a project in DIR: a catalog, the camera and object-detector nodes, and their configs.

    With --node, lay out a node of your own in a project: a program, its config, and a test that passes.
    """
    if node is not None:
        _lay_out_node(folder, node)
        return
    from mecha.service.layout import lay_out

    for path in lay_out(folder):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: {_change_to(folder)}mecha models pull arena-n && mecha dev")


def _lay_out_node(folder: Path, name: str) -> None:
    from mecha.project import require_project
    from mecha.service.node_layout import lay_out_node, test_name

    project = require_project(folder, os.environ)
    for path in lay_out_node(project, name):
        typer.echo(f"wrote {path.relative_to(project.root).as_posix()}")
    typer.echo(f"next: {_change_to(Path(os.path.relpath(project.root)))}pytest tests/{test_name(name)} && mecha dev")


def _change_to(folder: Path) -> str:
    return "" if folder == Path() else f"cd {folder} && "
