import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.daemon.multipart import boundary_of, file_part
from mecha.daemon.picture_header import picture_size


def encoded(suffix: str, width: int, height: int, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, np.zeros((height, width, 3), np.uint8), list(options))[1])


@pytest.mark.parametrize(
    ("suffix", "options", "kind"),
    [
        (".jpg", (), "JPEG"),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2), "JPEG"),
        (".png", (), "PNG"),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50), "WebP"),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101), "WebP"),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (641, 480), (300, 7)])
def test_the_size_is_the_one_that_decoding_gives(
    suffix: str, options: tuple[int, ...], kind: str, width: int, height: int
) -> None:
    assert picture_size(encoded(suffix, width, height, *options)) == (kind, width, height)


def test_an_extended_webp_tells_its_canvas() -> None:
    head = (
        b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00" + b"\x7f\x02\x00" + b"\xdf\x01\x00" + bytes(8)
    )
    assert picture_size(head) == ("WebP", 640, 480)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_picture_that_is_cut_off_in_its_header_has_no_size(suffix: str) -> None:
    whole = encoded(suffix, 20, 10)
    sizes = [picture_size(whole[:length]) for length in range(len(whole))]
    known = [size for size in sizes if size is not None]
    assert all(size[1:] == (20, 10) for size in known)
    assert sizes[:20] == [None] * 20


@pytest.mark.parametrize("data", [b"", b"BM6", b"GIF89a", b"\xff\xd8\x00\x00\x00\x00", zlib.compress(b"x")])
def test_other_bytes_are_no_picture(data: bytes) -> None:
    assert picture_size(data) is None


@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\0\0\0\0WEBPVP8 ", b""]),
    st.binary(max_size=80),
)
def test_no_bytes_break_the_reader(head: bytes, rest: bytes) -> None:
    size = picture_size(head + rest)
    assert size is None or (size.width >= 0 and size.height >= 0)


def form(*parts: tuple[str, bytes], boundary: str = "xyz") -> bytes:
    body = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts)
    return body + f"--{boundary}--\r\n".encode()


def test_the_file_of_a_form_is_found_whatever_its_bytes_are() -> None:
    content = b"\r\n--xy\r\n\r\n\x00\xff--xyz"
    body = form(
        ('Content-Disposition: form-data; name="note"', b"hello"),
        ('Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg', content),
    )
    assert file_part(body, b"xyz") == content
    assert file_part(b"preamble\r\n" + body, b"xyz") == content


def test_a_form_without_a_file_gives_its_first_part() -> None:
    assert file_part(form(('Content-Disposition: form-data; name="image"', b"abc")), b"xyz") == b"abc"


@pytest.mark.parametrize("body", [b"", b"--xyz", b"--xyz--\r\n", b"--xyz\r\nno end", b"--xyz\r\nA: b\r\n\r\nno end"])
def test_a_form_that_is_broken_has_no_file(body: bytes) -> None:
    assert file_part(body, b"xyz") is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_form(body: bytes) -> None:
    file_part(b"--b\r\n" + body, b"b")


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=x; Boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
    ],
)
def test_the_boundary_is_read(text: str, boundary: bytes | None) -> None:
    assert boundary_of(text) == boundary
