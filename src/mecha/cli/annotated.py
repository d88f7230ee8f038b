"""Annotated frames as files: one image, numbered images in a folder, or a video."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mecha.cli.found import Found
    from mecha.runtime.sources import FrameSource

# Where nobody knows the rate of the source.
_FPS = 30.0
# A camera that stalls longer than this does not fill the disk with one frame.
_LONGEST_STALL_S = 10.0
_UNFIT_FOR_NAMES = re.compile(r"[^\w.-]+")


class AnnotatedImage(Output):
    """One frame in one image file."""

    def write(self, found: "Found") -> None:
        """Draw the frame and write it; see `Output.add`."""
        from mecha.detect.images import write_image

        write_image(self.out, _annotated(found))

    def close(self) -> None:
        """Nothing is held."""

    def summary(self) -> str:
        """Say what was written."""
        return str(self.out)


class AnnotatedFolder(Output):
    """Each frame in an image of its own: 000000-NAME.jpg, 000001-NAME.jpg, …, NAME where the frame is from."""

    def open(self) -> None:
        """Make the folder; see `Output.open`."""
        from mecha.store.atomic import make_dir

        make_dir(self.out)

    def write(self, found: "Found") -> None:
        """Draw the frame and write it; see `Output.add`."""
        from mecha.detect.images import write_image

        name = _UNFIT_FOR_NAMES.sub("_", found.file_stem).strip("_")
        write_image(
            self.out / (f"{found.index:06d}-{name}.jpg" if name else f"{found.index:06d}.jpg"), _annotated(found)
        )

    def close(self) -> None:
        """Nothing is held."""


class AnnotatedVideo(Output):
    """Frames in a video that plays at the rate of the source.

    A live source gives frames as fast as they are worked on: each is shown until the next one came, so that the video
    takes as long as what it shows.
    """

    def __init__(self, out: Path, source: "FrameSource") -> None:
        from mecha.detect.video import VideoFile

        super().__init__(out)
        self._video = VideoFile(out, fps=source.fps or _FPS)
        self._live = source.live
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def write(self, found: "Found") -> None:
        """Draw the frame and write it; see `Output.add`."""
        frame = _annotated(found)
        if self._live and self._last is not None:
            waited_s = min((found.captured.captured_at - self._last[0]) * 1e-9, _LONGEST_STALL_S)
            for _ in range(round(waited_s * self._video.fps) - 1):
                self._video.add(self._last[1])
        self._video.add(frame)
        self._last = (found.captured.captured_at, frame)

    def close(self) -> None:
        """Finish the video; see `Output.close`."""
        self._video.close()


def _annotated(found: "Found") -> "NDArray[np.uint8]":
    from mecha.detect.draw import draw

    return draw(found.captured.frame_bgr, found.result.detections, footer=found.footer())
