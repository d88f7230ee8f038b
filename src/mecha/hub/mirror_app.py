"""The mirror as a web application: the Hub's read API over a folder, for the unmodified huggingface_hub client."""

import asyncio
import codecs
import hmac
import logging
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mecha.errors import DiskError
from mecha.hub import mirror_api
from mecha.hub.mirror_answers import ReadableQueries, client_left, refusal
from mecha.hub.mirror_files import ServedFile, ServedFolder, Snapshot, is_repo_name
from mecha.hub.mirror_ranges import Slice, select

if TYPE_CHECKING:
    from mecha.hub.gateway import Gateway
    from mecha.hub.source import RepoType

log = logging.getLogger(__name__)

_CHUNK_BYTES = 256 * 1024
# Room for thousands of paths. Taking one apart must not keep the others waiting.
_FORM_BYTES = 256 * 1024
_BODY_S = 30.0
# The Hub's cursors are texts of its own, and a gateway hands them on.
_CURSOR_LETTERS = 1000
_OWN_CURSOR = re.compile(r"[0-9]{1,9}")

RepoTypes = Literal["models", "datasets"]


def mirror_app(served: ServedFolder, *, token: str | None, gateway: "Gateway | None" = None) -> FastAPI:
    """Return the application that serves a folder.

    Args:
        token: every request must carry it as a Bearer; None for no such demand.
        gateway: asked for what the folder lacks.
    """
    _load_what_answers_need(gateway)
    # No OpenAPI pages: they would be the only part of a private mirror that answers without the token.
    app = FastAPI(title="mecha mirror", openapi_url=None, docs_url=None, redoc_url=None)
    router = APIRouter(dependencies=[Depends(_authorization(token))])
    _add_info_routes(router, served, gateway, private=token is not None)
    _add_tree_routes(router, served, gateway)
    _add_file_routes(router, served, gateway)
    app.include_router(router)
    app.add_exception_handler(HTTPException, _error_response)
    app.add_exception_handler(DiskError, _unread_response)
    app.add_middleware(ReadableQueries)
    return app


def _load_what_answers_need(gateway: "Gateway | None") -> None:
    """Load now what would else be loaded by the first request: there may be no file left to load it with then."""
    for codec in ("utf-8-sig", "idna"):  # of cards, and of the names of upstreams
        codecs.lookup(codec)
    # The loop's part that hands work to threads; in a thread, since this one may have a loop of its own.
    loading = threading.Thread(target=lambda: asyncio.run(run_in_threadpool(int)))
    loading.start()
    loading.join()
    if gateway is not None:
        import mecha.hub.gateway_app  # noqa: F401


def _authorization(token: str | None) -> Callable[[Request], None]:
    """The Hub answers 401 in two ways, and its client tells them apart by these headers."""

    def authorize(request: Request) -> None:
        if token is None:
            return
        sent = request.headers.get("authorization")
        if sent is None:
            raise refusal(401, "RepoNotFound", "Invalid username or password.")
        if not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            raise refusal(401, None, "Invalid credentials in Authorization header")

    return authorize


def _add_info_routes(router: APIRouter, served: ServedFolder, gateway: "Gateway | None", *, private: bool) -> None:
    @router.get("/api/{kind}/{owner}/{name}")
    @router.get("/api/{kind}/{owner}/{name}/revision/{revision:path}")
    def info(
        request: Request, kind: RepoTypes, owner: str, name: str, revision: str = "main", *, blobs: bool = False
    ) -> Response:
        try:
            snapshot = _snapshot(served, kind, owner, name, revision)
        except HTTPException:
            if gateway is None:
                raise
            return _told(request, gateway, (kind, owner, name), ("revision", revision), revision)
        return JSONResponse(mirror_api.repo_info(snapshot, blobs=blobs, private=private))


def _add_tree_routes(router: APIRouter, served: ServedFolder, gateway: "Gateway | None") -> None:
    @router.get("/api/{kind}/{owner}/{name}/tree/{revision}")
    @router.get("/api/{kind}/{owner}/{name}/tree/{revision}/{path:path}")
    def tree(
        request: Request,
        kind: RepoTypes,
        owner: str,
        name: str,
        revision: str,
        path: str = "",
        *,
        recursive: bool = False,
        expand: bool = False,
        limit: int = mirror_api.PAGE_ENTRIES,
        cursor: Annotated[str, Query(max_length=_CURSOR_LETTERS)] = "0",
    ) -> Response:
        try:
            snapshot = _snapshot(served, kind, owner, name, revision)
        except HTTPException:
            if gateway is None:
                raise
            rest = ("tree", revision, *path.strip("/").split("/")) if path.strip("/") else ("tree", revision)
            return _told(request, gateway, (kind, owner, name), rest, revision)
        if _OWN_CURSOR.fullmatch(cursor) is None:
            raise refusal(400, None, "cursor: expected that of a page of this mirror")
        page = mirror_api.tree_page(
            snapshot, path.strip("/"), recursive=recursive, expand=expand, limit=limit, cursor=int(cursor)
        )
        if page is None:
            raise refusal(404, "EntryNotFound", f"{path} does not exist on {revision!r}")
        headers = {}
        if page.next_cursor is not None:
            headers["Link"] = f'<{request.url.include_query_params(cursor=page.next_cursor)}>; rel="next"'
        return JSONResponse(list(page.entries), headers=headers)

    @router.post("/api/{kind}/{owner}/{name}/paths-info/{revision}")
    async def paths_info(request: Request, kind: RepoTypes, owner: str, name: str, revision: str) -> Response:
        body = await _bounded_body(request)
        try:
            snapshot = await run_in_threadpool(_snapshot, served, kind, owner, name, revision)
        except HTTPException:
            if gateway is None:
                raise
            rest = ("paths-info", revision)
            return await run_in_threadpool(_told, request, gateway, (kind, owner, name), rest, revision, body)
        return await run_in_threadpool(_paths_response, snapshot, body)


