"""What a static build works with, made of a small network and a few input tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from mecha.quantize.calibrate import Observed, observe, range_of
from mecha.quantize.judge import TailJudge
from mecha.quantize.plan import Planner
from mecha.quantize.probe import Probe, Recipe, Writer
from mecha.quantize.qdq import Storage
from mecha.quantize.ranges import Range
from tests.graph.networks import image, yolov8_network


def images(count: int = 3, *, start: int = 0) -> list[NDArray[np.float32]]:
    return [image(seed=number) for number in range(start, start + count)]


def with_a_hot_channel(conv: int = 1, factor: float = 400.0) -> tuple[onnx.ModelProto, list[str]]:
    """A detector one of whose Convs makes values far beyond all others in a single channel, which nobody reads much.

    Returns:
        It, and the names of its Convs.
    """
    model = yolov8_network(seed=3)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for position, axis, by in ((conv, 0, factor), (conv + 1, 1, 1 / factor)):
        tensor = tensors[convs[position].input[1]]
        weights = onnx.numpy_helper.to_array(tensor).copy()
        np.moveaxis(weights, axis, 0)[0] *= by
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    return model, [node.name for node in convs]


@dataclass(frozen=True)
class Bench:
    """A probe of one model, a recipe without any technique, and what was observed."""

    planner: Planner
    probe: Probe
    recipe: Recipe
    observed: Observed

    def range_by(self, tensor: str, method: str) -> Range:
        return range_of(self.observed, tensor, method)


def bench_of(
    model: onnx.ModelProto,
    *,
    learned: Sequence[NDArray[np.float32]] | None = None,
    judged: Sequence[NDArray[np.float32]] | None = None,
    method: str = "mean_minmax",
) -> Bench:
    """Look at the learned inputs, and judge on others."""
    planner = Planner(model)
    plan = planner.plan()
    seen = images() if learned is None else list(learned)
    observed = observe(model, plan.observed, lambda: iter(seen), histograms=True, threads=1, on_frame=lambda: None)
    ranges = {name: range_of(observed, name, method) for name in plan.observed}
    writer = Writer(planner, lambda left: planner.plan(leave_float=left), Storage("uint8", 8))
    judges = images(2, start=50) if judged is None else list(judged)
    judge = TailJudge(planner.tail.boundary)
    probe = Probe(model, writer, judge, judges, threads=1, on_probe=lambda _: None)
    return Bench(planner, probe, Recipe(ranges | dict.fromkeys(plan.unit, Range(0.0, 1.0))), observed)
