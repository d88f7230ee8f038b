"""What a detector found in one frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects in one frame, strongest first.

    Attributes:
        boxes_xyxy: (N, 4) float32, x1 y1 x2 y2 in pixels of the original frame, inside the frame.
        scores: (N,) float32, 0 to 1.
        class_ids: (N,) int32, indices into names.
        names: class names by class id.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for array in (self.boxes_xyxy, self.scores, self.class_ids):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)

    def label(self, index: int) -> str:
        """Return the class name of detection `index`, `class_7` where the model names no class 7."""
        class_id = int(self.class_ids[index])
        return self.names[class_id] if class_id < len(self.names) else f"class_{class_id}"

    def to_json(self) -> list[dict[str, Any]]:
        """Return one mapping a detection: label, class_id, score and box [x1, y1, x2, y2] in pixels."""
        return [
            {
                "label": self.label(index),
                "class_id": int(self.class_ids[index]),
                "score": round(float(self.scores[index]), 4),
                "box": [round(float(value), 2) for value in self.boxes_xyxy[index]],
            }
            for index in range(len(self))
        ]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds one frame took: preprocessing, the session run, decoding and NMS."""

    pre_ms: float
    session_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        """The whole frame."""
        return self.pre_ms + self.session_ms + self.post_ms
