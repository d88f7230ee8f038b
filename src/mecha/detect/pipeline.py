"""One ONNX file made ready to detect: cut before its decode tail, loaded, and paired with what reads it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.memory import give_back_memory
from mecha.detect.prepared import Prepared, PreparedCopies, prepared_key
from mecha.detect.preprocess import Preprocessor, pixel_scale
from mecha.detect.session import CPU_PROVIDER, Session
from mecha.graph.reading import read_bytes

if TYPE_CHECKING:
    from mecha.detect.decode.candidates import Decoder
    from mecha.store.spec import ModelSpec


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The three stages of a detector.

    Attributes:
        cut: the decode tail is left out of the session.
        digest: sha256 of the file, lower-case hex.
        notice: one line when the model runs slower than it could, empty otherwise.
    """

    preprocess: Preprocessor
    session: Session
    decoder: "Decoder"
    cut: bool
    digest: str
    notice: str = ""


def load_pipeline(
    file: Path,
    spec: "ModelSpec",
    *,
    height: int,
    width: int,
    threads: int,
    provider: str = CPU_PROVIDER,
    copies: PreparedCopies | None = None,
) -> Pipeline:
    """Load an ONNX file as mecha runs it.

    Where the `onnx` package is missing and no copy was kept, the graph cannot be cut; it then runs whole, and the
    notice says so.

    Args:
        provider: of onnxruntime; where it cannot be had the CPU runs, and the notice says so.
        copies: where what is made of the file is kept for the next time; None keeps nothing.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the file is no ONNX model.
        UnsupportedModelError: no decoder for the family, or onnxruntime cannot load the model.
    """
    planner = planner_of(spec.family, where=spec.name)
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    data = read_bytes(file)
    digest = hashlib.sha256(data).hexdigest()
    on_cpu = provider == CPU_PROVIDER
    key = prepared_key(digest, spec, height=height, width=width, on_cpu=on_cpu)
    prepared = copies.find(key) if copies else None
    notice = ""
    if prepared is None:
        try:
            import onnx  # noqa: F401 - asked for here, because the next import only needs it when it is called
        except ImportError as error:
            decoder = planner(None, target).decoder
            prepared = Prepared(data, decoder, cut=False, pixels=False)
            notice = f"{spec.name} runs whole, which is slower, because the package onnx is missing: {error}"
        else:
            prepared = _prepare(data, spec, height, width, on_cpu=on_cpu, where=str(file))
            if copies:
                copies.keep(key, prepared)
    del data
    session = Session(prepared.model, threads=threads, provider=provider, where=str(file))
    pipeline = Pipeline(
        preprocess=Preprocessor(spec.preprocessing, height, width, pixels=prepared.pixels),
        session=session,
        decoder=prepared.decoder,
        cut=prepared.cut,
        digest=digest,
        notice=notice or session.notice,
    )
    del prepared
    give_back_memory()
    return pipeline


def _prepare(data: bytes, spec: "ModelSpec", height: int, width: int, *, on_cpu: bool, where: str) -> Prepared:
    """Cut the graph, and let it take pixels."""
    from mecha.detect.pixels import take_pixels
    from mecha.graph.cut import cut_at
    from mecha.graph.prepare import fix_input_size
    from mecha.graph.reading import parse_model
    from mecha.graph.split_free import split_free

    graph = parse_model(data, where=where)
    if spec.input.dynamic:
        graph = fix_input_size(graph, height, width)
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    plan = planner_of(spec.family, where=spec.name)(graph, target)
    if plan.tensors:
        graph = cut_at(graph, plan.tensors)
    if on_cpu:
        graph = split_free(graph)
    scale = pixel_scale(spec.preprocessing)
    pixels = scale is not None and take_pixels(graph, scale)
    return Prepared(graph.SerializeToString(), plan.decoder, cut=bool(plan.tensors), pixels=pixels)
