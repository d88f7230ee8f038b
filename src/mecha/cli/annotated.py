"""Annotated frames as files: one image, or numbered images in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from mecha.errors import DiskError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mecha.detect.detector import Result

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


class AnnotatedFrames:
    """Writes frames with boxes to `out`: the last frame to an image file, every frame into a folder.

    Raises:
        UsageError: `out` is neither an image name nor a folder name.
        DiskError: the folder cannot be made.
    """

    def __init__(self, out: Path) -> None:
        suffix = out.suffix.lower()
        if suffix and suffix not in _IMAGE_SUFFIXES:
            expected = ", ".join(sorted(_IMAGE_SUFFIXES))
            raise UsageError(f"--out {out}: cannot write {suffix}; expected {expected}, or a folder")
        self._out, self._single, self._count = out, bool(suffix), 0
        folder = out.parent if self._single else out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"--out {out}: {error.strerror}", hint="name a folder you may write to") from error

    def add(self, frame_bgr: "NDArray[np.uint8]", result: "Result", name: str) -> None:
        """Draw one frame and write it."""
        from mecha.detect.draw import draw
        from mecha.detect.images import write_image

        footer = f"{result.precision} {result.times.total_ms:.1f} ms"
        annotated = draw(frame_bgr, result.detections, footer=footer)
        target = self._out if self._single else self._out / f"{self._count:06d}-{Path(name).stem}.jpg"
        write_image(target, annotated)
        self._count += 1

    def close(self) -> str:
        """Say what was written."""
        return str(self._out) if self._single else f"{self._count} frames to {self._out}"
