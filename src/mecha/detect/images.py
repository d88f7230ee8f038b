"""Pictures in files and in memory: read, write, and bring to BGR bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.errors import DiskError, IntegrityError, NotFoundError, UsageError
from mecha.words import encodable

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


def as_bgr(frame: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return a frame as BGR bytes; a BGR uint8 frame is returned as it is, without a copy.

    Args:
        frame: grey (H, W) or (H, W, 1), BGR (H, W, 3) or BGRA (H, W, 4), uint8 or uint16. Of 16 bits the upper 8 are
            kept, as OpenCV does when it reads such a file. Alpha is dropped.

    Raises:
        IntegrityError: another shape or type, or no pixels.
    """
    import cv2

    channels = 1 if frame.ndim == 2 else frame.shape[-1] if frame.ndim == 3 else 0  # noqa: PLR2004 - array ranks
    if channels not in {1, 3, 4} or frame.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} or frame.size == 0:
        raise IntegrityError(
            f"frame: got an array of shape {frame.shape} and type {frame.dtype}; "
            "expected (height, width), (height, width, 3) or (height, width, 4), uint8 or uint16, at least one pixel",
            hint="Give a BGR image as cv2.imread returns it.",
        )
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    if channels == 3:  # noqa: PLR2004 - BGR
        return frame  # type: ignore[return-value]  # uint16 was converted above
    conversion = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(frame, conversion)  # type: ignore[return-value]  # uint8 in, uint8 out


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8 BGR, turned upright as its EXIF orientation says.

    Raises:
        NotFoundError: no such file.
        DiskError: the file cannot be read.
        IntegrityError: the file is empty, damaged or no picture.
    """
    where = encodable(str(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{where}: no such file") from error
    except OSError as error:
        raise DiskError(f"{where}: cannot be read: {error.strerror}") from error
    return decode_image(data, where=where)


def decode_image(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """Return encoded bytes (JPEG, PNG, …) as (H, W, 3) uint8 BGR, turned upright.

    Raises:
        IntegrityError: the bytes are empty, damaged or no picture; the message begins with `where`.
    """
    import cv2

    if not data:
        raise IntegrityError(f"{where}: got an empty file; expected an image")
    image = None
    with _quiet_opencv():
        try:
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            # Some broken headers raise and others give None; both mean the same to the caller.
            image = None
    if image is None:
        raise IntegrityError(
            f"{where}: got {len(data)} bytes that cannot be decoded; expected a whole JPEG, PNG, BMP, WebP or TIFF"
        )
    return image  # type: ignore[return-value]  # IMREAD_COLOR gives uint8


def write_image(path: Path, frame: NDArray[np.uint8]) -> None:
    """Write a BGR uint8 frame, whole or not at all; the suffix chooses the format.

    Raises:
        UsageError: the suffix is no image format.
        DiskError: the file cannot be written.
    """
    from mecha.store.atomic import write_file

    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UsageError(f'{path}: got suffix "{path.suffix}"; expected one of {", ".join(sorted(IMAGE_SUFFIXES))}')
    write_file(path, encode_image(frame, suffix))


def encode_image(frame: NDArray[np.uint8], suffix: str) -> bytes:
    """Return a BGR uint8 frame as the bytes of an image file; `suffix` is one of IMAGE_SUFFIXES."""
    import cv2

    _, encoded = cv2.imencode(suffix, frame)
    return encoded.tobytes()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing its own lines to stderr beside the error that is raised."""
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
