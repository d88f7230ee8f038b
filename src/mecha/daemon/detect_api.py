"""`POST /api/detect`: a picture in, detections out. The nodes go first; what is too much is told to come again."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mecha.daemon.detecting import MOST_PIXELS, Detecting, Wanted
from mecha.daemon.multipart import boundary_of, file_part
from mecha.daemon.picture_header import picture_size
from mecha.daemon.refusals import failed, problems, refused
from mecha.daemon.waiting_room import Room, WaitingRoom
from mecha.errors import IntegrityError, MechaError, UsageError
from mecha.hub.mirror_answers import client_left
from mecha.store.published import MANIFEST_FILE
from mecha.words import alternatives

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mecha.daemon.daemon import Daemon

MOST_BYTES = 16 << 20
BODY_S = 15.0
_DISCARD_S = 2.0
_LEFT = 499
_BODIES = {
    kind: {"schema": {"type": "string", "format": "binary"}}
    for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
}
_FORM = {
    "multipart/form-data": {
        "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
    }
}


class Found(BaseModel):
    """What is in a picture."""

    model: str
    width: int
    height: int
    precision: Literal["FP32", "INT8"]
    notice: str = Field(description="Why something else ran than was asked for; empty otherwise.")
    detections: list[dict[str, Any]] = Field(
        description="Strongest first: label, class_id, score, and box, x1 y1 x2 y2 in pixels."
    )
    ms: dict[str, float] = Field(description="queued, load, decode, pre, session, post.")


class DetectCounts:
    """What became of requests, for the metrics. Used from the event loop, read from any thread."""

    def __init__(self, room: WaitingRoom, detecting: Detecting) -> None:
        self.by_status: dict[int, int] = {}
        self._room = room
        self._detecting = detecting

    @property
    def waiting(self) -> int:
        """Requests that wait, or are worked on."""
        return self._room.taken

    @property
    def loaded(self) -> int:
        """Models that are loaded for them."""
        return self._detecting.loaded

    def count(self, status: int) -> None:
        """Note an answer."""
        self.by_status = {**self.by_status, status: self.by_status.get(status, 0) + 1}


class Detection:
    """What the route needs, made once for each daemon.

    Args:
        room: see `Room`.
        body_s: within which a whole body has to come.
        detecting: what detects.
    """

    def __init__(
        self,
        daemon: "Daemon",
        *,
        room: Room | None = None,
        body_s: float = BODY_S,
        detecting: Detecting | None = None,
    ) -> None:
        self._daemon = daemon
        self._body_s = body_s
        self._room = WaitingRoom(room or Room())
        self._detecting = detecting or Detecting(daemon.environ)
        self.counts = DetectCounts(self._room, self._detecting)

    async def answer(self, request: Request, model: str | None, precision: str, score: float) -> Response:
        """Return the answer to a request, whatever becomes of it."""
        try:
            response = await self._answer(request, model, precision, score)
        except MechaError as error:
            response = failed(error, 400 if isinstance(error, IntegrityError) else None)
        self.counts.count(response.status_code)
        return response

    async def _answer(self, request: Request, model: str | None, precision: str, score: float) -> Response:
        size = _declared(request)
        if size > MOST_BYTES:
            return _too_long(size)
        if not self._room.enter(size):
            after = str(self._room.retry_s)
            await _discard(request, size)
            return refused(
                429,
                "too many pictures wait already",
                f"Send it again after {after} s.",
                {"Retry-After": after, "Cache-Control": "no-store"},
            )
        with contextlib.ExitStack() as seat:
            seat.callback(self._room.leave, size)
            body = await self._body(request, size)
            if isinstance(body, Response):
                return body
            wanted = await run_in_threadpool(self._wanted, model, precision)
            done = self._detecting.detect(wanted, body, score)
            # The seat is free when the work is done, also where nobody waits for it any more.
            leaving = seat.pop_all()
            done.add_done_callback(lambda _: leaving.close())
        return await self._found(request, wanted, done)

    async def _found(self, request: Request, wanted: Wanted, done: "Future[dict[str, Any]]") -> Response:
        waited = asyncio.wrap_future(done)
        left = asyncio.create_task(client_left(request.receive))
        try:
            await asyncio.wait((waited, asyncio.ensure_future(left)), return_when=asyncio.FIRST_COMPLETED)
            if not waited.done():
                waited.cancel()
                return Response(status_code=_LEFT)
            found = waited.result()
        finally:
            left.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await left
        self._room.worked(sum(ms for name, ms in found["ms"].items() if name != "queued") / 1e3)
        return JSONResponse({"model": wanted.folder.name, **found})

    async def _body(self, request: Request, size: int) -> bytes | Response:
        """Return the picture of a request, or the answer that refuses it."""
        try:
            async with asyncio.timeout(self._body_s):
                body = await _read(request, size)
        except TimeoutError:
            return refused(408, f"the picture has not come within {self._body_s:g} s")
        except ClientDisconnect:
            return Response(status_code=_LEFT)
        if body is None:
            return _too_long(None)
        kind = request.headers.get("content-type", "")
        if kind.lower().startswith("multipart/"):
            boundary = boundary_of(kind)
            body = (file_part(body, boundary) if boundary else None) or b""
        if not body:
            return refused(400, "got no picture; expected one as the body, or as a file of a form")
        return _checked(body)

    def _wanted(self, model: str | None, precision: str) -> Wanted:
        published = self._daemon.service().store.require(model or self._only_model())
        status = (published.path / MANIFEST_FILE).stat()
        return Wanted(published.path, precision, (status.st_ino, status.st_size, status.st_mtime_ns))

    def _only_model(self) -> str:
        """Return the model that nodes run, where it is one; raises UsageError."""
        names = [model.name for model in self._daemon.state.models() if model.wanted_by]
        if len(names) != 1:
            runs = f"the nodes run {alternatives(names)}" if names else "no node runs one"
            raise UsageError(f"model: missing; {runs}", hint="Name it, as in /api/detect?model=arena-n.")
        return names[0]


def detect_router(detection: Detection) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["detect"])

    @router.post(
        "/api/detect",
        response_model=Found,
        responses=problems(400, 404, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": {"required": True, "content": _BODIES | _FORM}},
    )
    async def detect(
        request: Request,
        model: Annotated[
            str | None, Query(description="A pulled model; where it is left out, that of the nodes.")
        ] = None,
        precision: Annotated[Literal["auto", "fp32", "int8"], Query()] = "auto",
        score: Annotated[float, Query(ge=0, le=1, description="Weakest score that is reported.")] = 0.25,
    ) -> Response:
        """Detect in a JPEG, PNG or WebP of at most 16 MB and 32 megapixels; 429 says when to come again."""
        return await detection.answer(request, model, precision, score)

    return router


def _declared(request: Request) -> int:
    """Return how long a body is at most."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else MOST_BYTES  # noqa: PLR2004 - digits


async def _discard(request: Request, size: int) -> None:
    """Let a body come in, a piece at a time and for a while: a client that still sends may never see its answer."""
    left = size
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DISCARD_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return


async def _read(request: Request, size: int) -> bytes | None:
    """Return the body; None where it is longer than said."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > size:
            return None
    return bytes(body)


def _checked(picture: bytes) -> bytes | Response:
    """Return a picture that may be decoded, or the answer that refuses it."""
    size = picture_size(picture)
    if size is None:
        return refused(415, f"got {len(picture)} bytes that are no JPEG, PNG or WebP; expected one of these")
    if size.width * size.height > MOST_PIXELS:
        megapixels = size.width * size.height / 1e6
        return refused(413, f"got {megapixels:.1f} megapixels; expected {MOST_PIXELS / 1e6:.0f} at most")
    if not size.width or not size.height:
        return refused(400, f"got a {size.kind} of {size.width}x{size.height} pixels; expected at least one")
    return picture


def _too_long(size: int | None) -> Response:
    got = "more" if size is None else f"{size} bytes"
    return refused(413, f"got {got}; expected a picture of {MOST_BYTES} bytes at most")
