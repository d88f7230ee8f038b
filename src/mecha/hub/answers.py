"""What a server's answer to a request for a file means, decided from its status and headers alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from mecha.errors import AccessDeniedError, IntegrityError, NetworkError, NotFoundError
from mecha.hub.addresses import shown
from mecha.hub.source import RemoteFile

START_BYTES = 512
"""How much of a file is looked at before anything is written; a magic number or the start of an HTML page fits."""

# Python refuses to read numbers of thousands of digits; no file needs more than these.
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes\s+(?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)")
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")
_HTML_SUFFIXES = (".html", ".htm", ".xhtml")
_PORTAL_HINT = (
    "A captive portal or a proxy answers in the server's place: open any page in a browser on this network, sign in, "
    "and try again. If HF_ENDPOINT or hub.endpoint is set, check that it names a Hub."
)
_TRY_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response.

    Attributes:
        url: where it came from, after redirects.
        headers: by lower-case name.
    """

    url: str
    status: int
    headers: Mapping[str, str]

    @property
    def validator(self) -> str | None:
        """The strong ETag with its quotes, which If-Range needs; None when there is none."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') and etag.endswith('"') else None


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes that follow are those of the file from `start` on; `total` is the file's size, if it is known."""

    start: int
    total: int | None


@dataclass(frozen=True, slots=True)
class AlreadyWhole:
    """There is nothing after the bytes that are held."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """No bytes this time.

    Attributes:
        reason: what to say when it was the last try.
        whole: whether to ask for the whole file next time, because the answer to a range cannot be used.
        retry_after: the server's own wish, as it stands in the header.
    """

    reason: str
    whole: bool = False
    retry_after: str | None = None


def name_of(remote: RemoteFile) -> str:
    """Return what a message calls a file."""
    return f"{remote.repo}/{remote.filename}"


def read_answer(
    answer: Answer, remote: RemoteFile, *, asked_from: int, validator: str | None
) -> Body | AlreadyWhole | TryAgain:
    """Decide what an answer is good for.

    Args:
        answer: the head of the response.
        remote: what was asked for.
        asked_from: the first byte of the range that was asked for; 0 when the whole file was.
        validator: the strong ETag that was sent as If-Range, with its quotes.

    Raises:
        AccessDeniedError: 401 or 403.
        NotFoundError: 404 or 410.
        IntegrityError: an HTML page, or a file of another size.
        NetworkError: any other refusal that another try will not change.
    """
    if answer.status == HTTPStatus.OK:
        return _whole(answer, remote)
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        return _part(answer, remote, asked_from, validator)
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and asked_from:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if match and match[3] == str(asked_from) and remote.size_bytes in {None, asked_from}:
            return AlreadyWhole()
        return TryAgain(f"{shown(answer.url)} has no bytes after {asked_from}", whole=True)
    if answer.status in _TRY_LATER or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = f"{shown(answer.url)} answered {_status(answer.status)}"
        return TryAgain(reason, retry_after=answer.headers.get("retry-after"))
    raise _refused(answer, remote)


def refuse_html(start: bytes, answer: Answer, remote: RemoteFile) -> None:
    """Raise IntegrityError when a body begins like a web page and the file is none."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_HTML_STARTS) and not remote.filename.lower().endswith(_HTML_SUFFIXES):
        raise _html_error(answer, remote)


def wrong_size(remote: RemoteFile, url: str, size: int, expected: int) -> IntegrityError:
    """Return the error for a file that has another size at the server than the Hub said."""
    return IntegrityError(
        f"{name_of(remote)}: {shown(url)} sends {size} bytes; expected {expected}",
        hint="The server's copy is not the file that the Hub describes; try again, or use another mirror.",
    )


def _whole(answer: Answer, remote: RemoteFile) -> Body:
    _check_form(answer, remote)
    length = answer.headers.get("content-length", "")
    total = int(length) if _NUMBER.fullmatch(length) else None
    return Body(0, _agreed_total(answer, remote, total))


def _part(answer: Answer, remote: RemoteFile, asked_from: int, validator: str | None) -> Body | TryAgain:
    _check_form(answer, remote)
    got = answer.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(got.strip())
    if not asked_from or match is None or match[1] != str(asked_from):
        wanted = f"bytes from {asked_from}" if asked_from else "the whole file"
        return TryAgain(f"{shown(answer.url)} was asked for {wanted} and answered with {got!r}", whole=True)
    if validator is not None and answer.validator not in {None, validator}:
        return TryAgain(f"{shown(answer.url)} changed the file between two requests", whole=True)
    total = None if match[3] == "*" else int(match[3])
    return Body(asked_from, _agreed_total(answer, remote, total))


def _check_form(answer: Answer, remote: RemoteFile) -> None:
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise NetworkError(
            f"{name_of(remote)}: {shown(answer.url)} sends it as {encoding}; expected plain bytes",
            hint="A proxy on the way rewrites answers; switch that off for this server, or go around it with NO_PROXY.",
        )
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in {"text/html", "application/xhtml+xml"} and not remote.filename.lower().endswith(_HTML_SUFFIXES):
        raise _html_error(answer, remote)


def _agreed_total(answer: Answer, remote: RemoteFile, total: int | None) -> int | None:
    if total is not None and remote.size_bytes is not None and total != remote.size_bytes:
        raise wrong_size(remote, answer.url, total, remote.size_bytes)
    return total if remote.size_bytes is None else remote.size_bytes


def _html_error(answer: Answer, remote: RemoteFile) -> IntegrityError:
    return IntegrityError(
        f"{name_of(remote)}: {shown(answer.url)} answered with a web page; expected the file", hint=_PORTAL_HINT
    )


def _refused(answer: Answer, remote: RemoteFile) -> NetworkError | NotFoundError:
    what = f"{name_of(remote)}: {shown(answer.url)} answered {_status(answer.status)}"
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        hint = "The repo is private or gated, or a signed address ran out: check HF_TOKEN, and try again."
        return AccessDeniedError(what, hint=hint)
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return NotFoundError(what, hint="The file was there a moment ago: the repo or the mirror's folder has changed.")
    return NetworkError(what, hint="Try again; if HF_ENDPOINT or hub.endpoint is set, check that it names a Hub.")


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
