"""What a gateway answers: a file while it is on its way, and the upstream's failures as statuses with a sentence."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from huggingface_hub import errors as hub
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mecha.errors import DiskError, MechaError, NotFoundError
from mecha.hub.gateway import Gateway
from mecha.hub.gateway_flight import Flight, UnforeseenError
from mecha.hub.gateway_questions import Name, causes, timed_out
from mecha.hub.gateway_store import Entry, Stored
from mecha.hub.mirror_answers import client_left, refusal
from mecha.hub.mirror_ranges import Slice, select
from mecha.hub.source import RepoType

_CHUNK_BYTES = 256 * 1024
_POLL_S = 0.02
_LONGEST_PATH_BYTES = 1024
# Another gateway of the same folder may make room in the moment in which a file is whole.
_FLIGHTS = 3

T = TypeVar("T")


def file_response(
    request: Request, gateway: Gateway, repo_type: RepoType, repo: str, revision: str, path: str
) -> Response:
    """Answer a request for a file that the folder lacks. No question to the upstream holds the thread of the caller.

    Raises:
        HTTPException: the path is too long for a file, or the disk refuses.
    """
    _require_short(f"{repo}/{revision}/{path}")
    name = (repo_type, repo, revision, path)
    try:
        return _FlyingResponse(request, gateway, name, gateway.kept(*name))
    except MechaError as error:
        raise upstream_refusal(error) from error


def json_response(request: Request, gateway: Gateway, path: str, revision: str, body: bytes | None = None) -> Response:
    """Answer a question about a repo that the folder lacks. Raises as `file_response`."""
    _require_short(unquote(path.partition("?")[0]))
    stored = gateway.kept_answer(path, revision=revision, body=body)
    if stored is not None:
        return _stored_response(request, gateway, stored)
    return _AskedResponse(request, gateway, lambda: gateway.answer(path, revision=revision, body=body))


def _require_short(path: str) -> None:
    if len(path.encode(errors="replace")) > _LONGEST_PATH_BYTES:
        raise refusal(404, "EntryNotFound", f"A path of more than {_LONGEST_PATH_BYTES} bytes does not exist")


def upstream_refusal(error: MechaError) -> HTTPException:
    """Return what to answer when the upstream does not give what is asked for."""
    if isinstance(error, UnforeseenError):
        return refusal(500, None, str(error))
    said = f"the upstream of this gateway: {error}"
    if isinstance(error, NotFoundError):
        return refusal(404, _missing(error), said)
    if isinstance(error, DiskError):
        return refusal(507, None, f"this gateway: {error}")
    return refusal(504 if timed_out(error) else 502, None, said)


class _ClientLeftError(Exception):
    """Nobody is there any more who would be answered."""


class _AskedResponse(Response):
    """Sends what the upstream says, and lets go of the question when the client leaves."""

    def __init__(self, request: Request, gateway: Gateway, question: Callable[[], Stored]) -> None:
        super().__init__()
        self._request, self._gateway, self._question = request, gateway, question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.create_task(client_left(receive))
        try:
            stored = await _asked(self._gateway, self._question, left)
            answer = _stored_response(self._request, self._gateway, stored)
        except _ClientLeftError:
            return
        except MechaError as error:
            answer = _refused(error)
        finally:
            left.cancel()
        await answer(scope, receive, send)


class _FlyingResponse(Response):
    """Sends what has come of a file as it comes, and closes early when it will not become whole.

    Args:
        kept: what the name is, with its file here; None where the upstream must be asked.
    """

    def __init__(self, request: Request, gateway: Gateway, name: Name, kept: Entry | None) -> None:
        super().__init__()
        self._request, self._gateway, self._name, self._kept = request, gateway, name, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.create_task(client_left(receive))
        try:
            answer = await self._answer(left)
            await answer(scope, receive, send)
        except _ClientLeftError:
            return
        except MechaError as error:
            await _refused(error)(scope, receive, send)
        finally:
            left.cancel()

    async def _answer(self, left: "asyncio.Task[None]") -> "Response | _Body":
        """Return what to send, as soon as there is a first byte of it.

        Raises:
            _ClientLeftError: there is nobody to send it to.
            MechaError: it cannot be had.
        """
        entry = await self._entry(left)
        if self._request.method == "HEAD" and entry.size_bytes is not None:
            part = self._part(entry, entry.size_bytes)
            return Response(status_code=part.status, headers=_headers(entry, part))
        for _ in range(_FLIGHTS):
            flight = await self._flight(entry, left)
            with self._gateway.watched(flight):
                answer = await self._begun(entry, flight, left)
            if answer is not None:
                return answer
        refused = refusal(503, None, f"{entry.path} was removed to make room", {"Retry-After": "1"})
        return JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)

    async def _entry(self, left: "asyncio.Task[None]") -> Entry:
        if self._kept is not None:
            return self._kept
        return await _asked(self._gateway, lambda: self._gateway.entry(*self._name), left)

    async def _flight(self, entry: Entry, left: "asyncio.Task[None]") -> Flight:
        landed = await run_in_threadpool(self._gateway.landed, entry)
        if landed is not None:
            return landed
        return await _asked(self._gateway, lambda: self._gateway.flight(entry), left)

    async def _begun(self, entry: Entry, flight: Flight, left: "asyncio.Task[None]") -> "Response | _Body | None":
        """Wait for the first byte; None where the file was removed before anybody could open it."""
        while flight.total is None and not flight.over:
            await _pause(left)
        part = self._part(entry, flight.total or 0)
        # A failure is told in words as long as no byte was promised.
        while part.length and flight.may_send() <= part.start and not flight.over:
            await _pause(left)
        if flight.fault is not None:
            raise flight.fault
        headers = _headers(entry, part)
        if self._request.method == "HEAD" or not part.length:
            return Response(status_code=part.status, headers=headers)
        restarts = flight.restarts
        # Opened once: when it is whole it is renamed, and stays the same file.
        tried_whole = False
        while (file := await run_in_threadpool(flight.opened)) is None:
            if flight.fault is not None:
                raise flight.fault
            if tried_whole:
                return None
            tried_whole = flight.over
            await _pause(left)
        return _Body(flight, file, part, headers, restarts, left)

    def _part(self, entry: Entry, total: int) -> Slice:
        return select(self._request.headers, etag=entry.etag, total=total, method=self._request.method)


@dataclass(frozen=True, slots=True)
class _Body:
    """What a client gets of an open file, while it comes."""

    flight: Flight
    file: BinaryIO
    part: Slice
    headers: dict[str, str]
    restarts: int
    left: "asyncio.Task[None]"

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        flight, part = self.flight, self.part
        position, end = part.start, part.start + part.length
        with self.file as file:
            await send({"type": "http.response.start", "status": part.status, "headers": raw})
            while position < end and not self.left.done():
                ready = min(flight.may_send(), end)
                if flight.fault is not None or flight.restarts != self.restarts:
                    return  # shorter than promised: the client sees it and asks for the rest
                if ready <= position:
                    await asyncio.sleep(_POLL_S)
                    continue
                chunk = await run_in_threadpool(_read, file, position, min(_CHUNK_BYTES, ready - position))
                if not chunk:
                    return
                position += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": position < end})


async def _asked(gateway: Gateway, question: Callable[[], T], left: "asyncio.Task[None]") -> T:
    """Ask what may lead to the upstream, in a thread that is there for it.

    Raises:
        _ClientLeftError: the client did not wait for it; what still waits for its turn is not asked.
    """
    answer = asyncio.wrap_future(gateway.asking.submit(question))
    first: tuple[asyncio.Future[Any], ...] = (answer, left)
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise _ClientLeftError
        return answer.result()
    finally:
        answer.cancel()


async def _pause(left: "asyncio.Task[None]") -> None:
    if left.done():
        raise _ClientLeftError
    await asyncio.sleep(_POLL_S)


def _refused(error: MechaError) -> Response:
    refused = upstream_refusal(error)
    return JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)


def _stored_response(request: Request, gateway: Gateway, stored: Stored) -> Response:
    return Response(stored.body, media_type="application/json", headers=_link(request, gateway, stored))


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


def _missing(error: NotFoundError) -> str:
    found, message = causes(error), str(error)
    if any(isinstance(cause, hub.EntryNotFoundError) for cause in found) or "EntryNotFound" in message:
        return "EntryNotFound"
    if any(isinstance(cause, hub.RevisionNotFoundError) for cause in found) or "RevisionNotFound" in message:
        return "RevisionNotFound"
    return "RepoNotFound"
