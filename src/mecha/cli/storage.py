"""`mecha models gc`: disk space given back."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import bytes_text, echo_json, model_service
from mecha.cli.models import AsJson, app

if TYPE_CHECKING:
    from mecha.service.collection import Collected, Collection

_HEADINGS = ("", "KIND", "NAME", "SIZE", "LAST USED", "WHY")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nothing on this device uses from the cache, and what was left behind."""
    found = model_service().collect(dry_run=dry_run)
    if as_json:
        echo_json({"schema": 1, **asdict(found)})
        return
    if found.items:
        table = [_HEADINGS, *(_cells(item, found) for item in found.items)]
        widths = [max(len(line[column]) for line in table) for column in range(len(_HEADINGS))]
        for line in table:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo(_summary(found))


def _cells(item: "Collected", found: "Collection") -> tuple[str, ...]:
    goes = "would go" if found.dry_run else "removed"
    return (
        goes if item.goes else "stays",
        item.kind,
        item.name,
        bytes_text(item.size_bytes),
        item.last_used[:10],
        item.reason,
    )


def _summary(found: "Collection") -> str:
    freed = f"{'would free' if found.dry_run else 'freed'} {bytes_text(found.freed_bytes)}"
    quota = "no quota" if found.quota_bytes is None else f"quota {bytes_text(found.quota_bytes)}"
    return f"{freed}; the cache {found.cache} takes {bytes_text(found.cache_bytes)} ({quota})"
