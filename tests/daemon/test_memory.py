"""What a daemon loads that has nothing to do."""

import subprocess
import sys

from tests.store.example import environment

HEAVY = {"cv2", "huggingface_hub", "numpy", "onnx", "onnxruntime", "rich"}


def test_a_daemon_without_nodes_loads_nothing_that_works_on_frames_or_models() -> None:
    program = "import sys, mecha.daemon.app, mecha.daemon.daemon, mecha.daemon.server; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert HEAVY & set(done.stdout.split()) == set()
