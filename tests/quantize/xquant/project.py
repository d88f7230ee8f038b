"""A folder as a user of xquant has it: a model, photos, their list, and a configuration."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mecha.detect.images import write_image
from tests.graph import networks
from tests.quantize.frames_of_noise import PatchFrames


class Project:
    """The folder `root`, where commands run; what a test does not change is right."""

    def __init__(self, root: Path, model: onnx.ModelProto | None = None, *, photos: int = 4) -> None:
        self.root = root
        self.model = root / "net" / "small.onnx"
        self.model.parent.mkdir(parents=True)
        self.model.write_bytes((model or networks.yolov8_network()).SerializeToString())
        self.photos: list[Path] = []
        (root / "data" / "Calib").mkdir(parents=True)
        for number, frame in enumerate(PatchFrames(photos, size=(96, 128))):
            self.photos.append(root / "data" / "Calib" / f"{number}.png")
            write_image(self.photos[-1], frame)
        self.list = root / "data" / "list.txt"
        self.list.write_text("".join(f"Calib/{photo.name}\n" for photo in self.photos))
        self.entry: dict[str, Any] = {
            "mean_value": [0, 0, 0],
            "std_value": [255, 255, 255],
            "color_format": "rgb",
            "data_list_path": "data/list.txt",
        }
        self.config: dict[str, Any] = {
            "model_parameters": {"onnx_model": "net/small.onnx", "working_dir": "out"},
            "calibration_parameters": {"input_parametres": [self.entry]},
            "quantization_parameters": {},
        }

    def written(self) -> Path:
        """Write the configuration."""
        path = self.root / "config.json"
        path.write_text(json.dumps(self.config, indent=1))
        return path

    def line_of(self, text: str) -> int:
        """Return the line of the configuration that a text stands on."""
        return next(at for at, line in enumerate(self.written().read_text().splitlines(), start=1) if text in line)


def two_outputs() -> onnx.ModelProto:
    """Two heads that share nothing after the first Conv: t10_0 of one, t12_0 of the other."""
    net = networks.Network()
    stem = net.block("images", 3, 16, kernel=3, stride=2)
    outputs = [net.conv(net.block(stem, 16, 32, kernel=3, stride=2), 32, 8) for _ in range(2)]
    return net.model(dict.fromkeys(outputs, (1, 8, 16, 16)))


def noise_over_signal(expected: Any, got: Any) -> float:
    """Return the power of the error over the power of the signal."""
    return float(np.square(expected - got).sum() / np.square(expected).sum())
