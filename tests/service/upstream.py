"""A repo on a Hub into which a test publishes one version of a model after the other."""

from hashlib import sha256
from pathlib import Path

import onnx

from mecha.store.blobs import packaged_models


class Upstream:
    """A repo on a Hub that somebody publishes into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = folder / "mecha" / "arena-n"
        self.repo.mkdir(parents=True)

    def publish(self, version: str, *, spoilt: bool = False) -> str:
        """Put a version of the model in the place of the one there is; return its sha256."""
        model = onnx.load(packaged_models()[0])
        model.metadata_props.add(key="version", value=version)
        if spoilt:
            _overflow(model)
        content = model.SerializeToString()
        self.put("mecha/arena-n/arena-n.onnx", content)
        return sha256(content).hexdigest()

    def put(self, path: str, content: bytes) -> None:
        """Replace a file as a publisher does: whole."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}")
        fresh.write_bytes(content)
        fresh.replace(target)


def _overflow(model: onnx.ModelProto) -> None:
    """Make what comes out of the second Conv infinite: it loads, and INT8 cannot be made of it."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convs[1:3]:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
        values = onnx.numpy_helper.to_array(weights) * 0 + 1e30
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), weights.name))
