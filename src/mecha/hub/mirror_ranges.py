"""Conditional and range requests for one representation (RFC 9110, sections 13 and 14), as pure functions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

# Python refuses to read numbers of thousands of digits; no file needs more than these.
_SINGLE_RANGE = re.compile(r"([0-9]{0,18})\s*-\s*([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Slice:
    """What to send: a status, and the bytes [start, start + length) of a file of `total` bytes.

    Attributes:
        status: 200 whole, 206 part, 304 nothing because the client has it, 416 nothing because there is no such part.
    """

    status: int
    start: int
    length: int
    total: int

    @property
    def content_range(self) -> str | None:
        """The Content-Range header, where the status has one."""
        if self.status == HTTPStatus.PARTIAL_CONTENT:
            return f"bytes {self.start}-{self.start + self.length - 1}/{self.total}"
        return f"bytes */{self.total}" if self.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE else None


def select(headers: Mapping[str, str], *, etag: str, total: int, method: str) -> Slice:
    """Return which part of a file answers a request.

    Args:
        headers: request headers, by lower-case name.
        etag: the file's strong validator, without quotes.
        total: the file's size in bytes.
        method: GET or HEAD; a range counts for GET only.
    """
    whole = Slice(200, 0, total, total)
    none_match = headers.get("if-none-match")
    if none_match is not None and _matches(none_match, etag, weak=True):
        return Slice(304, 0, 0, total)
    wanted = headers.get("range")
    if method != "GET" or wanted is None:
        return whole
    if_range = headers.get("if-range")
    if if_range is not None and not _matches(if_range, etag, weak=False):
        return whole
    unit, _, spec = wanted.partition("=")
    if unit.strip().lower() != "bytes" or "," in spec:
        # A server may ignore a unit it does not know and answers that would need several parts.
        return whole
    return _part(spec.strip(), total)


def _part(spec: str, total: int) -> Slice:
    unsatisfiable = Slice(416, 0, 0, total)
    match = _SINGLE_RANGE.fullmatch(spec)
    if match is None or spec.strip() == "-":
        return unsatisfiable
    first, last = match.groups()
    if not first:
        length = min(int(last), total)
        return Slice(206, total - length, length, total) if length else unsatisfiable
    start = int(first)
    end = min(int(last), total - 1) if last else total - 1
    return Slice(206, start, end - start + 1, total) if start <= end else unsatisfiable


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    candidates = [candidate.strip() for candidate in header.split(",")]
    if "*" in candidates:
        return weak
    if weak:
        candidates = [candidate.removeprefix("W/") for candidate in candidates]
    return f'"{etag}"' in candidates
