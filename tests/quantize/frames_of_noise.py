"""Frames to calibrate on that need no photo."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mecha.store.spec import InputSpec, ModelSpec, PreprocessingPreset, SourceSpec


@dataclass(frozen=True)
class PatchFrames:
    """Frames of coloured patches with noise, (H, W, 3) uint8; `bright` multiplies the last one."""

    count: int = 4
    size: tuple[int, int] = (64, 64)
    description: str = "patches"
    provisional: bool = True
    digest: str = "0" * 64

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        height, width = self.size
        for number in range(self.count):
            rng = np.random.default_rng(number)
            coarse = rng.integers(0, 256, (height // 16, width // 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
            yield np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def spec_of(size: tuple[int, int] = (64, 64), *, preset: PreprocessingPreset = "yolo") -> ModelSpec:
    return ModelSpec(
        schema=1,
        name="small",
        task="object-detection",
        family="yolov8",
        input=InputSpec(name="images", height=size[0], width=size[1], stride=16),
        preprocessing=preset,
        classes=("a", "b", "c"),
        source=SourceSpec(repo="a/b", filename="model.onnx", revision="0" * 40),
    )
