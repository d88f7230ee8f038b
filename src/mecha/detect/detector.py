"""The detector: a frame in, detections out, with the times of its stages."""

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Decoder
from mecha.detect.detections import Detections, StageTimes
from mecha.detect.locate import chosen_size, locate
from mecha.detect.nms import nms
from mecha.detect.pipeline import Pipeline, load_pipeline
from mecha.detect.prepared import PreparedCopies
from mecha.detect.preprocess import Letterbox
from mecha.detect.session import CPU_PROVIDER, default_threads
from mecha.errors import ConfigError, MechaError
from mecha.project import cache_dir
from mecha.store.manifest import TunedSession
from mecha.store.spec import ModelSpec

Precision = Literal["FP32", "INT8"]
WantedPrecision = Literal["auto", "fp32", "int8"]

_WARM_UP_RUNS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One frame's outcome.

    Attributes:
        precision: of the model that ran.
        digest: sha256 of the file that ran, lower-case hex.
        nan: the model gave NaN somewhere, so that nothing it says of this frame can be relied on.
    """

    detections: Detections
    times: StageTimes
    precision: Precision
    digest: str
    nan: bool = False


@dataclass(frozen=True, slots=True)
class _Options:
    """What a caller may set, checked."""

    input_size: int | None
    score_threshold: float
    iou_threshold: float
    max_detections: int
    threads: int | None
    every_class: bool

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}: got {value}; expected 0 to 1")
        for name in ("max_detections", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: got {value}; expected at least 1")


class Detector:
    """Finds objects in frames, one frame at a time.

    Not thread-safe: frames are prepared in a buffer that is kept from call to call. Give each thread its own detector.

    Attributes:
        notice: one line for people when something else runs than was asked for, and how to get it; empty otherwise.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        precision: WantedPrecision = "auto",
        input_size: int | None = None,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.45,
        max_detections: int = 300,
        threads: int | None = None,
        every_class: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: the name of a pulled model in the project around the working directory; or the folder of a pulled
                model or an ONNX file, as a Path or as a text with a path separator or the ending .onnx.
            precision: "auto" runs INT8 where the gate found it faster on this device. Where INT8 is asked for and
                cannot be had, FP32 runs and `notice` says how to get INT8.
            input_size: height and width in pixels, for models that take more than one size; a frame is scaled into
                it and padded no further than the model needs.
            score_threshold: weakest score that is reported, 0 to 1.
            iou_threshold: boxes of one class that overlap more are one object, 0 to 1.
            max_detections: at most so many a frame, the strongest.
            threads: of the session; by default what a tune found on this device, else what `default_threads` says.
            every_class: a box is reported for each class that passes the threshold, not for its best alone. Published
                mAP figures are measured so.

        Raises:
            NotFoundError: no such model or file.
            ConfigError: an option is out of range, or the model does not take this input size.
            UnsupportedModelError: the model is no detector, or of a family that cannot be decoded.
            IntegrityError: the file is no ONNX model.
        """
        if precision not in {"auto", "fp32", "int8"}:
            raise ConfigError(f'precision: got "{precision}"; expected auto, fp32 or int8')
        options = _Options(input_size, score_threshold, iou_threshold, max_detections, threads, every_class)
        located = locate(model, cwd=Path.cwd(), environ=os.environ)
        fault = ""
        if precision == "int8" or (precision == "auto" and located.verdict == "faster"):
            if located.int8 is not None:
                try:
                    self._load(located.int8, located.spec, "INT8", options, located.tuned_for("INT8"))
                    self.warm_up()
                except MechaError as error:
                    fault = f"cannot be used: {error}"
                else:
                    return
            elif not located.quantized:
                fault = "is not there"
        fp32: Precision = "INT8" if located.quantized else "FP32"
        self._load(located.fp32, located.spec, fp32, options, located.tuned_for(fp32))
        if located.quantized and precision == "fp32":
            self.notice = located.int8_only
        if fault:
            self.notice = f"INT8 of {located.name} {fault}; running FP32. {located.remedy}"

    @classmethod
    def from_file(
        cls,
        file: Path,
        spec: ModelSpec,
        *,
        precision: Precision,
        input_size: int | None = None,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.45,
        max_detections: int = 300,
        threads: int | None = None,
        every_class: bool = False,
        provider: str = CPU_PROVIDER,
        square: bool = False,
    ) -> Self:
        """Load one ONNX file that `spec` describes; options and errors as for the class.

        Args:
            precision: what the file is; it is reported with every result.
            provider: of onnxruntime; see `Session`.
            square: pad every frame to the whole input size, also where the model takes its exact rectangle.
        """
        self = cls.__new__(cls)
        self._load(
            file,
            spec,
            precision,
            _Options(input_size, score_threshold, iou_threshold, max_detections, threads, every_class),
            TunedSession(threads=default_threads(), provider=provider, square=square),
        )
        return self

    def _load(
        self, file: Path, spec: ModelSpec, precision: Precision, options: _Options, tuned: TunedSession | None
    ) -> None:
        self._options = options
        self._size = chosen_size(spec, options.input_size)
        height, width = self._size
        tuned = tuned or TunedSession(threads=default_threads())
        self._pipeline: Pipeline = load_pipeline(
            file,
            spec,
            height=height,
            width=width,
            threads=options.threads or tuned.threads,
            provider=tuned.provider,
            square=tuned.square,
            copies=PreparedCopies(cache_dir(os.environ) / "prepared"),
        )
        self._spec = spec
        self._precision = precision
        self._digest = self._pipeline.digest
        self.notice = self._pipeline.notice

    def with_thresholds(self, *, score_threshold: float, iou_threshold: float, max_detections: int) -> Self:
        """Return a detector with other thresholds. It shares the session, so both belong to one thread.

        Raises:
            ConfigError: a threshold is out of range.
        """
        other = copy.copy(self)
        other._options = replace(  # noqa: SLF001 - another one of this class
            self._options, score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections
        )
        return other

    @property
    def precision(self) -> Precision:
        """What runs."""
        return self._precision

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self._spec

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model runs at, of which frames may need less: see `stride`."""
        return self._size

    @property
    def stride(self) -> int | None:
        """Each frame runs at its exact rectangle, padded to multiples of this; None where all run at `input_size`."""
        return self._pipeline.stride

    @property
    def digest(self) -> str:
        """Sha256 of the file that runs, lower-case hex."""
        return self._digest

    @property
    def threads(self) -> int:
        """Threads of the session."""
        return self._pipeline.session.threads

    @property
    def provider(self) -> str:
        """What of onnxruntime runs the session."""
        return self._pipeline.session.provider

    @property
    def cut(self) -> bool:
        """The session ends before the decode tail, which is computed here instead."""
        return self._pipeline.cut

    @property
    def overlapping(self) -> bool:
        """One object gives several boxes before suppression; otherwise the model picks its boxes itself."""
        return self._pipeline.decoder.overlapping

    def __call__(self, frame: NDArray[np.uint8]) -> Detections:
        """Return what is in a frame; see `run`."""
        return self.run(frame).detections

    def run(self, frame: NDArray[np.uint8]) -> Result:
        """Detect in one frame.

        Args:
            frame: (H, W, 3) uint8 BGR of any size, or what `mecha.detect.images.as_bgr` accepts.

        Raises:
            IntegrityError: the array is no image.
        """
        started = perf_counter()
        tensor, geometry = self._pipeline.preprocess(frame)
        prepared = perf_counter()
        outputs = self._pipeline.session.run(tensor)
        inferred = perf_counter()
        detections = self._detections(outputs, geometry, self._pipeline.decoder_of(tensor))
        nan = any(_has_nan(output) for output in outputs)
        done = perf_counter()
        times = StageTimes(
            pre_ms=(prepared - started) * 1e3, session_ms=(inferred - prepared) * 1e3, post_ms=(done - inferred) * 1e3
        )
        return Result(detections, times, self._precision, self._digest, nan)

    def raw(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores (A, classes) and boxes_xyxy (A, 4) in input pixels of all A anchors, before any threshold.

        For measurements; it decodes everything and is slow. Where `stride` is set, A depends on the frame's shape.
        """
        _, scores, boxes = self.examine(frame)
        return scores, boxes

    def examine(self, frame: NDArray[np.uint8]) -> tuple[Detections, NDArray[np.float32], NDArray[np.float32]]:
        """Return the detections of a frame and, from the same run, what `raw` gives."""
        tensor, geometry = self._pipeline.preprocess(frame)
        outputs = self._pipeline.session.run(tensor)
        decoder = self._pipeline.decoder_of(tensor)
        return self._detections(outputs, geometry, decoder), *decoder.raw(outputs)

    def size_for(self, frame: NDArray[np.uint8]) -> tuple[int, int]:
        """Return (height, width) in pixels of the input that a frame becomes."""
        tensor, _ = self._pipeline.preprocess(frame)
        height, width = tensor.shape[2:]
        return height, width

    def session_ms(self, frame: NDArray[np.uint8]) -> float:
        """Run only the session on a frame and return its milliseconds."""
        tensor, _ = self._pipeline.preprocess(frame)
        started = perf_counter()
        self._pipeline.session.run(tensor)
        return (perf_counter() - started) * 1e3

    def warm_up(self) -> None:
        """Run on a grey frame until memory is laid out, so that the first real frame is as quick as the others."""
        height, width = self._size
        frame = np.full((height, width, 3), 114, dtype=np.uint8)
        for _ in range(_WARM_UP_RUNS):
            self.run(frame)

    def _detections(self, outputs: list[NDArray[np.float32]], geometry: Letterbox, decoder: Decoder) -> Detections:
        options = self._options
        found = decoder.candidates(outputs, options.score_threshold, every_class=options.every_class)
        if decoder.overlapping:
            kept = nms(
                found.boxes_xyxy,
                found.scores,
                found.class_ids,
                iou_threshold=options.iou_threshold,
                max_detections=options.max_detections,
            )
        else:
            kept = np.argsort(-found.scores, kind="stable")[: options.max_detections]
        return Detections(
            boxes_xyxy=geometry.to_frame(found.boxes_xyxy[kept]),
            scores=found.scores[kept],
            class_ids=found.class_ids[kept],
            names=self._spec.classes,
        )


def _has_nan(output: NDArray[np.float32]) -> bool:
    """Tell whether NaN is in an output: its maximum is NaN then, and takes 0.04 ms for what yolov8n gives at 640."""
    # Some models give class ids as integers, and no row for a frame without objects.
    return output.dtype.kind == "f" and output.size > 0 and bool(np.isnan(output.max()))
