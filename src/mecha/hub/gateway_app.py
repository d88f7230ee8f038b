"""What a gateway answers: a file while it is on its way, and the upstream's failures as statuses with a sentence."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import quote

import httpx2
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from huggingface_hub import errors as hub
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mecha.errors import DiskError, MechaError, NotFoundError
from mecha.hub.gateway import Flight, Gateway
from mecha.hub.gateway_store import Entry, Stored
from mecha.hub.mirror_answers import client_left, refusal
from mecha.hub.mirror_ranges import Slice, select
from mecha.hub.source import RepoType

_CHUNK_BYTES = 256 * 1024
_POLL_S = 0.02


def file_response(
    request: Request, gateway: Gateway, repo_type: RepoType, repo: str, revision: str, path: str
) -> Response:
    """Answer a request for a file that the folder lacks.

    Raises:
        HTTPException: the upstream has no such file, or cannot be asked.
    """
    try:
        entry = gateway.entry(repo_type, repo, revision, path)
        if request.method == "HEAD" and entry.size_bytes is not None:
            part = select(request.headers, etag=entry.etag, total=entry.size_bytes, method="HEAD")
            return Response(status_code=part.status, headers=_headers(entry, part))
        flight = gateway.flight(entry)
    except MechaError as error:
        raise upstream_refusal(error) from error
    return _FlyingResponse(request, flight, entry)


def json_response(request: Request, gateway: Gateway, path: str, revision: str, body: bytes | None = None) -> Response:
    """Answer a question about a repo that the folder lacks. Raises as `file_response`."""
    try:
        stored = gateway.answer(path, revision=revision, body=body)
    except MechaError as error:
        raise upstream_refusal(error) from error
    return Response(stored.body, media_type="application/json", headers=_link(request, gateway, stored))


def upstream_refusal(error: MechaError) -> HTTPException:
    """Return what to answer when the upstream does not give what is asked for."""
    causes = tuple(_causes(error))
    said = f"the upstream of this gateway: {error}"
    if isinstance(error, NotFoundError):
        return refusal(404, _missing(causes, str(error)), said)
    if isinstance(error, DiskError):
        return refusal(507, None, f"this gateway: {error}")
    late = any(isinstance(cause, httpx2.TimeoutException) for cause in causes)
    return refusal(504 if late else 502, None, said)


class _FlyingResponse(Response):
    """Sends what has come of a file as it comes, and closes early when it will not become whole."""

    def __init__(self, request: Request, flight: Flight, entry: Entry) -> None:
        super().__init__()
        self._request, self._flight, self._entry = request, flight, entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        flight = self._flight
        while flight.total is None and not flight.over:
            await asyncio.sleep(_POLL_S)
        part = self._part(flight.total or 0)
        # A failure is told in words as long as no byte was promised.
        while part.length and flight.may_send() <= part.start and not flight.over:
            await asyncio.sleep(_POLL_S)
        if flight.fault is not None:
            refused = upstream_refusal(flight.fault)
            answer = JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)
            await answer(scope, receive, send)
            return
        headers = _headers(self._entry, part)
        if self._request.method == "HEAD" or not part.length:
            await Response(status_code=part.status, headers=headers)(scope, receive, send)
            return
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": part.status, "headers": raw})
        left = asyncio.create_task(client_left(receive))
        try:
            await self._send(part, send, left)
        finally:
            left.cancel()

    def _part(self, total: int) -> Slice:
        return select(self._request.headers, etag=self._entry.etag, total=total, method=self._request.method)

    async def _send(self, part: Slice, send: Send, left: "asyncio.Task[None]") -> None:
        flight, restarts = self._flight, self._flight.restarts
        position, end = part.start, part.start + part.length
        # Opened once: when it is whole it is renamed, and stays the same file.
        tried_whole = False
        while (file := await run_in_threadpool(_opened, flight)) is None:
            if tried_whole:
                return
            tried_whole = flight.over
            await asyncio.sleep(_POLL_S)
        with file:
            while position < end and not left.done():
                ready = min(flight.may_send(), end)
                if flight.fault is not None or flight.restarts != restarts:
                    return  # shorter than promised: the client sees it and asks for the rest
                if ready <= position:
                    await asyncio.sleep(_POLL_S)
                    continue
                chunk = await run_in_threadpool(_read, file, position, min(_CHUNK_BYTES, ready - position))
                if not chunk:
                    return
                position += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": position < end})


def _opened(flight: Flight) -> BinaryIO | None:
    """Open what is there of a file; None in the moment in which it moves to its place."""
    with suppress(OSError):
        return (flight.partial if flight.whole is None else flight.whole).open("rb")
    return None


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _headers(entry: Entry, part: Slice) -> dict[str, str]:
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": entry.commit,
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(entry.path.rpartition('/')[2], safe='')}",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if entry.size_bytes is not None:
        headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size_bytes)}
    if part.content_range is not None:
        headers["Content-Range"] = part.content_range
    if part.status != HTTPStatus.NOT_MODIFIED:
        headers["Content-Length"] = str(part.length)
    return headers


def _link(request: Request, gateway: Gateway, stored: Stored) -> Mapping[str, str]:
    """Send a client that asks for the next page back to this gateway."""
    if not stored.link:
        return {}
    here = f"{request.url.scheme}://{request.url.netloc}"
    return {"Link": stored.link.replace(gateway.upstream.address, here)}


def _missing(causes: tuple[BaseException, ...], message: str) -> str:
    if any(isinstance(cause, hub.EntryNotFoundError) for cause in causes) or "EntryNotFound" in message:
        return "EntryNotFound"
    if any(isinstance(cause, hub.RevisionNotFoundError) for cause in causes) or "RevisionNotFound" in message:
        return "RevisionNotFound"
    return "RepoNotFound"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found
