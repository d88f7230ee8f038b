"""One request for a file: redirects followed by hand, the answer judged, its bytes appended to the partial file."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx2

from mecha.errors import NetworkError
from mecha.hub.addresses import origin, shown
from mecha.hub.answers import (
    START_BYTES,
    AlreadyWhole,
    Answer,
    Body,
    TryAgain,
    name_of,
    read_answer,
    refuse_html,
    wrong_size,
)
from mecha.hub.body import pieces
from mecha.hub.line import Line
from mecha.hub.line_faults import line_fault
from mecha.hub.pace import RateLimit, RateWatch
from mecha.hub.partial import PartialFile
from mecha.hub.source import RemoteFile
from mecha.progress import Progress

_MOST_REDIRECTS = 10
# These say who asks, and are for the host they were made for alone.
_PERSONAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a silent line is waited for; a slow one that keeps sending is never given up.

    Attributes:
        connect_s: until a connection stands, TLS included.
        stall_s: between any two pieces of an answer, its first included.
    """

    connect_s: float = 15.0
    stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class TooSlow:
    """The answer was left in the middle: at this rate more connections are worth a try."""


@dataclass(slots=True)
class Transfer:
    """What the requests of one download share.

    Attributes:
        watch: looks for a rate at which more connections are worth a try; None where one is enough.
        transferred_bytes: body bytes that came over the line so far.
    """

    remote: RemoteFile
    file: PartialFile
    line: Line
    progress: Progress
    limit: RateLimit
    check_start: Callable[[bytes], None] | None
    watch: RateWatch | None = None
    transferred_bytes: int = 0

    def attempt(self, *, whole: bool) -> TryAgain | TooSlow | None:
        """Ask for what is missing, or for the whole file, and keep what comes.

        Returns:
            None when the file is as long as it should be, else why it is not.

        Raises:
            MechaError: another try would not help.
        """
        asked_from = 0 if whole else self.file.size
        validator = self.file.known_validator if asked_from else None
        headers = dict(self.remote.headers) | {"Accept-Encoding": "identity"}
        if asked_from:
            headers["Range"] = f"bytes={asked_from}-"
        if validator is not None:
            headers["If-Range"] = validator
        try:
            with following(self.line, self.remote, headers) as response:
                answer = Answer(str(response.url), response.status_code, response.headers)
                step = read_answer(answer, self.remote, asked_from=asked_from, validator=validator)
                if isinstance(step, TryAgain):
                    return step
                if isinstance(step, AlreadyWhole):
                    return None
                with closing(pieces(response, ahead=not self.limit.is_set)) as chunks:
                    return self._receive(chunks, step, answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            fault = line_fault(error, self.remote.url)
            if not fault.passing:
                raise fault.error(name_of(self.remote)) from error
            return TryAgain(fault.sentence)

    def _receive(self, chunks: Iterator[bytes], body: Body, answer: Answer) -> TryAgain | TooSlow | None:
        start = b""
        if body.start == 0:
            # Nothing on the disk is touched before the first bytes look right: what an earlier process left must
            # survive a login page.
            start = self._start(chunks)
            if body.total is not None and len(start) < min(START_BYTES, body.total):
                return _ended_early(answer, len(start), body.total)
            refuse_html(start, answer, self.remote)
            if self.check_start is not None:
                self.check_start(start)
            self.file.start_over(answer.validator)
        else:
            self.file.mixed = True
        self._append(start, body, answer)
        knows_ranges = body.start > 0 or answer.headers.get("accept-ranges", "").strip().lower() == "bytes"
        watch = self.watch if knows_ranges and body.total is not None else None
        if watch is not None:
            watch.begin()
        for chunk in chunks:
            self.transferred_bytes += len(chunk)
            self._append(chunk, body, answer)
            if watch is not None and watch.is_too_slow(self.file.size, body.total or 0):
                return TooSlow()
        if body.total is not None and self.file.size < body.total:
            return _ended_early(answer, self.file.size, body.total)
        return None

    def _start(self, chunks: Iterator[bytes]) -> bytes:
        start = bytearray()
        for chunk in chunks:
            self.transferred_bytes += len(chunk)
            start += chunk
            if len(start) >= START_BYTES:
                break
        return bytes(start)

    def _append(self, chunk: bytes, body: Body, answer: Answer) -> None:
        size = self.file.size + len(chunk)
        if body.total is not None and size > body.total:
            self.file.start_over(None)
            raise wrong_size(self.remote, answer.url, size, body.total)
        self.file.append(chunk)
        self.progress("download", size, body.total)
        self.limit.spend(len(chunk))


@contextmanager
def following(line: Line, remote: RemoteFile, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
    """Open the answer at the end of all redirects; personal headers do not leave the first address's host."""
    url, sent, seen = remote.url, dict(headers), {remote.url}
    while True:
        response = line.opened(url, sent)
        try:
            if not response.has_redirect_location:
                yield response
                return
            location = response.headers["location"]
        finally:
            response.close()
        target = redirected(remote, url, location, seen)
        if origin(target) != origin(remote.url):
            # For good: an address that leads away and back again does not get them either.
            sent = {name: value for name, value in sent.items() if name.lower() not in _PERSONAL_HEADERS}
        seen.add(target)
        url = target


def redirected(remote: RemoteFile, url: str, location: str, seen: set[str]) -> str:
    """Return the address that a redirect leads to, when it is one to follow."""
    what = f"{name_of(remote)}: {shown(url)} redirects"
    hint = "If HF_ENDPOINT or hub.endpoint is set, check that it names a Hub."
    try:
        target = urljoin(url, location)
        origin(target)
    except ValueError as error:
        raise NetworkError(f"{what} to {location!r}; expected an address", hint=hint) from error
    scheme = urlsplit(target).scheme
    if scheme not in {"http", "https"}:
        raise NetworkError(f"{what} to a {scheme or 'relative'} address; expected http or https", hint=hint)
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise NetworkError(f"{what} from https to plain http, to {shown(target)}", hint=hint)
    if target in seen:
        raise NetworkError(f"{what} in a circle, back to {shown(target)}", hint=hint)
    if len(seen) > _MOST_REDIRECTS:
        raise NetworkError(f"{what} more than {_MOST_REDIRECTS} times", hint=hint)
    return target


def _ended_early(answer: Answer, size: int, total: int) -> TryAgain:
    return TryAgain(f"{shown(answer.url)} ended the answer after {size} of {total} bytes")
