"""What `mecha detect --out` writes: the ending of the name chooses."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.cli.context import count_text
from mecha.errors import UsageError

if TYPE_CHECKING:
    from mecha.cli.found import Found
    from mecha.runtime.sources import FrameSource

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_VIDEOS = frozenset({".mp4", ".avi", ".mkv"})
_ENDINGS = f"{', '.join(sorted(_IMAGES))}, {', '.join(sorted(_VIDEOS))}, .json, .jsonl, or a folder"


class Output(ABC):
    """Takes the frames of a run, one after the other.

    Nothing is touched before `open`; `close` is called however the run ends.

    Attributes:
        out: what the user named.
        count: frames written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.count = 0

    def open(self) -> None:
        """Make the folder that `out` is in.

        Raises:
            DiskError: it cannot be made.
        """
        from mecha.store.atomic import make_dir

        make_dir(self.out.parent)

    def add(self, found: "Found") -> None:
        """Write one frame.

        Raises:
            DiskError: it cannot be written.
        """
        self.write(found)
        self.count += 1

    @abstractmethod
    def write(self, found: "Found") -> None:
        """Write one frame; see `add`."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was written, so that it can be read.

        Raises:
            DiskError: it cannot be finished.
        """

    def summary(self) -> str:
        """Say what was written."""
        return f"{self.out}, {count_text(self.count, 'frame')}"


def chosen_output(out: Path, source: "FrameSource", expected: int | None) -> Output:
    """Return what writes the frames of a source.

    Args:
        out: ends in what to write; an existing folder, or a name without an ending, is a folder of annotated images.
        expected: how many frames will come, None while nobody knows.

    Raises:
        UsageError: the ending is unknown, several frames would go into one image, or `out` is the source itself.
    """
    _refuse_the_source(out, source)
    suffix = out.suffix.lower()
    if out.is_dir() or not suffix:
        from mecha.cli.annotated import AnnotatedFolder

        return AnnotatedFolder(out)
    if suffix in _IMAGES:
        from mecha.cli.annotated import AnnotatedImage

        if expected != 1:
            many = "frames without end" if expected is None else f"{expected} frames"
            folder, video = out.with_suffix(""), out.with_suffix(".mp4")
            raise UsageError(
                f"--out {out}: one image cannot take the {many} of {source.name}",
                hint=f"Add --frames 1, or name a folder ({folder}) or a video ({video}).",
            )
        return AnnotatedImage(out)
    if suffix in _VIDEOS:
        from mecha.cli.annotated import AnnotatedVideo

        return AnnotatedVideo(out, source)
    from mecha.cli.results import CocoResults, JsonLines

    if suffix == ".jsonl":
        return JsonLines(out)
    if suffix == ".json":
        return CocoResults(out, source)
    raise UsageError(f"--out {out}: cannot write {suffix}; expected {_ENDINGS}")


def _refuse_the_source(out: Path, source: "FrameSource") -> None:
    from mecha.runtime.sources.pictures import PictureSource

    if not out.exists():
        return
    files = source.files if isinstance(source, PictureSource) else (Path(source.name),)
    for file in files:
        if file.exists() and (file.samefile(out) or (out.is_dir() and file.parent.samefile(out))):
            raise UsageError(f"--out {out}: is what the frames are read from", hint="Name another file or folder.")
