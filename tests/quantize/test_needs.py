import subprocess
import sys
from pathlib import Path

import pytest

from tests.graph.networks import yolov8_network

BUILD = """
import sys
from pathlib import Path
sys.modules[sys.argv[1]] = None  # as if it were not installed
from mecha.errors import QuantizationError
from mecha.quantize.dynamic import build_dynamic
from mecha.quantize.frames import built_in_scenes
from mecha.quantize.static import build_static
from mecha.store.spec import InputSpec, ModelSpec, SourceSpec
fp32, target = Path(sys.argv[2]), Path(sys.argv[3])
spec = ModelSpec(
    schema=1, name="small", task="object-detection", family="yolov8", preprocessing="yolo", classes=("a", "b", "c"),
    input=InputSpec(name="images", height=64, width=64), source=SourceSpec(repo="a/b", filename="m", revision="0"),
)
frames = built_in_scenes(1, seed=1, size=(64, 64))
for build in (lambda: build_dynamic(fp32, target), lambda: build_static(fp32, target, frames, spec)):
    try:
        build()
    except QuantizationError as error:
        print(error)
        print(error.hint)
    else:
        print("built")
"""


@pytest.mark.parametrize(
    ("missing", "dynamic", "static"),
    [("onnx", False, False), ("onnxruntime", False, False), ("onnxruntime.quantization", False, True)],
)
def test_a_missing_library_is_named_with_what_to_install(
    tmp_path: Path, missing: str, *, dynamic: bool, static: bool
) -> None:
    fp32 = tmp_path / "model.onnx"
    fp32.write_bytes(yolov8_network().SerializeToString())
    arguments = [sys.executable, "-c", BUILD, missing, str(fp32), str(tmp_path / "int8.onnx")]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    refused = [
        f"INT8 cannot be made: {missing} cannot be imported (import of {missing} halted; None in sys.modules)",
        "Install them with: pip install onnx onnxruntime. FP32 works without.",
    ]
    expected = [*(["built"] if dynamic else refused), *(["built"] if static else refused)]
    assert done.stdout.splitlines() == expected
