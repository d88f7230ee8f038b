"""mecha: the model manager of an edge device."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# From 1.29 on, onnxruntime for Linux reports names and digests of models to its maker unless this is set before it is
# loaded; switching it off afterwards is too late for its device id. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "CameraStateMessage",
    "ControlMessage",
    "Detections",
    "DetectionsMessage",
    "Detector",
    "Field",
    "FrameMessage",
    "JsonMessage",
    "Message",
    "Node",
    "NodeConfig",
    "Sample",
    "__version__",
]

if TYPE_CHECKING:
    from mecha.detect.detections import Detections
    from mecha.detect.detector import Detector
    from mecha.runtime.bus import Sample
    from mecha.runtime.messages import (
        CameraStateMessage,
        ControlMessage,
        DetectionsMessage,
        FrameMessage,
        JsonMessage,
        Message,
    )
    from mecha.runtime.node import Field, Node, NodeConfig

_HOMES = {
    "mecha.detect.detections": ("Detections",),
    "mecha.detect.detector": ("Detector",),
    "mecha.runtime.bus": ("Sample",),
    "mecha.runtime.messages": (
        "CameraStateMessage",
        "ControlMessage",
        "DetectionsMessage",
        "FrameMessage",
        "JsonMessage",
        "Message",
    ),
    "mecha.runtime.node": ("Field", "Node", "NodeConfig"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attributes have no common type
    """Load the public classes when they are first used, so that `mecha --help` stays quick."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'mecha' has no attribute {name!r}")
