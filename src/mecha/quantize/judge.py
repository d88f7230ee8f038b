"""What a build is judged by: how far INT8's outputs are from FP32's, without labels.

A detector that mecha can decode is judged where its objects are. Most places of a frame are background: measured over
all of them, narrow ranges look good that cut off the strong activations objects are made of. Anything else is judged by
the tensors that enter its decode tail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Decoder, DecodeTarget
from mecha.detect.decode.registry import DECODABLE, planner_of
from mecha.graph.cut import find_tail

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.store.spec import ModelSpec

Outputs = list[NDArray[np.float32]]
"""What a session gives for one frame."""
Comparison = Callable[[Sequence[Outputs]], float]
"""Takes INT8's outputs for the frames, and returns their error."""

# As many as the gate looks at.
_STRONGEST = 100
# A box that is off by 5 % of its side loses a tenth of its IoU, and a match at high IoU with it; a score that is off by
# 5 % changes next to nothing.
_BOX_WEIGHT = 4.0
# By this much of the accepted loss of mAP: builds at 0.003 lost 0.2 to 0.8 % (four models, 94 photos).
_OBJECT_ERROR = 0.3
# Below this the FP32 model gives the same everywhere, and any error would count as endless.
_LEAST_SIGNAL = 1e-12


class Judge(Protocol):
    """Compares outputs.

    Attributes:
        tensors: where the graph is cut for it.
    """

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that it reads, in this order."""
        ...

    def near_enough(self, max_accuracy_drop: float) -> float:
        """Return the error below which a build is as near to FP32 as the accepted loss of accuracy asks."""
        ...

    def against(self, expected: Sequence[Outputs]) -> Comparison:
        """Return what compares outputs with FP32's."""
        ...


def judge_of(model: "ModelProto", spec: "ModelSpec") -> Judge:
    """Return the judge of a model of one input size."""
    if spec.family in DECODABLE:
        target = DecodeTarget(spec.input.height, spec.input.width, len(spec.classes), where=spec.name)
        plan = planner_of(spec.family, where=spec.name)(model, target)
        if plan.tensors:
            return ObjectJudge(plan.tensors, plan.decoder)
    return TailJudge(find_tail(model).boundary)


@dataclass(frozen=True, slots=True, eq=False)
class TailJudge:
    """Noise power over signal power, the mean of all tensors that enter the decode tail.

    The signal is what differs from place to place: class logits sit on a constant far larger than themselves.
    """

    tensors: tuple[str, ...]

    def near_enough(self, max_accuracy_drop: float) -> float:
        """Return the same number: noise over signal is not a loss of accuracy, but grows with it."""
        return max_accuracy_drop

    def against(self, expected: Sequence[Outputs]) -> Comparison:
        """Return what compares outputs with FP32's."""

        def error(got: Sequence[Outputs]) -> float:
            count = len(expected[0])
            noise, signal = np.zeros(count), np.zeros(count)
            for wanted_frame, got_frame in zip(expected, got, strict=True):
                for at, (wanted, value) in enumerate(zip(wanted_frame, got_frame, strict=True)):
                    noise[at] += float(np.square(value - wanted).sum())
                    signal[at] += _spread(wanted)
            return float((noise / np.maximum(signal, _LEAST_SIGNAL)).mean())

        return error


@dataclass(frozen=True, slots=True, eq=False)
class ObjectJudge:
    """Error of scores and boxes at the 100 strongest (anchor, class) pairs of FP32 and the 100 strongest of INT8.

    The sum of two ratios: power of the score errors over power of the scores; four times the power of the box errors,
    in sides of the box, weighed by FP32's score.

    Attributes:
        tensors: what the decoder reads.
    """

    tensors: tuple[str, ...]
    decoder: Decoder

    def near_enough(self, max_accuracy_drop: float) -> float:
        """Return the error of builds that lost at most this share of their mAP."""
        return _OBJECT_ERROR * max_accuracy_drop

    def against(self, expected: Sequence[Outputs]) -> Comparison:
        """Return what compares outputs with FP32's."""
        frames = [_Strong.of(*self.decoder.raw(outputs)) for outputs in expected]

        def error(got: Sequence[Outputs]) -> float:
            parts = sum(frame.errors(*self.decoder.raw(outputs)) for frame, outputs in zip(frames, got, strict=True))
            scores, signal, boxes, weight = np.maximum(parts, [0, _LEAST_SIGNAL, 0, _LEAST_SIGNAL])
            return float(scores / signal + _BOX_WEIGHT * boxes / weight)

        return error


@dataclass(frozen=True, slots=True, eq=False)
class _Strong:
    """FP32's outputs for one frame, and where its strongest scores are."""

    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    strongest: NDArray[np.intp]

    @classmethod
    def of(cls, scores: NDArray[np.float32], boxes_xyxy: NDArray[np.float32]) -> "_Strong":
        return cls(scores, boxes_xyxy, _strongest(scores, -np.inf))

    def errors(self, scores: NDArray[np.float32], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return power of score errors, power of scores, weighed power of box errors, sum of weights."""
        # The strongest are no weaker than as many others, so only those are looked at.
        floor = scores.reshape(-1)[self.strongest].min(initial=np.inf)
        pairs = np.union1d(self.strongest, _strongest(scores, floor))
        wanted, got = self.scores.reshape(-1)[pairs], scores.reshape(-1)[pairs]
        weights = self.scores.reshape(-1)[self.strongest]
        anchors = self.strongest // scores.shape[1]
        boxes = self.boxes_xyxy[anchors]
        sides = np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0), 2)
        # A box that went astray is not found any more, however far it went.
        off = np.square(np.clip((boxes_xyxy[anchors] - boxes) / sides, -1, 1)).sum(axis=1)
        return np.array(
            [np.square(wanted - got).sum(), np.square(wanted).sum(), weights @ off, weights.sum()], dtype=np.float64
        )


def _spread(tensor: NDArray[np.float32]) -> float:
    """Return the power of a tensor (1, channels, …) without the mean of each channel."""
    places = tuple(range(2, tensor.ndim))
    return float(np.square(tensor - tensor.mean(axis=places, keepdims=True)).sum())


def _strongest(scores: NDArray[np.float32], floor: float) -> NDArray[np.intp]:
    """Return where the strongest scores are, of those that are not below a floor."""
    flat = scores.reshape(-1)
    places = np.flatnonzero(flat >= floor)
    if places.size <= _STRONGEST:
        return places
    return places[np.argpartition(flat[places], -_STRONGEST)[-_STRONGEST:]]
