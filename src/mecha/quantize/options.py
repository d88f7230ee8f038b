"""What can be chosen about a static INT8 build."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mecha.quantize.ranges import PERCENTILE, Scheme

Target = Literal["auto", "x86_64", "x86_64-vnni", "arm64"]


@dataclass(frozen=True, slots=True)
class RangeChoice:
    """How the range of one tensor is found, where it is not as everywhere.

    Attributes:
        method: None as everywhere.
        percentile: of the method "percentile".
    """

    method: str | None = None
    percentile: float = PERCENTILE


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """How static INT8 is made.

    Attributes:
        range: how the range of a tensor is found; "auto" chooses by the error of the outputs.
        percentile: of the range method "percentile": the share of values, of 100, below the upper end.
        tensor_ranges: by tensor, how its range is found where it is not as everywhere.
        z_threshold: what lies farther from the mean than so many standard deviations is left out of every range.
        exclude_nodes: nodes that stay float.
        truncate: tensors after which everything stays float, besides the decode tail.
        scheme: form of the scales.
        leave_float: names of further Convs that stay float with their activations.
        equalization: spread the channels of a tensor evenly where the activation allows it.
        rounding: round weights by reconstruction, not each to its nearest integer.
        bias_correction: take the mean error off each bias.
        mixed_precision: leave float what does most harm.
        max_accuracy_drop: the relative loss of accuracy that mixed precision aims at; see `Judge.near_enough`.
        largest_cost: the share of the time saved by INT8 that it may spend on what stays float.
        target: the kind of CPU that the integers are laid out for; "auto" is this one.
    """

    range: str = "auto"
    percentile: float = PERCENTILE
    tensor_ranges: Mapping[str, RangeChoice] = field(default_factory=dict)
    z_threshold: float | None = None
    exclude_nodes: tuple[str, ...] = ()
    truncate: tuple[str, ...] = ()
    scheme: Scheme = "uniform"
    leave_float: tuple[str, ...] = ()
    equalization: bool = True
    rounding: bool = True
    bias_correction: bool = True
    mixed_precision: bool = True
    max_accuracy_drop: float = 0.01
    largest_cost: float = 0.12
    target: Target = "auto"
