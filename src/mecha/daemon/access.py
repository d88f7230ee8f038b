"""Who may ask the daemon, and how: what stands between a request and the API.

On the Unix socket the system has checked who asks, and no token is needed: see `mecha.daemon.connection`. Behind a
tunnel to it a browser may stand, so pages of other sites are refused there too. Limits and headers hold for both.
"""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mecha.daemon.page import PAGE_FILES
from mecha.daemon.problems import Problem
from mecha.daemon.token import DaemonToken

LISTENER_KEY = "mecha.listener"
"""Of a request's scope: "unix" for one that came by the socket; any other one must show the token."""
HOSTS_VARIABLE = "MECHA_HOSTS"
"""Further names by which the daemon may be asked, with commas between them."""
BODY_BYTES = 1 << 20
BODY_BYTES_OF = {"/api/detect": 17 << 20}
"""What a request may bring; a picture of 16 MB, and what a form puts around it."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Of every answer; a route may set its own Cache-Control."""

_BODY_S = 30.0
_SLOWEST_BYTES_PER_S = 8192
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20
_TELL_EVERY_S = 10.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffd]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not done.

    Attributes:
        told: what the log says of it, "" for nothing: for what a scan or a slip causes.
    """

    status: HTTPStatus
    error: str
    hint: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the API over TCP.

    Attributes:
        token: what each request must show; None where there is no TCP, and then all that came by it is refused.
        hosts: names under which the daemon is asked, in small letters; addresses in numbers always are.
        tell: gets a sentence when somebody was refused, not more often than every ten seconds for one reason.
        body_s: a request's body may keep us waiting so long, and a second more for each 8 kB that came.
    """

    token: DaemonToken | None = None
    hosts: frozenset[str] = frozenset({"localhost"})
    tell: Callable[[str], None] = field(default=lambda sentence: None)  # noqa: ARG005 - nobody asks
    body_s: float = _BODY_S

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Return an application that lets through what may be asked, and refuses the rest."""
        return _Guard(app, self)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Tell why a request is refused before its body is read; None for one that may be answered."""
        headers = Headers(scope=scope)
        if (problem := _malformed(scope)) is not None:
            return problem
        over_tcp = scope.get(LISTENER_KEY) != "unix"
        foreign = (
            self._wrong_host(headers, over_tcp=over_tcp)
            or _other_site(scope, headers)
            or (self._no_token(scope, headers) if over_tcp else None)
        )
        if foreign is not None:
            return foreign
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > _body_limit(scope):
            return _too_large(scope)
        return None

    def _wrong_host(self, headers: Headers, *, over_tcp: bool) -> Refusal | None:
        """Refuse names that are not this machine's: a page of somebody else may have let its own name lead here.

        Over the socket programs send any word, or nothing. A site has a name with a dot in it.
        """
        host = _host_name(headers.get("host", ""))
        if host is not None and (host in self.hosts or _is_address(host)):
            return None
        if not over_tcp and "." not in headers.get("host", ""):
            return None
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"Host: got {_shown(headers.get('host', ''))}; expected an address of this device, or one of its names: "
            f"{', '.join(sorted(self.hosts))}",
            f"Ask it by its address, or start it with the name in {HOSTS_VARIABLE}.",
            "it was asked under a name that is not its own",
        )

    def _no_token(self, scope: Scope, headers: Headers) -> Refusal | None:
        # A browser must have the page before anybody can give it the token.
        if scope["method"] in {"GET", "HEAD"} and scope["path"] in PAGE_FILES:
            return None
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if self.token is not None and kind.lower() == "bearer" and self.token.is_shown_by(shown.strip(" ")):
            return None
        sent = "authorization" in headers
        return Refusal(
            HTTPStatus.UNAUTHORIZED,
            "the token is wrong" if sent else "a token is needed: send it as `Authorization: Bearer TOKEN`",
            "It is in the file that the daemon was started with, or in its MECHA_TOKEN.",
            "a wrong token was shown" if sent else "",
        )


def known_hosts(listen: str, environ: Mapping[str, str]) -> frozenset[str]:
    """Return the names by which a daemon is asked that listens on this host.

    Args:
        listen: an address or a name.
        environ: MECHA_HOSTS adds to them.
    """
    own = socket.gethostname().lower()
    names: Iterable[str] = ("localhost", own, f"{own.partition('.')[0]}.local", listen.lower())
    further = (name.strip().lower() for name in environ.get(HOSTS_VARIABLE, "").split(","))
    return frozenset(name for name in (*names, *further) if name and not _is_address(name))


