import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.errors import QuantizationError
from mecha.quantize import observe as observation
from mecha.quantize.observe import Observed, observe, sampling_step, with_extremes, with_samples
from mecha.quantize.plan import Planner
from tests.graph.networks import Network, image, run, yolov8_network

NOT_FINITE = "The FP32 model itself overflows on these frames; check its preprocessing preset."


class Images:
    """Input tensors that can be gone through again, and how often they were."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.rounds = 0

    def __call__(self) -> Iterator[NDArray[np.float32]]:
        self.rounds += 1
        return (image(seed=number) for number in range(self.count))


def look(model: onnx.ModelProto, tensors: tuple[str, ...], inputs: Images, *, histograms: bool = True) -> Observed:
    return observe(model, tensors, inputs, histograms=histograms, threads=1, on_frame=lambda: None)


def values_of(model: onnx.ModelProto, tensors: tuple[str, ...], inputs: Images) -> list[list[NDArray[np.float32]]]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return [run(shown, tensor)[1:] for tensor in inputs()]


def test_extremes_are_those_of_each_tensor_in_each_frame() -> None:
    model = yolov8_network()
    tensors = Planner(model).plan().observed
    inputs = Images()
    found = look(model, tensors, inputs, histograms=False)
    assert (found.tensors, inputs.rounds, dict(found.histograms)) == (tensors, 1, {})
    frames = values_of(model, tensors, Images())
    np.testing.assert_allclose(found.lows, [[value.min() for value in frame] for frame in frames], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        found.highs, [[value.max() for value in frame] for frame in frames], rtol=1e-4, atol=1e-4
    )


def test_the_second_pass_counts_every_value_of_small_tensors() -> None:
    model = yolov8_network()
    tensors = Planner(model).plan().observed
    inputs, told = Images(), []
    found = observe(model, tensors, inputs, histograms=True, threads=1, on_frame=lambda: told.append(1))
    assert (inputs.rounds, len(told)) == (2, 6)
    frames = values_of(model, tensors, Images())
    for at, name in enumerate(tensors):
        values = np.sort(np.concatenate([frame[at].ravel() for frame in frames]))
        centres, counts = found.histograms[name].values()
        assert counts.sum() == len(values)
        slack = found.histograms[name].width
        np.testing.assert_allclose(np.repeat(centres, counts), values, atol=slack + 1e-4)


def test_of_large_tensors_a_share_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "SAMPLES_PER_FRAME", 100)
    model = yolov8_network()
    tensors = Planner(model).plan().observed
    found = look(model, tensors, Images(1))
    sizes = [value.size for value in values_of(model, tensors, Images(1))[0]]
    assert max(sizes) > 1000
    for name, size in zip(tensors, sizes, strict=True):
        assert found.histograms[name].counts.sum() == -(-size // sampling_step(size)) <= 100


@given(st.integers(1, 10**8))
def test_samples_are_few_and_touch_every_column(size: int) -> None:
    step = sampling_step(size)
    assert -(-size // step) <= observation.SAMPLES_PER_FRAME
    assert np.gcd(step, size) == 1


def test_the_samples_are_values_of_the_tensor() -> None:
    model = yolov8_network()
    tensors = Planner(model).plan().observed
    sampled = run(with_samples(model, tensors, [7] * len(tensors)), image())
    for samples, whole in zip(sampled, values_of(model, tensors, Images(1))[0], strict=True):
        np.testing.assert_allclose(samples, whole.ravel()[::7], rtol=1e-4, atol=1e-4)


def test_what_a_run_of_the_first_pass_gives_back_does_not_grow_with_the_image() -> None:
    model = yolov8_network()
    outputs = run(with_extremes(model, Planner(model).plan().observed), image())
    assert {output.size for output in outputs} == {1}


def with_values(op_type: str, factor: float) -> tuple[onnx.ModelProto, str]:
    net = Network(activation="none")
    last = net.add(op_type, net.add("Mul", net.conv("images", 3, 4), net.const(factor)))
    return net.model({last: (1, 4, 64, 64)}), last


@pytest.mark.parametrize(("op_type", "factor"), [("Exp", 1e6), ("Sqrt", 1.0)])
def test_a_tensor_that_holds_infinity_or_nan_is_named(op_type: str, factor: float) -> None:
    model, name = with_values(op_type, factor)
    with pytest.raises(QuantizationError) as refusal:
        look(model, (name,), Images(), histograms=False)
    assert str(refusal.value) == f"calibration: tensor {name} holds values that are not finite; expected numbers"
    assert refusal.value.hint == NOT_FINITE


def test_one_nan_among_many_values_is_seen() -> None:
    """onnxruntime's ReduceMin and ReduceMax pass over it."""
    model = yolov8_network()
    (name, *_) = Planner(model).plan().observed
    spoilt = image()
    spoilt[0, 0, 5, 5] = np.nan
    with pytest.raises(QuantizationError, match=r"calibration: tensor \S+ holds values that are not finite"):
        observe(model, (name,), lambda: [spoilt], histograms=False, threads=1, on_frame=lambda: None)


def test_no_frame_is_refused() -> None:
    model = yolov8_network()
    with pytest.raises(QuantizationError) as refusal:
        look(model, Planner(model).plan().observed, Images(0))
    assert str(refusal.value) == "calibration: got no frame; expected at least one"


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is read with getrusage")
def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    """One frame's observed tensors take over 1 MB: were they kept, 112 frames more would show."""
    program = (
        "import resource, sys\n"
        "from mecha.quantize.observe import observe\n"
        "from mecha.quantize.plan import Planner\n"
        "from tests.graph.networks import image, yolov8_network\n"
        "model = yolov8_network()\n"
        "tensors = Planner(model).plan().observed\n"
        "for frames in (16, 128):\n"
        "    inputs = lambda: (image(seed=number) for number in range(frames))\n"
        "    observe(model, tensors, inputs, histograms=True, threads=1, on_frame=lambda: None)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    few, many = (int(line) for line in done.stdout.split())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kB elsewhere
    assert (many - few) / unit < 16
