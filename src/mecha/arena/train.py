"""Trains the embedded model: `python -m mecha.arena.train --out arena-n.onnx --seed 0`.

Needs PyTorch (`pip install mecha[train]`). The same options on the same machine give the same model: scenes, order,
variations and first weights all come from the seed.
"""

import argparse
import logging
import math
import os
import tempfile
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mecha.arena.labels import CLASS_NAMES
from mecha.arena.training.data import Shelf, batches, render_shelf
from mecha.arena.training.export import export
from mecha.arena.training.loss import losses
from mecha.arena.training.network import ArenaNet

_LOG = logging.getLogger("mecha.arena.train")

_WARM_UP_STEPS = 200
_LAST_RATE = 0.01  # of the highest
_AVERAGE_STEPS = 500  # of the moving average of the weights


@dataclass(frozen=True)
class Recipe:
    """All that the trained weights depend on, besides the machine.

    Attributes:
        seed: of scenes, order, variations and first weights.
        scenes: how many are rendered, then seen once an epoch.
        epochs: passes over the scenes.
        batch: scenes a step.
        rate: the highest learning rate; it rises for 200 steps, then falls along a cosine.
        threads: of PyTorch. One by default: where other programs share the cores, threads wait for each other by
            spinning, and an epoch of 186 s took 923 s with two.
        bf16: compute convolutions in bfloat16 (weights, sums and losses stay float32).
    """

    seed: int
    scenes: int
    epochs: int
    batch: int
    rate: float
    threads: int
    bf16: bool


def train(recipe: Recipe, shelf: Shelf, checkpoint: Path | None = None) -> ArenaNet:
    """Train a network on `shelf` and return its averaged weights.

    Args:
        recipe: how.
        shelf: the rendered scenes.
        checkpoint: a file written after each epoch; when it exists, training goes on where it left off.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    net = ArenaNet(len(CLASS_NAMES))
    for weight in net.parameters():
        if weight.ndim == 4:  # noqa: PLR2004 - kernels; this layout is twice as quick on CPUs
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    average = deepcopy(net)
    optimizer = torch.optim.AdamW(_weight_groups(net), lr=recipe.rate)
    steps_per_epoch = len(shelf.boxes) // recipe.batch
    first_epoch = _resume(checkpoint, net, average, optimizer)
    for epoch in range(first_epoch, recipe.epochs):
        started = time.monotonic()
        rng = np.random.default_rng([recipe.seed, epoch])
        sums = torch.zeros(3)
        for index, (frames, truth) in enumerate(batches(shelf, recipe.batch, rng)):
            step = epoch * steps_per_epoch + index
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * _schedule(step, recipe.epochs * steps_per_epoch)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                levels = net(frames.contiguous(memory_format=torch.channels_last))
            parts = losses(levels, truth, len(CLASS_NAMES))
            optimizer.zero_grad()
            parts.total().backward()  # type: ignore[no-untyped-call, unused-ignore]  # untyped in PyTorch
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            _follow(average, net, step)
            sums += torch.stack([parts.box, parts.kind, parts.bins]).detach()
        box, kind, bins = (sums / steps_per_epoch).tolist()
        seconds = time.monotonic() - started
        _LOG.info(
            "epoch %d/%d: box %.3f class %.3f bins %.3f, %.0f s", epoch + 1, recipe.epochs, box, kind, bins, seconds
        )
        if checkpoint is not None:
            state = {"epoch": epoch + 1, "net": net.state_dict(), "average": average.state_dict()}
            draft = checkpoint.with_name(checkpoint.name + ".draft")
            torch.save({**state, "optimizer": optimizer.state_dict()}, draft)
            draft.replace(checkpoint)
    average.eval()
    return average


def _resume(checkpoint: Path | None, net: ArenaNet, average: ArenaNet, optimizer: torch.optim.Optimizer) -> int:
    if checkpoint is None or not checkpoint.is_file():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    net.load_state_dict(state["net"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])


def _weight_groups(net: ArenaNet) -> list[dict[str, object]]:
    kernels = [weight for weight in net.parameters() if weight.ndim > 1]
    others = [weight for weight in net.parameters() if weight.ndim <= 1]
    return [{"params": kernels, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / _WARM_UP_STEPS)
    return warm * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2)


def _follow(average: ArenaNet, net: ArenaNet, step: int) -> None:
    """Move the averaged weights towards the trained ones; quickly at first, since the first weights are noise."""
    keep = 1 - max(1 / _AVERAGE_STEPS, 1 / (step / 5 + 1))
    with torch.no_grad():
        for slow, fast in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if slow.dtype.is_floating_point:
                slow.lerp_(fast, 1 - keep)


def main(arguments: list[str] | None = None) -> None:
    """Parse the options, render, train, export."""
    parser = argparse.ArgumentParser(prog="python -m mecha.arena.train", description="Train the arena model.")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--float32", action="store_true", help="no bfloat16: slower on CPUs that have it, quicker on others"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="kept after each epoch; when it exists, training goes on from it"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(
        options.seed, options.scenes, options.epochs, options.batch, options.rate, options.threads, not options.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        _LOG.info("rendering %d scenes", recipe.scenes)
        shelf = render_shelf(Path(folder) / "scenes", recipe.seed, recipe.scenes, os.cpu_count() or 1)
        _LOG.info("training: %s", recipe)
        net = train(recipe, shelf, options.checkpoint)
        export(net, options.out)
        _LOG.info("wrote %s, %d bytes", options.out, options.out.stat().st_size)


if __name__ == "__main__":
    main()
