"""Which families can be decoded now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mecha.detect.decode import detr, end_to_end, nanodet, yolov5, yolov8, yolox
from mecha.detect.decode.candidates import DecodePlan, DecodeTarget
from mecha.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnx import ModelProto


class Planner(Protocol):
    """Plans how a graph of one family is read: where it is cut, and by which decoder."""

    def __call__(self, model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:
        """Return the plan; `model` is None where the graph cannot be read or is to run whole."""
        ...


_PLANNERS: Mapping[str, Planner] = {
    "yolov8": yolov8.plan,
    "yolov5": yolov5.plan,
    "yolox": yolox.plan,
    "end_to_end": end_to_end.plan,
    "detr": detr.plan,
    "nanodet": nanodet.plan,
}

DECODABLE = tuple(_PLANNERS)


def planner_of(family: str | None, *, where: str) -> Planner:
    """Return what plans the decoding of a family.

    Raises:
        UnsupportedModelError: there is no decoder for this family; the message begins with `where`.
    """
    planner = _PLANNERS.get(family or "")
    if planner is None:
        got = f'family "{family}"' if family else "no detector family"
        raise UnsupportedModelError(
            f"{where}: got {got}; expected one that mecha can decode: {', '.join(DECODABLE)}",
            hint="The model itself is whole: other programs can run model.onnx.",
        )
    return planner
