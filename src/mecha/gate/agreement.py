"""How far INT8 finds what FP32 finds.

Two comparisons, over the same frames:

* Detections. At each score threshold of 0.25, 0.5 and 0.7, INT8's detections are matched to FP32's, same class and IoU
  of at least 0.5, the strongest first. F1 = 2 matches / (FP32 detections + INT8 detections). More than one threshold,
  because a build can be right at 0.25 while none of its scores passes 0.5. A threshold counts where one of the two
  finds at least 10 objects: below that F1 is chance, and a build that invents objects is seen as well.
* Raw outputs, which need no object on any frame. At the 100 strongest (anchor, class) pairs of FP32 and the 100
  strongest of INT8 of each frame, `overlap = sum of min(fp32, int8) / sum of max(fp32, int8)` of the scores: 1 when all
  are equal, 0 when one of the two gives zeros, whatever the size of the scores.

The agreement is the smallest F1 that counts; where none counts, the overlap.

Two builds are compared with each other by `standings`: over the same frames, and at the same thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.nms import iou_matrix, paired_iou
from mecha.store.manifest import AgreementRecord

THRESHOLDS = (0.25, 0.5, 0.7)
MATCH_IOU = 0.5
ENOUGH_DETECTIONS = 10
STRONGEST = 100


@dataclass(frozen=True, slots=True, eq=False)
class FrameOutputs:
    """What one model gives for one frame.

    Attributes:
        detections: at a score threshold of at most the lowest of THRESHOLDS.
        scores: (A, C) float32 of all anchors.
        boxes_xyxy: (A, 4) float32 of all anchors.
    """

    detections: Detections
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]

    @property
    def finite(self) -> bool:
        """There is no NaN and no infinity in the raw outputs."""
        return bool(np.isfinite(self.scores).all() and np.isfinite(self.boxes_xyxy).all())


@dataclass(slots=True)
class _Counts:
    """Detections at one threshold."""

    fp32: int = 0
    int8: int = 0
    matches: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.matches / (self.fp32 + self.int8)


@dataclass(slots=True)
class Comparison:
    """Compares two models frame by frame."""

    frames: int = 0
    _counts: Mapping[float, _Counts] = field(default_factory=lambda: {level: _Counts() for level in THRESHOLDS})
    _smaller: float = 0.0
    _larger: float = 0.0
    _score_errors: list[float] = field(default_factory=list)
    _box_ious: list[float] = field(default_factory=list)

    def add(self, fp32: FrameOutputs, int8: FrameOutputs) -> None:
        """Compare one frame."""
        self.frames += 1
        for level, counts in self._counts.items():
            ours, theirs = _at_least(fp32.detections, level), _at_least(int8.detections, level)
            counts.fp32 += len(ours)
            counts.int8 += len(theirs)
            counts.matches += matches(ours, theirs)
        strongest = _strongest(fp32.scores)
        pairs = np.union1d(strongest, _strongest(int8.scores))
        ours_at, theirs_at = fp32.scores.reshape(-1)[pairs], int8.scores.reshape(-1)[pairs]
        self._smaller += float(np.minimum(ours_at, theirs_at).sum())
        self._larger += float(np.maximum(ours_at, theirs_at).sum())
        difference = fp32.scores.reshape(-1)[strongest] - int8.scores.reshape(-1)[strongest]
        self._score_errors.append(float(np.abs(difference).mean()))
        anchors = strongest // fp32.scores.shape[1]
        self._box_ious.append(float(paired_iou(fp32.boxes_xyxy[anchors], int8.boxes_xyxy[anchors]).mean()))

    def support(self, level: str) -> int:
        """Return how many detections the F1 of a threshold rests on: FP32's or INT8's, whichever are more."""
        counts = self._counts[float(level)]
        return max(counts.fp32, counts.int8)

    def counting(self) -> frozenset[float]:
        """Return the thresholds at which one of the two models finds enough."""
        return frozenset(
            level for level, counts in self._counts.items() if max(counts.fp32, counts.int8) >= ENOUGH_DETECTIONS
        )

    def pooled_f1(self, levels: frozenset[float]) -> float:
        """Return the F1 over the detections at all of these thresholds together."""
        counts = [self._counts[level] for level in levels]
        return 2 * sum(one.matches for one in counts) / max(1, sum(one.fp32 + one.int8 for one in counts))

    @property
    def overlap(self) -> float:
        """Agreement of the raw scores, 0 to 1; 1 when both models give zeros only."""
        return self._smaller / self._larger if self._larger else 1.0

    def record(self) -> AgreementRecord:
        """Return the comparison of all frames added."""
        counting = self.counting()
        counted = {level: counts for level, counts in self._counts.items() if level in counting}
        f1 = {f"{level:g}": round(counts.f1, 4) for level, counts in counted.items()}
        return AgreementRecord(
            frames=self.frames,
            agreement=round(min(f1.values(), default=self.overlap), 4),
            f1=f1,
            detections={f"{level:g}": counts.fp32 for level, counts in counted.items()},
            score_error=round(float(np.mean(self._score_errors)), 5),
            box_iou=round(float(np.mean(self._box_ious)), 4),
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one of several builds agrees with FP32, so that they can be compared with each other.

    Attributes:
        agreement: 0 to 1. One F1 over all thresholds that count for any of the builds, which rests on more detections
            than the smallest of three does; where none counts, the overlap.
        by_detections: it is an F1.
    """

    agreement: float
    by_detections: bool


def standings(comparisons: Sequence[Comparison]) -> tuple[Standing, ...]:
    """Return how each of several builds stands.

    Args:
        comparisons: one for each build, over the same frames.
    """
    levels = frozenset[float]().union(*(one.counting() for one in comparisons))
    return tuple(Standing(one.pooled_f1(levels) if levels else one.overlap, bool(levels)) for one in comparisons)


def matches(fp32: Detections, int8: Detections) -> int:
    """Return how many detections of INT8 have one of FP32 to themselves: same class, IoU of at least MATCH_IOU."""
    overlaps = iou_matrix(int8.boxes_xyxy, fp32.boxes_xyxy)
    overlaps[int8.class_ids[:, None] != fp32.class_ids[None, :]] = 0
    count = 0
    for row in overlaps:  # strongest first
        best = int(row.argmax()) if row.size else -1
        if best >= 0 and row[best] >= MATCH_IOU:
            count += 1
            overlaps[:, best] = 0
    return count


def _at_least(detections: Detections, score: float) -> Detections:
    kept = detections.scores >= score
    return Detections(
        detections.boxes_xyxy[kept], detections.scores[kept], detections.class_ids[kept], detections.names
    )


def _strongest(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the flat indices of the best class of the STRONGEST anchors."""
    class_count = scores.shape[1]
    best = scores.argmax(axis=1)
    values = scores[np.arange(len(scores)), best]
    anchors = np.argsort(-values, kind="stable")[:STRONGEST]
    flat: NDArray[np.intp] = anchors * class_count + best[anchors]
    return flat
