"""`arena://`: the camera that needs no camera."""

from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import Field

from mecha.arena.camera import FRAMES_PER_SECOND, ArenaCamera
from mecha.runtime.sources.frame import CapturedFrame, FrameSize, FrameSource
from mecha.validation import Expected, Frozen, validated

_SCHEME = "arena://"
_DEFAULT_SIZE = (640, 480)


class _Drive(Frozen):
    seed: int = Field(0, ge=0)
    size: Annotated[
        str, Expected("width x height in pixels, as in 640x480"), Field(pattern=r"^[1-9]\d{0,3}x[1-9]\d{0,3}$")
    ] = ""
    # Rendering takes 10 to 30 ms of a core; all 30 frames of a second would leave a small computer nothing else to do.
    fps: float = Field(15.0, gt=0, le=1000)
    frames: int | None = Field(None, ge=1)


class ArenaSource(FrameSource):
    """Renders the arena live.

    Args:
        text: "arena://", then "?" and any of seed=0, size=640x480, fps=15, frames=100 with "&" between them; without
            `frames` it never ends.
        size: used where the text has none.

    Raises:
        ConfigError: the text has another option, or a value that is none.
    """

    def __init__(self, text: str, size: FrameSize) -> None:
        said = parse_qsl(text.removeprefix(_SCHEME).removeprefix("?"), keep_blank_values=True)
        drive = validated(_Drive, {key: _number(value) for key, value in said}, where=text, line_of=lambda path: None)  # noqa: ARG005
        super().__init__(text, fps=drive.fps, live=False, count=drive.frames)
        width, height = size.of(*_DEFAULT_SIZE)
        if drive.size:
            width, height = (int(side) for side in drive.size.split("x"))
        self._camera = ArenaCamera(drive.seed, width, height)
        self._frames = drive.frames
        self._step = FRAMES_PER_SECOND / drive.fps

    def read(self) -> CapturedFrame | None:
        """Render the next frame."""
        if self._sequence == self._frames:
            return None
        return self._captured(self._camera.scene(round(self._sequence * self._step)).frame_bgr)

    def close(self) -> None:
        """Nothing is held."""


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
