"""`mecha init`: lay out a new project."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; the working folder by default.")] = Path(),
) -> None:
    """Lay out a project in DIR: a catalog, the camera and object-detector nodes, and their configs."""
    from mecha.service.layout import lay_out

    for path in lay_out(folder):
        typer.echo(f"wrote {path}")
    where = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"next: {where}mecha models pull arena-n && mecha dev")
