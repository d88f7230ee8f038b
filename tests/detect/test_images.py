from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.images import as_bgr, decode_image, read_image, write_image
from mecha.errors import IntegrityError, NotFoundError, UsageError


def picture(height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(suffix: str, image: NDArray[Any]) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def test_a_bgr_frame_is_passed_on_without_a_copy() -> None:
    frame = picture()
    assert as_bgr(frame) is frame


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 6), np.uint8), ((5, 6, 1), np.uint8), ((5, 6, 4), np.uint8), ((5, 6, 3), np.uint16), ((1, 1), np.uint16)],
)
def test_grey_alpha_and_16_bit_frames_become_bgr_bytes(shape: tuple[int, ...], dtype: type) -> None:
    value = 200 if dtype is np.uint8 else 200 * 256 + 17
    frame = as_bgr(np.full(shape, value, dtype=dtype))
    assert frame.shape == (*shape[:2], 3)
    assert frame.dtype == np.uint8
    assert (frame == 200).all()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((0, 6, 3), np.uint8),
        ((5, 6, 2), np.uint8),
        ((6,), np.uint8),
        ((1, 5, 6, 3), np.uint8),
        ((5, 6, 3), np.float32),
        ((), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(IntegrityError) as caught:
        as_bgr(np.zeros(shape, dtype=dtype))
    assert str(caught.value) == (
        f"frame: got an array of shape {shape} and type {np.dtype(dtype)}; "
        "expected (height, width), (height, width, 3) or (height, width, 4), uint8 or uint16, at least one pixel"
    )
    assert caught.value.hint == "Give a BGR image as cv2.imread returns it."


def test_a_written_picture_is_read_back(tmp_path: Path) -> None:
    frame = picture()
    write_image(tmp_path / "a.png", frame)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), frame)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_is_not_written_in_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        write_image(tmp_path / "a.txt", picture())
    assert str(caught.value) == (
        f'{tmp_path / "a.txt"}: got suffix ".txt"; expected one of .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp'
    )


def test_a_file_name_outside_ascii_is_read(tmp_path: Path) -> None:
    (tmp_path / "höhe 5.png").write_bytes(encode(".png", picture()))
    assert read_image(tmp_path / "höhe 5.png").shape == (20, 30, 3)


def test_a_16_bit_grey_file_becomes_bgr_bytes() -> None:
    image = decode_image(encode(".png", np.full((4, 4), 200 * 256 + 17, dtype=np.uint16)), where="x")
    assert image.dtype == np.uint8
    assert (image == 200).all()


def test_a_picture_is_turned_upright_by_its_exif_orientation() -> None:
    jpeg = encode(".jpg", picture(20, 30))
    # An EXIF block with one entry: tag 0x0112 (orientation), SHORT, value 6 (turn a quarter right).
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    marked = jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
    assert decode_image(marked, where="x").shape == (30, 20, 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_image(tmp_path / "a.jpg")
    assert str(caught.value) == f"{tmp_path / 'a.jpg'}: no such file"


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(IntegrityError) as caught:
        read_image(tmp_path / "a.jpg")
    assert str(caught.value) == f"{tmp_path / 'a.jpg'}: got an empty file; expected an image"


@pytest.mark.parametrize("damaged", [b"hello world", encode(".jpg", picture(200, 300))[:900], b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_file_is_refused_without_a_word_from_opencv(
    damaged: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(damaged)
    with pytest.raises(IntegrityError) as caught:
        read_image(tmp_path / "a.jpg")
    assert str(caught.value) == (
        f"{tmp_path / 'a.jpg'}: got {len(damaged)} bytes that cannot be decoded; "
        "expected a whole JPEG, PNG, BMP, WebP or TIFF"
    )
    assert "ERROR" not in capfd.readouterr().err
