from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.errors import QuantizationError
from mecha.quantize import calibrate
from mecha.quantize.calibrate import find_ranges, with_extremes
from mecha.quantize.plan import make_plan
from tests.graph.networks import Network, image, run, yolov8_network


class Images:
    """Input tensors that can be gone through again, and how often they were."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.rounds = 0

    def __call__(self) -> Iterator[NDArray[np.float32]]:
        self.rounds += 1
        return (image(seed=number) for number in range(self.count))


def values_of(model: onnx.ModelProto, tensors: tuple[str, ...], inputs: Images) -> list[list[NDArray[np.float32]]]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return [run(shown, tensor)[1:] for tensor in inputs()]


@pytest.mark.parametrize("method", ["mean_minmax", "minmax"])
def test_extremes_are_those_of_the_tensors(method: str) -> None:
    model = yolov8_network()
    tensors = make_plan(model).observed
    inputs = Images()
    ranges = find_ranges(model, tensors, inputs, method=method, threads=1, on_frame=lambda: None)
    assert inputs.rounds == 1
    frames = values_of(model, tensors, Images())
    for at, name in enumerate(tensors):
        lows, highs = ([float(take(frame[at])) for frame in frames] for take in (np.min, np.max))
        join = np.mean if method == "mean_minmax" else None
        expected = (join(lows), join(highs)) if join else (min(lows), max(highs))
        assert (ranges[name].low, ranges[name].high) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_percentiles_take_a_second_look_at_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model = yolov8_network()
    tensors = make_plan(model).observed
    inputs, seen = Images(), []
    found = find_ranges(model, tensors, inputs, method="percentile", threads=1, on_frame=lambda: seen.append(1))
    assert (inputs.rounds, len(seen)) == (2, 6)
    widest = find_ranges(model, tensors, Images(), method="minmax", threads=1, on_frame=lambda: None)
    for name in tensors:
        assert widest[name].low - 1e-5 <= found[name].low <= found[name].high <= widest[name].high + 1e-5
    monkeypatch.setattr(calibrate, "_LARGEST_RUN_BYTES", 100_000)
    chunked = Images()
    again = find_ranges(model, tensors, chunked, method="percentile", threads=1, on_frame=lambda: None)
    assert chunked.rounds > 3  # few tensors at a time: more runs, the same ranges
    for name in tensors:
        assert (again[name].low, again[name].high) == pytest.approx((found[name].low, found[name].high), rel=1e-3)


def test_what_a_calibration_run_gives_back_does_not_grow_with_the_image() -> None:
    model = yolov8_network()
    outputs = run(with_extremes(model, make_plan(model).observed), image())
    assert {output.size for output in outputs} == {1}


def test_a_tensor_that_overflows_is_named() -> None:
    net = Network(activation="none")
    huge = net.add("Exp", net.add("Mul", net.conv("images", 3, 4), net.const(1e6)))
    model = net.model({huge: (1, 4, 64, 64)})
    with pytest.raises(QuantizationError) as refusal:
        find_ranges(model, (huge,), Images(), method="minmax", threads=1, on_frame=lambda: None)
    assert str(refusal.value) == f"calibration: tensor {huge} holds values that are not finite; expected numbers"


def test_no_frame_is_refused() -> None:
    model = yolov8_network()
    with pytest.raises(QuantizationError, match="calibration: got no frame; expected at least one"):
        find_ranges(model, make_plan(model).observed, Images(0), method="minmax", threads=1, on_frame=lambda: None)
