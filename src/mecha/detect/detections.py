"""What a detector found in one frame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mecha.errors import ConfigError

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True, slots=True)
class Detection:
    """One object.

    Attributes:
        label: name of its class.
        score: 0 to 1.
        box_xyxy: x1, y1, x2, y2 in pixels of the original frame.
    """

    label: str
    class_id: int
    score: float
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Objects in one frame, strongest first.

    Iterating gives one `Detection` after the other; a slice, a mask or an array of positions gives those it selects:
    `found[found.scores > 0.5]`.

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

    def __iter__(self) -> Iterator[Detection]:
        for index in range(len(self)):
            x1, y1, x2, y2 = (float(value) for value in self.boxes_xyxy[index])
            yield Detection(self.label(index), int(self.class_ids[index]), float(self.scores[index]), (x1, y1, x2, y2))

    def __getitem__(self, chosen: slice | NDArray[np.bool_] | NDArray[np.integer[Any]]) -> "Detections":
        return Detections(self.boxes_xyxy[chosen], self.scores[chosen], self.class_ids[chosen], self.names)

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

    def to_coco(self, image_id: int, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """Return COCO results: image_id, category_id, bbox [x, y, width, height] in pixels and score.

        Args:
            image_id: of the frame in the dataset.
            category_ids: the dataset's category id by class id; classes without one are left out. None takes the class
                ids themselves.
        """
        x1, y1, x2, y2 = self.boxes_xyxy.astype(np.float64).T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
        results = []
        for box, class_id, score in zip(boxes, self.class_ids.tolist(), self.scores, strict=True):
            category_id = class_id if category_ids is None else category_ids.get(class_id)
            if category_id is not None:
                results.append(
                    {"image_id": image_id, "category_id": category_id, "bbox": box.tolist(), "score": float(score)}
                )
        return results

    def to_supervision(self) -> "supervision.Detections":
        """Return the same objects as the `supervision` package takes them; the class names are `data["class_name"]`.

        Raises:
            ConfigError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError(
                "to_supervision needs the package supervision, which is not installed",
                hint="Install it with: pip install supervision",
            ) from error
        # Copies: supervision's own tools write into what they are given.
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(np.int64),
            data={"class_name": np.array([self.label(index) for index in range(len(self))], dtype=np.str_)},
        )


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
