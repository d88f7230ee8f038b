"""The unmodified Python client of Ollama, in an environment of its own: see .ci/ollama."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.daemon.asked_device import Device, answering_on

PYTHON = os.environ.get("OLLAMA_PYTHON", "")
"""An interpreter that has the package `ollama`."""


@pytest.mark.skipif(not PYTHON, reason="OLLAMA_PYTHON names no interpreter that has Ollama's client")
def test_the_client_of_ollama_does_not_see_the_difference(device: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened, answering_on(device.daemon, opened):
        script = Path(__file__).with_name("ollama_session.py")
        host = f"http://127.0.0.1:{opened.getsockname()[1]}"
        done = subprocess.run(
            [PYTHON, str(script), host, "arena"], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (digest,) = told.pop("digests")
    assert digest.startswith("sha256:")
    completed, total = told.pop("transferred")
    assert completed == total > 1_000_000
    assert told == {
        "statuses": ["pulling manifest", "success"],
        "once": "success",
        "listed": ["arena", True, True, 64],
        "details": ["onnx", "yolov8", "FP32"],
        "shown": ["Apache-2.0", "onnx", ["cone", "ball", "crate", "tag"], ["object-detection"]],
        "running": [],
        "deleted": "success",
        "missing": [404, f'model "arena" is not pulled: {device.root}/models/arena has no manifest.json'],
        "unknown": [404, 'model "nothing-of-this-name" is not in the catalog'],
    }
