"""How far the way to a Hub goes: one byte of a file is asked for, and whoever answers is looked at.

A captive portal, a filtering proxy and a Hub that wants a token all answer; only their headers tell them apart.
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from mecha.hub.addresses import origin, server
from mecha.hub.line_faults import Part, line_fault, line_settings
from mecha.hub.login import Login

Kind = Part | Literal["ok", "portal", "unauthorized", "forbidden", "missing", "busy", "server", "storage"]
"""Where the way ends: at a part of the line, or with an answer.

`portal`: something else answers in the place of a Hub; `storage`: the Hub answers, and the server that it sends on to
does not; `missing`: the Hub answers, and has no such file.
"""

_REDIRECTS = 5
# Headers that every answer of a Hub about a file has one of.
_HUB_HEADERS = ("x-repo-commit", "x-error-code", "x-error-message", "x-linked-etag")


@dataclass(frozen=True, slots=True)
class Reach:
    """What came of asking.

    Attributes:
        said: a sentence; it names the server.
        date: what the server's clock said, None where it did not tell.
    """

    kind: Kind
    said: str
    date: datetime | None = None


def reach(endpoint: str, path: str, login: Login, *, timeout_s: float = 10.0) -> Reach:
    """Ask a Hub for the first byte of a file.

    Args:
        endpoint: `https://host[:port]`.
        path: of the file, as in `owner/name/resolve/main/model.onnx`.
        login: shown to the endpoint's own origin only.
        timeout_s: for the name, the connection, and each silence.

    Raises:
        ConfigError: certificates or proxies of the environment cannot be used.
    """
    url = f"{endpoint.rstrip('/')}/{path}"
    host = urlsplit(url).hostname or ""
    if not _by_proxy(url) and not _answers_in_time(host, timeout_s):
        return Reach("name", f"{server(url)}: the name is not resolved within {timeout_s:g} s")
    with line_settings():
        client = httpx2.Client(timeout=timeout_s, follow_redirects=False)
    with client:
        return _asked(client, url, login)


def _asked(client: httpx2.Client, url: str, login: Login) -> Reach:
    first, date, storage = url, None, False
    for _ in range(_REDIRECTS):
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        if login.token and origin(url) == origin(first):
            headers["Authorization"] = f"Bearer {login.token}"
        try:
            with client.stream("GET", url, headers=headers) as response:
                answer = Head(url, response.status_code, {k.lower(): v for k, v in response.headers.items()})
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            fault = line_fault(error, url)
            if storage:
                return Reach("storage", f"{server(first)} answers, and sends on to {fault.sentence}", date)
            return Reach(fault.part, fault.sentence, date)
        date = date or answer.date
        if storage:
            found = read_storage(answer, server(first))
        else:
            found = read_head(answer, with_token=login.token is not None)
        if not isinstance(found, str):
            return Reach(found.kind, found.said, date)
        storage = storage or "x-repo-commit" in answer.headers
        url = found
    return Reach("answer", f"{server(first)}: redirects without end", date)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; headers by lower-case name."""

    url: str
    status: int
    headers: Mapping[str, str]

    @property
    def of_a_hub(self) -> bool:
        """Tell whether a Hub wrote it."""
        return any(name in self.headers for name in _HUB_HEADERS)

    @property
    def date(self) -> datetime | None:
        """The server's clock, None where it tells none."""
        try:
            found = parsedate_to_datetime(self.headers.get("date", ""))
        except ValueError:
            return None
        # Without a zone it is no time that can be compared.
        return found if found.tzinfo is not None else None

    @property
    def status_words(self) -> str:
        """The status as people read it: `401 Unauthorized`."""
        known = {item.value: item.phrase for item in HTTPStatus}
        return f"{self.status} {known.get(self.status, '')}".rstrip()


def read_head(answer: Head, *, with_token: bool) -> Reach | str:
    """Return what the answer to a question about a file means, or the address that it sends on to."""
    where, said = server(answer.url), answer.status_words
    target = answer.headers.get("location", "")
    shown = "to the token that was sent" if with_token else "to a request without a token"
    match answer.status:
        case 200 | 206 if answer.of_a_hub:
            found: Reach | str = Reach("ok", f"{where} answers")
        case 301 | 302 | 303 | 307 | 308 if target:
            found = _redirected(answer, target)
        case 401:
            found = Reach("unauthorized", f"{where} answered {said} {shown}")
        case 403:
            by = "" if answer.of_a_hub else ", and not in the words of a Hub"
            found = Reach("forbidden", f"{where} answered {said} {shown}{by}")
        case 404 if answer.of_a_hub:
            found = Reach("missing", f"{where} answers, and has no such file")
        case 407:
            found = Reach("proxy", f"{where}: the proxy answered {said}")
        case 429:
            found = Reach("busy", f"{where} answered {said}")
        case status if status >= 500 and status != 511:  # noqa: PLR2004 - 511: sign in to this network
            found = Reach("server", f"{where} answered {said}")
        case _:
            kind = answer.headers.get("content-type", "").partition(";")[0] or "no kind of content"
            found = Reach("portal", f"{where} answered {said} ({kind}), and not as a Hub does")
    return found


def read_storage(answer: Head, hub: str) -> Reach | str:
    """Return what the answer of a server means that a Hub sent on to, or the address that it sends on to itself."""
    target = answer.headers.get("location", "")
    if answer.status in {301, 302, 303, 307, 308} and target:
        return urljoin(answer.url, target)
    where = server(answer.url)
    if answer.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return Reach("ok", f"{hub} answers, and so does {where}, where its files are")
    return Reach("storage", f"{hub} answers, and sends on to {where}, which answered {answer.status_words}")


def _redirected(answer: Head, target: str) -> Reach | str:
    url = urljoin(answer.url, target)
    here, there = urlsplit(answer.url), urlsplit(url)
    # A Hub sends on to its storage, to a repo's new name, and from http to https.
    if "x-repo-commit" in answer.headers or here.hostname == there.hostname:
        return url
    return Reach("portal", f"{server(answer.url)} answered {answer.status_words}, a redirect to {server(url)}")


def _by_proxy(url: str) -> bool:
    """Tell whether a proxy is asked, which then resolves the name."""
    parts, proxies = urlsplit(url), getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.netloc)


def _answers_in_time(host: str, timeout_s: float) -> bool:
    """Tell whether a name is resolved, or refused, in time: the system may take minutes, and cannot be told not to."""
    done = threading.Event()

    def resolve() -> None:
        # The client meets the same fault, and says it.
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
        done.set()

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    return done.wait(timeout_s)
