"""One ONNX file made ready to detect: cut before its decode tail, loaded, and paired with what reads it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.memory import give_back_memory
from mecha.detect.prepared import Prepared, PreparedCopies, prepared_key
from mecha.detect.preprocess import Preprocessor, keeps_aspect, pixel_scale
from mecha.detect.session import CPU_PROVIDER, Session
from mecha.graph.reading import read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mecha.detect.decode.candidates import Decoder
    from mecha.store.spec import ModelSpec


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The three stages of a detector.

    Attributes:
        cut: the decode tail is left out of the session.
        stride: every frame runs at its exact padded rectangle, whose sides are multiples of it; None where all run
            at one size.
        digest: sha256 of the file, lower-case hex.
        notice: one line when the model runs slower than it could, empty otherwise.
    """

    preprocess: Preprocessor
    session: Session
    decoder: "Decoder"
    cut: bool
    digest: str
    notice: str = ""
    stride: int | None = None
    # There are few rectangles, because one side of each is the model's.
    _decoders: "dict[tuple[int, int], Decoder]" = field(default_factory=dict)

    def decoder_of(self, tensor: "NDArray[Any]") -> "Decoder":
        """Return what reads the outputs for an input tensor (1, 3, height, width)."""
        if self.stride is None:
            return self.decoder
        height, width = tensor.shape[2:]
        decoder = self._decoders.get((height, width))
        if decoder is None:
            decoder = self._decoders[height, width] = self.decoder.at(height, width)
        return decoder


def load_pipeline(
    file: Path,
    spec: "ModelSpec",
    *,
    height: int,
    width: int,
    threads: int,
    provider: str = CPU_PROVIDER,
    square: bool = False,
    copies: PreparedCopies | None = None,
) -> Pipeline:
    """Load an ONNX file as mecha runs it.

    Where the `onnx` package is missing and no copy was kept, the graph cannot be cut; it then runs whole, and the
    notice says so.

    Args:
        height, width: of the input, pixels; of the largest where frames run at their exact padded rectangle.
        provider: of onnxruntime; where it cannot be had the CPU runs, and the notice says so.
        square: every frame is padded to height and width, also where the model takes less. Other providers than the
            CPU's, which compile a graph for one size, always do so.
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
    square = square or not spec.input.dynamic or not keeps_aspect(spec.preprocessing) or provider != CPU_PROVIDER
    on_cpu = provider == CPU_PROVIDER
    key = prepared_key(digest, spec, height=height, width=width, square=square, on_cpu=on_cpu)
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
            prepared = _prepare(data, spec, height, width, square=square, on_cpu=on_cpu, where=str(file))
            if copies:
                copies.keep(key, prepared)
    del data
    session = Session(prepared.model, threads=threads, provider=provider, where=str(file))
    stride = spec.input.stride if prepared.free else None
    pipeline = Pipeline(
        preprocess=Preprocessor(spec.preprocessing, height, width, pixels=prepared.pixels, stride=stride),
        session=session,
        decoder=prepared.decoder,
        cut=prepared.cut,
        digest=digest,
        notice=notice or session.notice,
        stride=stride,
    )
    del prepared
    give_back_memory()
    return pipeline


def _prepare(
    data: bytes, spec: "ModelSpec", height: int, width: int, *, square: bool, on_cpu: bool, where: str
) -> Prepared:
    """Cut the graph, and let it take pixels; leave its axes free where it may run at rectangles and can."""
    from mecha.detect.pixels import take_pixels
    from mecha.detect.rectangles import runs_at_rectangles, with_free_axes
    from mecha.graph.cut import cut_at
    from mecha.graph.prepare import fix_input_size
    from mecha.graph.reading import parse_model
    from mecha.graph.row_pairs import in_row_pairs
    from mecha.graph.split_free import split_free
    from mecha.graph.weight_only import with_float_weights

    graph = parse_model(data, where=where)
    free = None if square else with_free_axes(graph)
    if spec.input.dynamic:
        graph = fix_input_size(graph, height, width)
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    planner = planner_of(spec.family, where=spec.name)
    plan = planner(graph, target)
    if free is not None:
        exported = planner(None, target).decoder
        if runs_at_rectangles(free, plan, exported, height=height, width=width, stride=spec.input.stride):
            graph = free
        else:
            free = None
    if plan.tensors:
        graph = cut_at(graph, plan.tensors)
    graph = with_float_weights(graph)
    if on_cpu:
        graph = in_row_pairs(split_free(graph), stride=1 if free is None else spec.input.stride)
    scale = pixel_scale(spec.preprocessing)
    pixels = scale is not None and take_pixels(graph, scale)
    return Prepared(
        graph.SerializeToString(), plan.decoder, cut=bool(plan.tensors), pixels=pixels, free=free is not None
    )
