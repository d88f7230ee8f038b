"""The training set: scenes rendered once into one file, and batches of them, varied anew in each epoch."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mecha.arena.dice import chance
from mecha.arena.labels import Scene
from mecha.arena.scene import training_scene
from mecha.arena.training.loss import Truth
from mecha.arena.training.network import INPUT_SIZE

# Scene seeds below this one are never trained on: they are for measuring.
FIRST_SEED = 1_000_000
_SEEDS_PER_RUN = 1_000_000

# Every fourth scene comes as the live camera's frames do: 640x480, shrunk, with grey bars.
_LETTERBOXED_EVERY = 4
_CAMERA_SIZE = (640, 480)
_BAR_GREY = 114

_CHUNK = 64


@dataclass(frozen=True)
class Shelf:
    """Rendered scenes.

    Attributes:
        frames: (S, 320, 320, 3) uint8, blue, green, red.
        boxes: for each scene (N, 4) float32 xyxy.
        kinds: for each scene (N,) int32.
    """

    frames: NDArray[np.uint8]
    boxes: list[NDArray[np.float32]]
    kinds: list[NDArray[np.int32]]


def scene_for_training(run_seed: int, index: int) -> Scene:
    """Scene `index` of the training set of `run_seed`, 320x320."""
    seed = FIRST_SEED + run_seed * _SEEDS_PER_RUN + index
    if index % _LETTERBOXED_EVERY:
        return training_scene(seed, INPUT_SIZE, INPUT_SIZE)
    scene = training_scene(seed, *_CAMERA_SIZE)
    scale = INPUT_SIZE / _CAMERA_SIZE[0]
    height = round(_CAMERA_SIZE[1] * scale)
    top = (INPUT_SIZE - height) // 2
    frame = np.full((INPUT_SIZE, INPUT_SIZE, 3), _BAR_GREY, np.uint8)
    frame[top : top + height] = cv2.resize(scene.frame_bgr, (INPUT_SIZE, height), interpolation=cv2.INTER_LINEAR)
    boxes = scene.boxes_xyxy * np.float32(scale) + np.array([0, top, 0, top], np.float32)
    return Scene(frame, boxes, scene.class_ids)


def render_shelf(path: Path, run_seed: int, scenes: int, workers: int) -> Shelf:
    """Render the training set of `run_seed` into the file `path` (uint8 frames), in `workers` processes."""
    shape = (scenes, INPUT_SIZE, INPUT_SIZE, 3)
    frames = np.memmap(path, np.uint8, "w+", shape=shape)
    frames.flush()
    chunks = [range(start, min(start + _CHUNK, scenes)) for start in range(0, scenes, _CHUNK)]
    boxes, kinds = [], []
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
        for part in pool.map(_render_chunk, *zip(*((path, shape, run_seed, chunk) for chunk in chunks), strict=True)):
            boxes += [scene_boxes for scene_boxes, _ in part]
            kinds += [scene_kinds for _, scene_kinds in part]
    return Shelf(np.memmap(path, np.uint8, "r", shape=shape), boxes, kinds)


def _render_chunk(
    path: Path, shape: tuple[int, ...], run_seed: int, indices: range
) -> list[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    cv2.setNumThreads(1)
    frames = np.memmap(path, np.uint8, "r+", shape=shape)
    truth = []
    for index in indices:
        scene = scene_for_training(run_seed, index)
        frames[index] = scene.frame_bgr
        truth.append((scene.boxes_xyxy, scene.class_ids))
    frames.flush()
    return truth


def batches(shelf: Shelf, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Truth]]:
    """One epoch: frames (B, 3, 320, 320) RGB in 0-1 and their truth; every scene once, in an order of its own."""
    order = rng.permutation(len(shelf.boxes))
    for start in range(0, len(order) - size + 1, size):
        yield _batch(shelf, order[start : start + size], rng)


def _batch(shelf: Shelf, chosen: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Truth]:
    most = max(1, *(len(shelf.boxes[index]) for index in chosen))
    frames = np.empty((len(chosen), INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    boxes = np.zeros((len(chosen), most, 4), np.float32)
    kinds = np.zeros((len(chosen), most), np.int64)
    real = np.zeros((len(chosen), most), np.bool_)
    for row, index in enumerate(chosen):
        found = shelf.boxes[index]
        frames[row], boxes[row, : len(found)], real[row, : len(found)] = shelf.frames[index], found, True
        kinds[row, : len(found)] = shelf.kinds[index]
        if chance(rng, 0.5):
            frames[row] = frames[row, :, ::-1]
            boxes[row, :, [0, 2]] = INPUT_SIZE - boxes[row][:, [2, 0]].T
    pixels = torch.from_numpy(frames[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    gain = torch.from_numpy(np.exp(rng.normal(0, [0.18, 0.06, 0.06, 0.06], (len(chosen), 4))).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, 0.04, (len(chosen), 1, 1, 1)).astype(np.float32))
    varied = pixels * (gain[:, :1] * gain[:, 1:])[..., None, None] + offset
    truth = Truth(torch.from_numpy(boxes), torch.from_numpy(kinds), torch.from_numpy(real))
    return varied.clamp(0, 1), truth
