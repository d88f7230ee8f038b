"""One file out of a multipart/form-data body, as `curl -F image=@photo.jpg` sends it."""

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(r'(?i);\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))')
_MOST_PARTS = 16
_LONGEST_HEAD = 8192


def boundary_of(content_type: str) -> bytes | None:
    """Return what separates the parts; None where a Content-Type names none."""
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]).encode("latin-1", errors="replace") if found is not None else None


def file_part(body: bytes, boundary: bytes) -> bytes | None:
    """Return the content of the first part that is a file, else of the first part; None where there is none."""
    first: bytes | None = None
    for head, content in _parts(body, boundary):
        if re.search(rb"(?i)content-disposition:[^\r\n]*;\s*filename\*?=", head):
            return content
        first = content if first is None else first
    return first


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    mark = b"--" + boundary
    # As if a line had ended before the first one.
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if at == 1:
        return
    at += len(mark)
    for _ in range(_MOST_PARTS):
        if body[at : at + 2] != b"\r\n":
            return
        end = body.find(b"\r\n" + mark, at)
        head_end = body.find(b"\r\n\r\n", at, at + _LONGEST_HEAD)
        if end < 0 or head_end < 0 or head_end > end:
            return
        yield body[at:head_end], body[head_end + 4 : end]
        at = end + 2 + len(mark)
