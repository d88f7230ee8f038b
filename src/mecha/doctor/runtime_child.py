"""Loads onnxruntime and runs a model: `python -m mecha.doctor.runtime_child`, a process that may crash.

Each step is told before it is begun, so that whoever waits for the end knows where it ended.
"""

import json
import sys
import time
from typing import Any


def _say(**told: Any) -> None:  # noqa: ANN401 - values of a JSON object
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Import onnxruntime, load the model that ships in the package, and run it."""
    _say(step="import")
    import numpy as np

    from mecha.detect.session import Session, default_threads, other_providers
    from mecha.gate.device import describe_device
    from mecha.store.blobs import packaged_models

    device = describe_device()
    providers = other_providers()
    _say(step="load")
    session = Session(packaged_models()[0], threads=default_threads())
    _say(step="run")
    shape = [dim if isinstance(dim, int) else 1 for dim in session.inputs[0].shape]
    tensor = np.zeros(shape, np.float32)
    started = time.perf_counter()
    session.run(tensor)
    ms = (time.perf_counter() - started) * 1e3
    _say(step="done", version=device["onnxruntime"], providers=list(providers), threads=session.threads, ms=ms)


if __name__ == "__main__":
    main()
