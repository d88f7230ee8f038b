"""Refusals in the Hub's words, and noticing that a client has left: shared by mirror and gateway."""

import codecs
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Python looks for a codec when it is first asked for, and remembers for ever if it had no file left to find it then.
_IN_A_HEADER = codecs.lookup("unicode_escape")


def refusal(status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return what to raise to refuse a request, with the headers by which the Hub's client tells refusals apart."""
    # A message repeats what was asked for, and that may hold line ends and letters that no header can.
    sent = {"X-Error-Message": _IN_A_HEADER.encode(message)[0].decode(), **(headers or {})}
    if code is not None:
        sent["X-Error-Code"] = code
    if status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return HTTPException(status, message, sent)


async def client_left(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class ReadableQueries:
    """ASGI layer that refuses a query that is no text: whoever takes an address apart later would break."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400."""
        try:
            scope.get("query_string", b"").decode()
        except UnicodeDecodeError:
            await JSONResponse({"error": "The query is not UTF-8"}, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)
