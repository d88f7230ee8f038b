"""What every family's decoder gives, and the small arithmetic they share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mecha.errors import UnsupportedModelError

# exp() of more overflows float32.
_LARGEST_EXPONENT = 88.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes that passed the score threshold, before suppression, in the order of the anchors.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the model's input, not clipped.
        scores: (N,) float32, 0 to 1.
        class_ids: (N,) int32.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]


class Decoder(Protocol):
    """Reads the outputs of one graph.

    Attributes:
        overlapping: one object gives several boxes, so that the weaker ones must be suppressed.
    """

    overlapping: bool

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return the boxes whose best class scores at least `score_threshold`, that class and its score.

        Args:
            outputs: of the session.
            score_threshold: 0 to 1.
            every_class: return a box once for each class that passes, not only for the best.
        """
        ...

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores (A, classes) 0 to 1 and boxes_xyxy (A, 4) in input pixels of all A anchors; slow."""
        ...

    def at(self, height: int, width: int) -> Self:
        """Return what reads the outputs of the same graph for an input of another size, pixels."""
        ...


@dataclass(frozen=True, slots=True)
class DecodeTarget:
    """What decoding must know besides the graph.

    Attributes:
        height, width: of the model's input, pixels.
        class_count: 0 where the model's description names no class.
        where: what messages call the model.
    """

    height: int
    width: int
    class_count: int
    where: str = "model"


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """How a graph is read.

    Attributes:
        tensors: where the graph is cut; empty when it runs whole.
        decoder: reads these tensors, or the whole graph's outputs.
    """

    tensors: tuple[str, ...]
    decoder: Decoder


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), without overflow."""
    scores = 1 / (1 + np.exp(-np.clip(logits, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)))
    return scores.astype(np.float32, copy=False)


def logit(score: float) -> float:
    """Return the x for which sigmoid(x) is `score`; infinite for 0 and 1."""
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


def passing(
    by_class: NDArray[np.float32], threshold: float, *, every_class: bool
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]:
    """Return anchors, class ids and values of what is at least `threshold`, ordered by anchor, then class.

    Args:
        by_class: (classes, anchors) scores or logits.
        threshold: in the unit of `by_class`.
        every_class: all classes of an anchor that pass, not only its best.
    """
    # One maximum an anchor is the only work that is done on all of them.
    anchors = np.flatnonzero(by_class.max(axis=0) >= threshold)
    kept = by_class[:, anchors]
    if every_class:
        passes = kept >= threshold
        positions, class_ids = np.nonzero(passes.T)
    else:
        positions, class_ids = np.arange(anchors.size), kept.argmax(axis=0)
    return anchors[positions], class_ids.astype(np.int32), kept[class_ids, positions]


def corners(centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x1 y1 x2 y2 of boxes (N, 4) given as centre x, centre y, width, height."""
    middle, half = centres[:, :2], centres[:, 2:4] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def require_output(got: Sequence[int], expected: Sequence[int | str], *, family: str, where: str) -> None:
    """Compare the shape of an output with what the decoder of a family reads; texts stand for any size.

    Raises:
        UnsupportedModelError: it is another shape.
    """
    fits = len(got) == len(expected) and all(
        isinstance(want, str) or size == want for size, want in zip(got, expected, strict=True)
    )
    if not fits:
        raise unreadable(got, expected, family=family, where=where)


def unreadable(got: Sequence[int], expected: Sequence[int | str], *, family: str, where: str) -> UnsupportedModelError:
    """Return what says that an output is none of this family's."""
    seen, wanted = (", ".join(map(str, shape)) for shape in (got, expected))
    return UnsupportedModelError(
        f"{where}: got an output of shape [{seen}]; expected [{wanted}], as the family {family} has",
        hint="Leave `family` out of the catalog entry, so that it is found from the model, and check the labels.",
    )


def concatenated(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several levels as one, levels in the order given."""
    if not parts:
        return Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
    return Candidates(
        boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        class_ids=np.concatenate([part.class_ids for part in parts]),
    )
