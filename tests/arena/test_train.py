"""Training, in small: a few steps on eight scenes, by the documented command."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")


def test_the_command_trains_and_writes_a_model_with_the_right_signature(tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    small = ("--scenes", "8", "--epochs", "1", "--batch", "4", "--threads", "1", "--float32")
    program = [sys.executable, "-m", "mecha.arena.train", "--out", str(out), "--seed", "3", *small]
    subprocess.run(program, check=True, capture_output=True, text=True, timeout=240)
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    frame = np.random.default_rng(0).random((1, 3, 320, 320), np.float32)
    output = session.run(["output0"], {"images": frame})[0]
    assert output.shape == (1, 8, 2100)
    assert np.isfinite(output).all()
    assert (output[0, 4:] >= 0).all()
    assert (output[0, 4:] <= 1).all()
    assert out.stat().st_size <= 1_500_000
    assert list(tmp_path.iterdir()) == [out]


class StopsAtTheTwentiethLook(list[Any]):
    """The boxes of a shelf, which interrupt the training in the second epoch (each epoch looks twice at each scene)."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        if self.looks == 20:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_training_that_was_interrupted_goes_on_from_its_checkpoint_to_the_same_model(tmp_path: Path) -> None:
    from mecha.arena.train import Recipe
    from mecha.arena.train import train as train_on
    from mecha.arena.training.data import render_shelf

    shelf = render_shelf(tmp_path / "scenes", 0, 8, 1)
    recipe = Recipe(seed=0, scenes=8, epochs=2, batch=4, rate=1e-3, threads=1, bf16=False)
    whole = train_on(recipe, shelf)
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train_on(recipe, replace(shelf, boxes=StopsAtTheTwentiethLook(shelf.boxes)), checkpoint)
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
    resumed = train_on(recipe, shelf, checkpoint)
    for ours, theirs in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_loss_of_a_right_box_is_nought() -> None:
    from mecha.arena.training.loss import Truth, losses
    from mecha.arena.training.network import BINS

    truth = Truth(torch.tensor([[[100.0, 100, 180, 196]]]), torch.tensor([[2]]), torch.tensor([[True]]))
    wrong = [torch.full((1, 4 * BINS + 4, cells, cells), -4.0) for cells in (40, 20, 10)]
    right = [level.clone() for level in wrong]
    for level, stride in zip(right, (8, 16, 32), strict=True):
        centre = (torch.arange(level.shape[2]) + 0.5) * stride
        x, y = torch.meshgrid(centre, centre, indexing="xy")
        for side, distance in enumerate((x - 100, y - 100, 180 - x, 196 - y)):
            place = (distance / stride).clamp(0, BINS - 1)
            bins = torch.arange(BINS)[:, None, None]
            level[0, side * BINS : (side + 1) * BINS] = torch.log((1 - (bins - place).abs()).clamp(min=1e-6))
    good, bad = losses(right, truth, 4), losses(wrong, truth, 4)
    assert float(good.box) < 0.01
    assert float(good.bins) < float(bad.bins)
