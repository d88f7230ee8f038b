"""Refusals in the Hub's words, and noticing that a client has left: shared by mirror and gateway."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import Receive


def refusal(status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return what to raise to refuse a request, with the headers by which the Hub's client tells refusals apart."""
    # A message repeats what was asked for, and that may hold line ends and letters that no header can.
    sent = {"X-Error-Message": message.encode("unicode_escape").decode(), **(headers or {})}
    if code is not None:
        sent["X-Error-Code"] = code
    if status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return HTTPException(status, message, sent)


async def client_left(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