class _Guard:
    """The ASGI layer of an `Access`; the outermost one, so that every answer has the headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._told_s: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._access.refusal(scope)
        if refusal is not None:
            self._tell(scope, refusal)
            await _refuse(refusal, scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._access.body_s)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            # What was refused, or went: there is nobody to answer.
            return

    def _tell(self, scope: Scope, refusal: Refusal) -> None:
        now = time.monotonic()
        if refusal.told and now - self._told_s.get(refusal.told, -_TELL_EVERY_S) >= _TELL_EVERY_S:
            self._told_s[refusal.told] = now
            client = scope.get("client")
            self._access.tell(f"a request from {client[0] if client else 'somewhere'} was refused: {refusal.told}")


class _Exchange:
    """One request and its answer: bounds what the body may be and how long it may take."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._left_s = body_s
        self._left_bytes = _body_limit(scope)
        self._whole = False
        self._begun = False
        self._refused = False

    async def receive(self) -> Message:
        """Receive what comes next. One who sends too much, or too slowly, is answered here and is gone then."""
        if self._refused:
            return {"type": "http.disconnect"}
        if self._whole:
            return await self._receive()
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._left_s, 0.0))
        except TimeoutError:
            return await self._refuse(_too_slow())
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._left_s += size / _SLOWEST_BYTES_PER_S - (time.monotonic() - began)
            self._left_bytes -= size
            self._whole = not message.get("more_body", False)
            if self._left_bytes < 0:
                return await self._refuse(_too_large(self._scope))
        return message

    async def send(self, message: Message) -> None:
        """Send an answer, with the headers that all have."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            _add_headers(message)
        await self._send(message)

    async def _refuse(self, refusal: Refusal) -> Message:
        self._refused = True
        if not self._begun:
            await _refuse(refusal, self._scope, self._receive, self._send, whole=self._whole)
        return {"type": "http.disconnect"}


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send, *, whole: bool = False) -> None:
    """Answer, and end the connection; what still comes is read a while, or the system would take the answer back."""
    problem = Problem(error=refusal.error, hint=refusal.hint)
    body = problem.model_dump_json().encode()
    headers = MutableHeaders({"Content-Type": "application/json", "Content-Length": str(len(body))})
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="mecha"'
    sent = Headers(scope=scope)
    waits = "expect" in sent
    comes = not whole and (sent.get("content-length", "0") != "0" or "transfer-encoding" in sent)
    if comes:
        headers["Connection"] = "close"
    start: Message = {"type": "http.response.start", "status": int(refusal.status), "headers": headers.raw}
    _add_headers(start)
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if comes and not waits:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_read_on(receive), _LINGER_S)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read_on(receive: Receive) -> None:
    left = _LINGER_BYTES
    while left > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))


def _add_headers(start: Message) -> None:
    start.setdefault("headers", [])
    headers = MutableHeaders(scope=start)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def _malformed(scope: Scope) -> Refusal | None:
    """Refuse what no route could read: control characters, and bytes that are no text."""
    if _CONTROL.search(scope["path"]):
        return Refusal(HTTPStatus.NOT_FOUND, "the path holds control characters, or bytes that are not UTF-8")
    if not scope.get("query_string", b"").isascii():
        return Refusal(HTTPStatus.BAD_REQUEST, "the query holds bytes that are not percent-encoded")
    return None


def _other_site(scope: Scope, headers: Headers) -> Refusal | None:
    """Refuse what a page of another site asks for; a link to the page itself may stand anywhere."""
    refusal = Refusal(
        HTTPStatus.FORBIDDEN,
        f"Origin: got {_shown(headers.get('origin', ''))}; expected none, or the page of this daemon",
        "Only its own page and programs may use the daemon, no other site.",
        "the page of another site sent it",
    )
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers.get("host", ""), scope["scheme"]):
        return refusal
    if headers.get("sec-fetch-site", "none") in {"same-origin", "none"}:
        return None
    opens_page = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    return None if opens_page and scope["path"] in PAGE_FILES else refusal


def _is_own(origin: str, host: str, scheme: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    # A proxy with TLS may stand before plain http, but never the other way round.
    schemes = {"https"} if scheme == "https" else {"http", "https"}
    return parts.scheme in schemes and parts.netloc.lower() == host.lower() and not parts.path


def _host_name(host: str) -> str | None:
    """Return the name or address in a Host header, None for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return None if parts.netloc != host or parts.username is not None else name


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _body_limit(scope: Scope) -> int:
    return BODY_BYTES_OF.get(scope["path"], BODY_BYTES)


def _too_large(scope: Scope) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large; expected {_body_limit(scope)} bytes at most"
    )


def _too_slow() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time", "Send it at once.")


def _shown(value: str) -> str:
    """Return what somebody sent so that it can stand in a sentence."""
    return f'"{value[:100]}"' if value else "nothing"
