"""`mecha models report`: what INT8 changed in a model, as it was measured after the build."""

import sys
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import model_service
from mecha.cli.models import AsJson, Name, app
from mecha.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from mecha.store.models import ModelStore


@app.command(name="report")
def show_report(
    name: Name,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page, with pictures, in a browser.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Write the page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what INT8 changed in a model: error by tensor, time by block, what stayed float and why."""
    from mecha.service.build_report import REPORT_DATA, REPORT_PAGE, read_report
    from mecha.store.published import REPORT_FILE

    if open_page + as_html + as_json > 1:
        raise UsageError("--open, --html and --json: got more than one; expected one of them at most")
    store = model_service().store
    if open_page:
        _open(store, name)
    elif as_html or as_json:
        typer.echo(read_report(store, name, REPORT_PAGE if as_html else REPORT_DATA), nl=False)
    else:
        text = read_report(store, name, REPORT_FILE)
        if sys.stdout.isatty():
            _render(text, str(store.require(name).path / REPORT_FILE))
        else:
            typer.echo(text, nl=False)


def _open(store: "ModelStore", name: str) -> None:
    from mecha.service.build_report import REPORT_PAGE, read_report

    read_report(store, name, REPORT_PAGE)
    page = (store.require(name).path / REPORT_PAGE).absolute()
    if not webbrowser.open(page.as_uri()):
        raise NotFoundError(
            "no browser was found on this device",
            hint=f"Copy {page} to one that has a browser: it is a single file.",
        )
    typer.echo(str(page))


def _render(text: str, file: str) -> None:
    """Write a report to the terminal, without the long table at its end."""
    from rich.console import Console
    from rich.markdown import Markdown

    from mecha.quantize.report.markdown import ALL_TENSORS

    shown, _, all_tensors = text.partition(ALL_TENSORS)
    Console().print(Markdown(shown))
    if all_tensors:
        typer.echo(f"\nEvery tensor is in {file}.")