def _add_file_routes(router: APIRouter, served: ServedFolder, gateway: "Gateway | None") -> None:
    def resolve(request: Request, kind: RepoTypes, owner: str, name: str, revision: str, path: str) -> Response:
        try:
            return own(request, kind, owner, name, revision, path)
        except HTTPException as error:
            if gateway is None or error.status_code != HTTPStatus.NOT_FOUND:
                raise
            from mecha.hub.gateway_app import file_response

            _require_names(owner, name, path)
            return file_response(request, gateway, _repo_type(kind), f"{owner}/{name}", revision, path)

    def own(request: Request, kind: RepoTypes, owner: str, name: str, revision: str, path: str) -> Response:
        snapshot = _snapshot(served, kind, owner, name, revision)
        file = snapshot.find(path)
        if file is None:
            commit = {"X-Repo-Commit": snapshot.commit}
            raise refusal(404, "EntryNotFound", f"{path} does not exist on {revision!r}", commit)
        return _file_response(request, snapshot, file)

    @router.api_route("/datasets/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    def dataset_file(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        return resolve(request, "datasets", owner, name, revision, path)

    @router.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    def model_file(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        return resolve(request, "models", owner, name, revision, path)


def _require_names(owner: str, name: str, path: str) -> None:
    """Refuse what no repo or file is called, before an upstream hears of it."""
    if not is_repo_name(owner, name):
        raise refusal(404, "RepoNotFound", "Repository not found")
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise refusal(404, "EntryNotFound", f"{path} does not exist")


def _told(
    request: Request,
    gateway: "Gateway",
    repo: tuple[RepoTypes, str, str],
    rest: tuple[str, ...],
    revision: str,
    body: bytes | None = None,
) -> Response:
    """Answer with what the upstream says of a repo."""
    from mecha.hub.gateway import api_path
    from mecha.hub.gateway_app import json_response

    kind, owner, name = repo
    _require_names(owner, name, "/".join(rest))
    return json_response(request, gateway, api_path(kind, owner, name, rest, request.url.query), revision, body)


def _repo_type(kind: RepoTypes) -> "RepoType":
    return "model" if kind == "models" else "dataset"


def _snapshot(served: ServedFolder, kind: RepoTypes, owner: str, name: str, revision: str) -> Snapshot:
    snapshot = served.snapshot(_repo_type(kind), f"{owner}/{name}")
    if snapshot is None:
        raise refusal(404, "RepoNotFound", "Repository not found")
    if not snapshot.has_revision(revision):
        raise refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return snapshot


def _file_response(request: Request, snapshot: Snapshot, file: ServedFile) -> Response:
    headers = {
        "ETag": f'"{file.sha256}"',
        "X-Repo-Commit": snapshot.commit,
        "X-Linked-Etag": f'"{file.sha256}"',
        "X-Linked-Size": str(file.size_bytes),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rpartition('/')[2], safe='')}",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    part = select(request.headers, etag=file.sha256, total=file.size_bytes, method=request.method)
    if part.content_range is not None:
        headers["Content-Range"] = part.content_range
    if part.status == HTTPStatus.NOT_MODIFIED:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(part.length)
    if request.method == "HEAD" or part.length == 0:
        return Response(status_code=part.status, headers=headers)
    opened = file.open()
    if opened is None:
        raise refusal(503, None, f"{file.path} is being replaced", {"Retry-After": "1"})
    return _FileResponse(opened, part, headers)


class _FileResponse(Response):
    """Sends a part of an open file in chunks, stops when the client leaves, and closes the file."""

    def __init__(self, file: BinaryIO, part: Slice, headers: dict[str, str]) -> None:
        super().__init__(status_code=part.status, headers=headers)
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # the ASGI signature
        left = asyncio.create_task(client_left(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            remaining = self._part.length
            await run_in_threadpool(self._file.seek, self._part.start)
            while remaining and not left.done():
                chunk = await run_in_threadpool(self._file.read, min(_CHUNK_BYTES, remaining))
                if not chunk:
                    # Truncated while it was being sent: the server closes the connection, and the client sees that
                    # the answer is shorter than its Content-Length.
                    break
                remaining -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": remaining > 0})
        finally:
            left.cancel()
            self._file.close()


def _paths_response(snapshot: Snapshot, body: bytes) -> Response:
    form = parse_qs(body.decode(errors="replace"))
    expand = form.get("expand", ["false"])[0].lower() == "true"
    return JSONResponse(mirror_api.paths_info(snapshot, form.get("paths", []), expand=expand))


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _FORM_BYTES:
                    raise refusal(413, None, f"The body is longer than {_FORM_BYTES} bytes")
    except TimeoutError as error:
        late = f"The body had not come after {_BODY_S:g} s"
        raise refusal(408, None, late, {"Connection": "close"}) from error
    except ClientDisconnect as error:
        # Nobody reads it.
        raise refusal(400, None, "The body broke off") from error
    return bytes(body)


def _error_response(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _unread_response(_request: Request, error: Exception) -> Response:
    """Ask the client to come again: what is said about a folder that could not be read would be wrong."""
    log.warning("%s", error)
    refused = refusal(503, None, "The files of this mirror cannot be read now", {"Retry-After": "5"})
    return JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)
