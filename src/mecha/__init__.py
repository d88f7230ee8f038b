"""mecha: the model manager of an edge device."""

import os
from typing import TYPE_CHECKING, Any

# From 1.29 on, onnxruntime for Linux reports names and digests of models to its maker unless this is set before it is
# loaded; switching it off afterwards is too late for its device id. Who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "__version__"]

if TYPE_CHECKING:
    from mecha.detect.detections import Detections
    from mecha.detect.detector import Detector


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attributes have no common type
    """Load the public classes when they are first used, so that `mecha --help` stays quick."""
    if name == "Detector":
        from mecha.detect.detector import Detector

        return Detector
    if name == "Detections":
        from mecha.detect.detections import Detections

        return Detections
    raise AttributeError(f"module 'mecha' has no attribute {name!r}")
