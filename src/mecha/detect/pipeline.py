"""One ONNX file made ready to detect: cut before its decode tail, loaded, and paired with what reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import Session

if TYPE_CHECKING:
    from mecha.detect.decode.candidates import Decoder
    from mecha.store.spec import ModelSpec


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The three stages of a detector.

    Attributes:
        cut: the decode tail is left out of the session.
        notice: one line when the model runs slower than it could, empty otherwise.
    """

    preprocess: Preprocessor
    session: Session
    decoder: "Decoder"
    cut: bool
    notice: str = ""


def load_pipeline(file: Path, spec: "ModelSpec", *, height: int, width: int, threads: int) -> Pipeline:
    """Load an ONNX file as mecha runs it.

    Where the `onnx` package is missing the graph cannot be cut; it then runs whole, and the notice says so.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the file is no ONNX model.
        UnsupportedModelError: no decoder for the family, or onnxruntime cannot load the model.
    """
    planner = planner_of(spec.family, where=spec.name)
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    notice = ""
    model: bytes | Path = file
    try:
        import onnx  # noqa: F401 - asked for here, because the next import only needs it when it is called
    except ImportError as error:
        plan = planner(None, target)
        notice = f"{spec.name} runs whole, which is slower, because the package onnx is missing: {error}"
    else:
        from mecha.graph.cut import cut_at
        from mecha.graph.prepare import fix_input_size, load_model

        graph = load_model(file)
        if spec.input.dynamic:
            graph = fix_input_size(graph, height, width)
        plan = planner(graph, target)
        if plan.tensors:
            model = cut_at(graph, plan.tensors).SerializeToString()
        elif spec.input.dynamic:
            model = graph.SerializeToString()
    return Pipeline(
        preprocess=Preprocessor(spec.preprocessing, height, width),
        session=Session(model, threads=threads, where=str(file)),
        decoder=plan.decoder,
        cut=bool(plan.tensors),
        notice=notice,
    )
