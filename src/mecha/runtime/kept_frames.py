"""The frames a node keeps of what it sees, in a folder that only this user can enter, until they have been used."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.project import SelfCalibrationSettings
from mecha.quantize.recorder import FrameRecorder
from mecha.service.recalibration import FEWEST_FRAMES
from mecha.store.atomic import discard, disk_error, make_dir, sweep, unfinished_path

# A quarter of the frames decides which build is better, and no figure counts that rests on less than 10 detections.
ENOUGH_OBJECTS = 40


class KeptFrames:
    """A folder of frames that differ, spread over the time in which they are kept.

    Pictures of what a camera saw are nobody else's business: the folder is private, `remove` takes it away, and what a
    killed process leaves behind is removed by the next one.

    Args:
        parent: where the folder is made.
        settings: how many frames, and for how long.

    Raises:
        DiskError: it cannot be made.
    """

    def __init__(self, parent: Path, settings: SelfCalibrationSettings) -> None:
        self._settings = settings
        make_dir(parent)
        self.folder = unfinished_path(parent / "frames", "staging")
        try:
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise disk_error(error, self.folder, "make the folder") from error
        self._recorder = FrameRecorder(self.folder, limit=settings.frames, interval_s=0)
        self._first_s: float | None = None
        self._last_s = 0.0
        self._objects = 0

    @property
    def count(self) -> int:
        """Frames that are kept now."""
        return self._recorder.count

    @property
    def enough(self) -> bool:
        """There are as many as wanted, or all that the patience gave; and there is something on them."""
        return self.shown_enough and self._objects >= ENOUGH_OBJECTS

    @property
    def shown_enough(self) -> bool:
        """There are enough frames, whatever is on them."""
        waited_s = 0.0 if self._first_s is None else self._last_s - self._first_s
        return self.count >= FEWEST_FRAMES and (self._recorder.full or waited_s >= self._settings.patience_s)

    def take(self, frame: NDArray[np.uint8], objects: int, at_s: float) -> None:
        """Keep a frame, unless it is like one that is kept.

        Args:
            objects: that were found in it.
            at_s: when, seconds of a clock that only rises.

        Raises:
            DiskError: it cannot be written.
        """
        if self._first_s is None:
            self._first_s = at_s
        self._last_s = at_s
        if self._recorder.offer(frame, at_s):
            self._objects += objects
            for file in self._recorder.files:
                file.chmod(0o600)

    def remove(self) -> None:
        """Take the frames away."""
        discard(self.folder)


def remove_leftovers(parent: Path) -> None:
    """Remove the frames of processes that were killed."""
    sweep(parent)
