"""Writes a trained network as an ONNX file that any ONNX tool can run."""

import warnings
from copy import deepcopy
from pathlib import Path

import onnx
import torch

from mecha.arena.labels import CLASS_NAMES
from mecha.arena.training.network import INPUT_SIZE, STRIDES, ArenaNet, Decoded

OPSET = 17


def export(net: ArenaNet, path: Path) -> None:
    """Write `net` to `path`: input `images` (1, 3, 320, 320), output `output0` (1, 4 + classes, N), float32."""
    fused = deepcopy(net).eval()
    fused.fuse()
    decoded = Decoded(fused).eval()
    draft = path.with_name(path.name + ".draft")
    with warnings.catch_warnings(), torch.no_grad():
        # The classic exporter needs no further package, and says of itself that it is the classic one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            decoded,
            (torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE),),
            draft,
            input_names=["images"],
            output_names=["output0"],
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(draft)
    for node in model.graph.node:
        node.doc_string = ""
    names = dict(enumerate(CLASS_NAMES))
    metadata = {
        "names": repr(names),
        "imgsz": repr([INPUT_SIZE, INPUT_SIZE]),
        "stride": str(max(STRIDES)),
        "task": "detect",
        "author": "mecha",
        "license": "Apache-2.0",
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    draft.write_bytes(model.SerializeToString())
    draft.replace(path)
