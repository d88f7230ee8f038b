"""What a mirror has answered: the last requests, and how many bytes in all."""

import threading
from collections import deque
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One answered request; `body_bytes` counts what was handed to the connection."""

    method: str
    path: str
    status: int
    body_bytes: int


class RequestLog:
    """ASGI layer that remembers the last requests and counts the body bytes of all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._bytes_served = 0
        self._requests: deque[ServedRequest] = deque(maxlen=_LOG_REQUESTS)

    @property
    def bytes_served(self) -> int:
        """Body bytes of all answers so far, unfinished ones included."""
        with self._lock:
            return self._bytes_served

    @property
    def requests(self) -> tuple[ServedRequest, ...]:
        """The requests whose answers were handed over, or broke off, oldest first."""
        with self._lock:
            return tuple(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        status, sent, logged = 0, 0, False

        def log() -> None:
            nonlocal logged
            if not logged:
                logged = True
                with self._lock:
                    self._requests.append(ServedRequest(scope["method"], scope["path"], status, sent))

        async def counting_send(message: Message) -> None:
            nonlocal start, status, sent
            if message["type"] == "http.response.start":
                # Held back until the body is known: who has read an answer must find it in the log, and an answer
                # without a body is over with its headers.
                start, status = message, message["status"]
                return
            # HEAD has a body for the application, and none on the wire.
            length = 0 if scope["method"] == "HEAD" else len(message.get("body", b""))
            sent += length
            with self._lock:
                self._bytes_served += length
            if not message.get("more_body", False):
                log()
            if start is not None:
                await send(start)
                start = None
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        finally:
            log()
