"""Pictures in files: one, a folder, or those that match a pattern."""

import glob
from pathlib import Path

from mecha.detect.images import read_image
from mecha.errors import NotFoundError
from mecha.runtime.sources.frame import CapturedFrame, FrameSize, FrameSource
from mecha.words import encodable

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_PICTURES_PER_S = 10.0


class PictureSource(FrameSource):
    """Gives pictures in the order of their names.

    Attributes:
        files: the pictures.

    Raises:
        NotFoundError: nothing is there.
    """

    def __init__(self, text: str, size: FrameSize, *, loop: bool) -> None:
        self.files = picture_files(text)
        super().__init__(text, fps=_PICTURES_PER_S, live=False, count=None if loop else len(self.files))
        self._size = size
        self._loop = loop
        self._position = 0

    def read(self) -> CapturedFrame | None:
        """Return the next picture; see `FrameSource.read`."""
        if self._position >= len(self.files) and not self._loop:
            return None
        file = self.files[self._position % len(self.files)]
        self._position += 1
        return self._captured(self._size.applied(read_image(file)), str(file))

    def close(self) -> None:
        """Nothing is held."""


def picture_files(text: str) -> tuple[Path, ...]:
    """Return the pictures that a path or pattern names: one file, those of a folder, or those that match, sorted.

    Raises:
        NotFoundError: nothing is there.
    """
    path = Path(text)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        matches = (Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207 - a pattern may be absolute
        found = [file for file in matches if file.suffix.lower() in PICTURE_SUFFIXES]
    if not found:
        what = "the folder holds no picture" if path.is_dir() else "no picture matches this pattern"
        raise NotFoundError(
            f"source {encodable(text)}: {what}", hint=f"Pictures end in {', '.join(sorted(PICTURE_SUFFIXES))}."
        )
    return tuple(sorted(found))
