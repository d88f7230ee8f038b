"""`range = "auto"`: the range of each tensor by the method that does least harm at the outputs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mecha.quantize.built import Gain
from mecha.quantize.histogram import Histogram
from mecha.quantize.probe import Probe, Recipe
from mecha.quantize.ranges import Range, Scheme
from mecha.quantize.ranges_by_error import rounding_errors

# What the others are measured against: it clips next to nothing that stands for an object.
FIRST_METHOD = "most_frames"
# Tried for all tensors at once, and all of these for single tensors. Entropy and mae were best for some tensors of
# yolov5n and yolox_nano, and far off for all of them together.
WHOLE_METHODS = ("mean_minmax", "minmax", "percentile", "mse")
METHODS = (FIRST_METHOD, *WHOLE_METHODS, "mae", "entropy")
# A narrower range that looks better on the few frames of the judge can cut off what stronger objects need: chosen for a
# fifth of the error on built-in scenes, it cost yolo11n 3 % of its mAP, for half of it an F1 of 0.02. What it is worth
# must be plain.
LEAST_GAIN_OF_ALL = 0.67
# The tensors that lose most of themselves are tried one by one; the others hardly reach the outputs.
TENSORS_TRIED = 5
# What gains less is noise of the few frames it is measured on.
LEAST_GAIN = 0.02
_ALIKE = 0.02


def choose_method(
    probe: Probe, recipe: Recipe, range_by: Callable[[str, str], Range], tensors: Sequence[str]
) -> tuple[Recipe, tuple[Gain, ...]]:
    """Return the recipe with the best method for all tensors, and what was tried.

    Args:
        recipe: with the ranges of FIRST_METHOD.
        range_by: the range of a root tensor by a method.
        tensors: root tensors.
    """
    first = error = probe.error(recipe)
    gains: list[Gain] = []
    best = recipe
    for method in WHOLE_METHODS:
        ranges = {name: range_by(name, method) for name in tensors}
        tried = replace(recipe, ranges={**recipe.ranges, **ranges})
        found = probe.error(tried)
        gains.append(Gain(f"range {method}", first, found, kept=False))
        if found < min(error, first * (1 - LEAST_GAIN_OF_ALL)):
            best, error = tried, found
            gains = [replace(gain, kept=gain is gains[-1]) for gain in gains]
    return best, tuple(gains)


def choose_single(
    probe: Probe, recipe: Recipe, range_by: Callable[[str, str], Range], worst: Sequence[str]
) -> tuple[Recipe, Gain]:
    """Return the recipe with the best method for each of the tensors that lose most of themselves.

    Args:
        worst: root tensors, the one that loses most first.
    """
    before = error = probe.error(recipe)
    for tensor in worst[:TENSORS_TRIED]:
        recipe, error = _best_of(probe, recipe, error, tensor, [range_by(tensor, method) for method in METHODS])
    return recipe, Gain("range of single tensors", before, error, kept=error < before)


def _best_of(
    probe: Probe, recipe: Recipe, error: float, tensor: str, candidates: Sequence[Range]
) -> tuple[Recipe, float]:
    tried = [recipe.ranges[tensor]]
    for candidate in candidates:
        if any(_alike(candidate, other) for other in tried):
            continue
        tried.append(candidate)
        other = replace(recipe, ranges={**recipe.ranges, tensor: candidate})
        found = probe.error(other)
        if found < error * (1 - LEAST_GAIN):
            recipe, error = other, found
    return recipe, error


def _alike(one: Range, other: Range) -> bool:
    width = max(one.high - one.low, other.high - other.low)
    return max(abs(one.low - other.low), abs(one.high - other.high)) <= _ALIKE * width


def lost_share(histogram: Histogram, values: Range, *, scheme: Scheme) -> float:
    """Return which share of a tensor's variance is lost when it is stored as integers: noise power over signal power.

    Args:
        histogram: of the tensor.
        values: its range.
    """
    centres, counts = histogram.values()
    if len(centres) < 2:  # noqa: PLR2004
        return 0.0
    lows, highs = np.array([min(values.low, 0.0)]), np.array([max(values.high, 0.0)])
    weights = counts.astype(np.float64)
    noise = rounding_errors(centres, weights, lows, highs, power=2, scheme=scheme)[0]
    signal = np.square(centres - np.average(centres, weights=weights)) @ weights
    return float(noise / signal) if signal > 0 else 0.0
