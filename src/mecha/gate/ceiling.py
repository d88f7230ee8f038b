"""The highest score an INT8 file can give at all, whatever is on the frame.

A tensor stored in 8 bits ends where its calibration ended. Calibrated on frames without objects, the class logits end
below 0 and no score can pass 0.5; stored together with box coordinates, every score rounds to 0. Frames without objects
do not show it, because there the scores of FP32 are small too. So the probe raises every class logit, and every logit
of objectness, which multiplies scores, by the same large number, in the graph, just behind the convolution that makes
it: in FP32 all scores are then 1, and in INT8 they are as high as the file lets them be.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.objectness import BEFORE_CLASSES, BOX
from mecha.detect.decode.registry import planner_of
from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import Session

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.store.spec import ModelSpec

# A logit of -12, which scores 0.000006, becomes 8, which scores 0.9997.
_LIFT = 20.0


def score_ceiling(file: Path, spec: "ModelSpec", frame: NDArray[np.uint8], *, threads: int) -> float | None:
    """Return the highest score, 0 to 1, that a file can give; None where its class logits cannot be told apart.

    Args:
        file: an ONNX file.
        spec: its description; family and number of classes tell the logits of scores from the rest.
        frame: any frame, BGR uint8.
        threads: of the session.

    Raises:
        UnsupportedModelError: the family cannot be decoded.
    """
    from mecha.graph.prepare import fix_input_size, load_model

    height, width = spec.input.height, spec.input.width
    model = load_model(file)
    if spec.input.dynamic:
        model = fix_input_size(model, height, width)
    if not _lift(model, spec.family, len(spec.classes)):
        return None
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    decoder = planner_of(spec.family, where=spec.name)(None, target).decoder
    tensor, _ = Preprocessor(spec.preprocessing, height, width)(frame)
    scores, _ = decoder.raw(Session(model.SerializeToString(), threads=threads, where=str(file)).run(tensor))
    return float(scores.max())


def _amounts(family: str | None, channels: int, class_count: int) -> NDArray[np.float32] | None:
    """Return what is added to each channel of a last convolution, (1, channels, 1, 1); None for one without scores."""
    amounts = np.full((1, channels, 1, 1), _LIFT, dtype=np.float32)
    if channels == class_count or (family == "yolox" and channels == 1):
        return amounts
    shapes, rest = divmod(channels, BEFORE_CLASSES + class_count)
    if family != "yolov5" or rest:
        return None
    amounts.reshape(shapes, -1)[:, :BOX] = 0
    return amounts


def _lift(model: "ModelProto", family: str | None, class_count: int) -> bool:
    """Add _LIFT to all logits that make scores, in place; say whether there were any."""
    import onnx

    from mecha.graph.cut import find_tail
    from mecha.graph.index import GraphIndex

    index = GraphIndex.of(model)
    tail = find_tail(model)
    convs = {node.name: node for node in model.graph.node}
    lifted = False
    for tensor, conv in zip(tail.boundary, tail.last_convs, strict=True):
        dims = index.weight_dims(convs[conv])
        maker = index.producers.get(tensor)
        amounts = None if dims is None else _amounts(family, dims[0], class_count)
        # A QLinearConv gives integers, to which no float can be added.
        if amounts is None or maker is None or maker.op_type == "QLinearConv":
            continue
        before, amount = f"{tensor}_before_lift", f"{tensor}_lift"
        position = list(model.graph.node).index(maker)
        maker.output[list(maker.output).index(tensor)] = before
        model.graph.initializer.append(onnx.numpy_helper.from_array(amounts, amount))
        model.graph.node.insert(position + 1, onnx.helper.make_node("Add", [before, amount], [tensor]))
        lifted = True
    return lifted
