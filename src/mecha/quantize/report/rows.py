"""What a report holds: numbers of tensors and blocks, and pictures; no way of writing them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mecha.store.manifest import Int8Record
from mecha.store.spec import ModelSpec

# As PPQ and xquant mark them. Noise over signal: 0.1 is 10 dB.
WORST_SNR = 0.1
LEAST_COSINE = 0.99

Kind = Literal["activation", "constant", "output"]


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor of both models, compared over all frames.

    Attributes:
        node, op_type: what makes the tensor; for a constant, what reads it.
        tensor: its name in the FP32 model.
        kind: "constant" for weights, "output" for what the model gives, else "activation".
        stored: the INT8 file holds it in integers.
        snr: power of the difference over power of the FP32 values; 0 where both are equal, lower is better.
        mse: mean squared difference.
        cosine: of the angle between both, 1 where they point the same way.
        int8_range, fp32_range: smallest and largest value.
        histogram: how many FP32 values lie in each of equal parts of fp32_range; of a sample where there are many.
    """

    node: str
    op_type: str
    tensor: str
    kind: Kind
    stored: bool
    snr: float
    mse: float
    cosine: float
    int8_range: tuple[float, float]
    fp32_range: tuple[float, float]
    histogram: tuple[int, ...]

    @property
    def sqnr_db(self) -> float | None:
        """Signal over noise in decibels, higher is better; None where there is no noise."""
        return -10 * math.log10(self.snr) if self.snr > 0 else None

    @property
    def marked(self) -> bool:
        """The error is too large for comfort."""
        return self.snr > WORST_SNR or self.cosine < LEAST_COSINE


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A part of the model and its time in either precision, the files run whole.

    Attributes:
        convs: how many Convs it holds; integer_convs: how many of them the INT8 file stores in integers.
        fp32_ms, int8_ms: milliseconds a frame, of the fastest runs.
    """

    name: str
    convs: int
    integer_convs: int
    fp32_ms: float
    int8_ms: float

    @property
    def precision(self) -> str:
        """What the block runs in: INT8, float or both; empty without a Conv."""
        if not self.convs:
            return ""
        if not self.integer_convs:
            return "float"
        return "INT8" if self.integer_convs == self.convs else f"INT8, {self.convs - self.integer_convs} float"


@dataclass(frozen=True, slots=True)
class FloatConv:
    """A Conv that is not in integers.

    Attributes:
        place: where it stands: "tail", "last", "first" or "body".
    """

    name: str
    place: Literal["tail", "last", "first", "body"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame with the boxes of either precision, JPEG.

    Attributes:
        width, height: of both pictures, pixels.
        fp32_count, int8_count: detections at the threshold.
    """

    width: int
    height: int
    fp32_count: int
    int8_count: int
    fp32_jpeg: bytes
    int8_jpeg: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured for a report.

    Attributes:
        tensors: worst first.
        blocks: in graph order.
        float_convs: in graph order.
        threshold: weakest score that is drawn in the samples.
        frames: how many the tensors were compared on; frames_description: all those they were taken from.
        skipped: tensors that could not be compared, because they hold values that are not finite.
    """

    tensors: tuple[TensorRow, ...]
    blocks: tuple[BlockRow, ...]
    float_convs: tuple[FloatConv, ...]
    samples: tuple[Sample, ...]
    threshold: float
    frames: int
    frames_description: str
    threads: int
    skipped: tuple[str, ...] = ()

    @property
    def marked(self) -> int:
        """How many tensors are marked."""
        return sum(row.marked for row in self.tensors)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a build besides the report.

    Attributes:
        record: of the build, as in the manifest.
        created: ISO 8601 time, UTC.
        tools: versions by package.
        device: of the build, by key.
        fault: why nothing was measured, empty where it was.
    """

    spec: ModelSpec
    record: Int8Record
    created: str
    fp32_bytes: int
    int8_bytes: int
    tools: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str | int] = field(default_factory=dict)
    fault: str = ""

    @property
    def size_ratio(self) -> float:
        """Bytes of INT8 over bytes of FP32."""
        return self.int8_bytes / self.fp32_bytes
