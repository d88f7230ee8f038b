"""How large a JPEG, PNG or WebP is, read from its first bytes: before anything is decoded."""

from typing import Literal, NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# Start-of-frame markers; C4, C8 and CC are something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM and restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_VP8_START = b"\x9d\x01\x2a"


class PictureSize(NamedTuple):
    """What a picture says of itself, pixels."""

    kind: Literal["JPEG", "PNG", "WebP"]
    width: int
    height: int


def picture_size(data: bytes) -> PictureSize | None:
    """Return format and size of a picture; None where it is no JPEG, PNG or WebP, or cut off before it says."""
    if data.startswith(_PNG):
        return PictureSize("PNG", _big(data, 16), _big(data, 20)) if data[12:16] == b"IHDR" and len(data) > 23 else None  # noqa: PLR2004 - signature and IHDR
    if data.startswith(_JPEG):
        return _of_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _of_webp(data)
    return None


def _of_jpeg(data: bytes) -> PictureSize | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # noqa: PLR2004 - every marker begins so
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - fill
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            if at + 9 > len(data):
                return None
            return PictureSize("JPEG", _big(data, at + 7, 2), _big(data, at + 5, 2))
        else:
            at += 2 + max(2, _big(data, at + 2, 2))
    return None


def _of_webp(data: bytes) -> PictureSize | None:
    chunk = data[12:16]
    if len(data) < 30:  # noqa: PLR2004 - headers of all three kinds
        return None
    if chunk == b"VP8X":
        return PictureSize("WebP", 1 + _little(data, 24, 3), 1 + _little(data, 27, 3))
    if chunk == b"VP8L":
        bits = _little(data, 21, 4)
        return PictureSize("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)) if data[20] == 0x2F else None  # noqa: PLR2004
    if chunk == b"VP8 " and data[23:26] == _VP8_START:
        return PictureSize("WebP", _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    return None


def _big(data: bytes, at: int, length: int = 4) -> int:
    return int.from_bytes(data[at : at + length], "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")
