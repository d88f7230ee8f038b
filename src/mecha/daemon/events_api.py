"""`GET /api/events`: what happens, as server-sent events. `GET /api/log`: the last lines of the log."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from mecha.daemon.refusals import problems, refused

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon
    from mecha.daemon.events import Event, Subscription

HEARTBEAT_S = 15.0
MOST_LISTENERS = 32
"""Each holds a connection and up to a thousand events."""
_EVENT_STREAM = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class LogLines(BaseModel):
    """The last lines of the log, oldest first."""

    lines: list[str]


_EVENT_SCHEMA = {
    "type": "object",
    "description": "One event of the stream; `data` is a JSON object as `mecha dev --json` writes it.",
    "properties": {key: {"type": "string"} for key in ("id", "event", "data")},
}


class _Stream(StreamingResponse):
    media_type = _EVENT_STREAM


def events_router(daemon: "Daemon", heartbeat_s: float = HEARTBEAT_S) -> APIRouter:
    """Return the routes.

    Args:
        heartbeat_s: of silence, after which a line of no meaning keeps the connection.
    """
    router = APIRouter(tags=["events"])
    listeners: set[_Listener] = set()

    @router.get(
        "/api/events",
        response_class=_Stream,
        responses={200: {"content": {_EVENT_STREAM: {"schema": _EVENT_SCHEMA}}}, **problems(503)},
    )
    async def events(
        kinds: Annotated[str, Query(description="Only these, with commas, as in state,model,log.")] = "",
        follow: Annotated[bool, Query(description="false: those that are kept, and then the end.")] = True,
        last_event_id: Annotated[str | None, Header(description="Go on after this one.")] = None,
    ) -> Response:
        """Send events from now on, or after the one with the id `Last-Event-ID`, as far as they are kept."""
        if len(listeners) >= MOST_LISTENERS:
            return refused(503, f"{MOST_LISTENERS} programs listen already", headers={"Retry-After": "10"})
        listener = _Listener(daemon, _kinds(kinds), _after(daemon, last_event_id), heartbeat_s, follow=follow)
        listeners.add(listener)
        return _Stream(_until_left(listener, listeners), headers=_HEADERS)

    @router.get("/api/log")
    def log() -> LogLines:
        """Return the last lines of the log."""
        return LogLines(lines=list(daemon.events.recent()))

    return router


class _Listener:
    """One who listens."""

    def __init__(
        self, daemon: "Daemon", kinds: frozenset[str], after: int | None, heartbeat_s: float, *, follow: bool
    ) -> None:
        self._hub = daemon.events
        self._life = _life_of(daemon)
        self._kinds = kinds
        self._after = after if follow or after is not None else 0
        self._heartbeat_s = heartbeat_s
        self._follow = follow
        self._dropped = 0

    async def chunks(self) -> AsyncIterator[str]:
        """Give pieces of the stream until the daemon ends, or there is nothing more to follow."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # Called from the thread that publishes, where the loop may have ended meanwhile.
            if not loop.is_closed():
                loop.call_soon_threadsafe(came.set)

        with self._hub.subscribe(self._after, on_put=wake) as subscription:
            # A client that came back too early would find nothing to connect to.
            yield "retry: 2000\n\n"
            while True:
                text = self._taken(subscription)
                if text:
                    yield text
                if subscription.closed or not self._follow:
                    return
                try:
                    await asyncio.wait_for(came.wait(), self._heartbeat_s)
                except TimeoutError:
                    yield ": all is well\n\n"
                came.clear()

    def _taken(self, subscription: "Subscription") -> str:
        texts = [self._text(event) for event in subscription.take() if self._wants(event)]
        dropped, self._dropped = subscription.dropped - self._dropped, subscription.dropped
        if dropped:
            texts.insert(0, f"data: {json.dumps({'event': 'dropped', 'count': dropped})}\n\n")
        return "".join(texts)

    def _wants(self, event: "Event") -> bool:
        return not self._kinds or event.data.get("event") in self._kinds

    def _text(self, event: "Event") -> str:
        # JSON has no line ends, which would be another field.
        return f"id: {self._life}-{event.number}\ndata: {json.dumps(event.data, separators=(',', ':'))}\n\n"


async def _until_left(listener: _Listener, listeners: set[_Listener]) -> AsyncIterator[str]:
    try:
        async for chunk in listener.chunks():
            yield chunk
    finally:
        listeners.discard(listener)


def _kinds(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def _life_of(daemon: "Daemon") -> str:
    """Return what tells the ids of this daemon from those of one before it, whose numbers began at 1 too."""
    return "0" if daemon.started_at is None else f"{int(daemon.started_at.timestamp() * 1e3):x}"


def _after(daemon: "Daemon", said: str | None) -> int | None:
    """Return the number after which to go on; None for new events only."""
    life, _, number = (said or "").rpartition("-")
    if not (life and number.isascii() and number.isdecimal()) or len(number) > 18:  # noqa: PLR2004 - no number of ours
        return None
    return int(number) if life == _life_of(daemon) else 0
