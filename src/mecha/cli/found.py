"""One frame and what was found on it, as a sentence and as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mecha.detect.detector import Result
    from mecha.runtime.sources import CapturedFrame


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One frame of a run.

    Attributes:
        index: counts the frames of the run from 0.
        model: name of the model.
    """

    captured: "CapturedFrame"
    index: int
    model: str
    result: "Result"

    @property
    def file_stem(self) -> str:
        """Name of the picture this frame is from, without its ending."""
        return Path(self.captured.source).stem

    def to_json(self) -> dict[str, Any]:
        """Return the document of `mecha detect --json`."""
        times = self.result.times
        height, width = self.captured.frame_bgr.shape[:2]
        return {
            "schema": 1,
            "source": self.captured.source,
            "frame": self.index,
            "width": width,
            "height": height,
            "precision": self.result.precision,
            "detections": self.result.detections.to_json(),
            "ms": {
                "pre": round(times.pre_ms, 3),
                "session": round(times.session_ms, 3),
                "post": round(times.post_ms, 3),
            },
        }

    def sentence(self) -> str:
        """Say what was found: `bus.jpg: 4 person, 1 bus  (41.2 ms, FP32)`."""
        counts: dict[str, int] = {}
        for detection in self.result.detections:
            counts[detection.label] = counts.get(detection.label, 0) + 1
        found = ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing"
        return f"{self.captured.source}: {found}  ({self.result.times.total_ms:.1f} ms, {self.result.precision})"

    def footer(self) -> str:
        """Say what ran and how long each stage took, for the bottom of a frame."""
        times = self.result.times
        stages = f"pre {times.pre_ms:.1f}  session {times.session_ms:.1f}  post {times.post_ms:.1f}"
        # A narrow frame shows the first words only.
        return f"{self.result.precision} {times.total_ms:.1f} ms  {self.model}  {stages}"
