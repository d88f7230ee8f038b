"""The page at `/`: files that a browser gets as they are, the same on every device. It asks the API for the rest."""

from functools import partial
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter
from fastapi.responses import FileResponse

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HERE = Path(__file__).parent
_FIRST = "index.html"

PAGE_FILES = MappingProxyType(
    {f"/{file.name if file.name != _FIRST else ''}": file for file in sorted(_HERE.iterdir()) if file.suffix in _TYPES}
)
"""All files of the page, by the path they are served at."""


def page_router() -> APIRouter:
    """Return the routes. They are no part of the API that /openapi.json describes."""
    router = APIRouter(include_in_schema=False)
    for path, file in PAGE_FILES.items():
        router.add_api_route(path, partial(_answer, file), methods=["GET", "HEAD"], name=file.name)
    return router


def _answer(file: Path) -> FileResponse:
    # Asked for again each time: after an update of mecha no part of the page is older than another one.
    return FileResponse(file, media_type=_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})
