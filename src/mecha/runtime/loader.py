"""From what a node's config asks for to the ONNX file that runs."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from mecha.detect.detector import Detector, Precision
from mecha.detect.locate import LocatedModel, chosen_size, locate
from mecha.detect.session import CPU_PROVIDER
from mecha.errors import MechaError, NotFoundError
from mecha.runtime.slowed import as_fast_as_asked
from mecha.runtime.variants import Choice, FrameDetector, Variant, Wanted
from mecha.store.published import INT8_FILE, MANIFEST_FILE, MODEL_FILE, SPEC_FILE


class ModelLoader:
    """Finds models in a project and loads them.

    Args:
        root: the project's root.
        environ: as for `mecha.detect.locate.locate`.
    """

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._environ = environ
        self._located: dict[str, LocatedModel] = {}
        self._parsed: tuple[tuple[object, ...], LocatedModel] | None = None

    def choose(self, wanted: Wanted) -> Choice:
        """Return what to run; see `Loader.choose`.

        Raises:
            NotFoundError: there is no such model; the hint says how to pull it.
            MechaError: the model cannot be used.
        """
        located = self._locate(self._model(wanted.model))
        self._located[located.name] = located
        int8 = located.int8 or _sibling(located)
        fp32 = self._variant(located, located.fp32, "INT8" if located.quantized else "FP32", wanted)
        if located.quantized:
            return Choice((fp32,), located.int8_only if wanted.use_int8 is False else "")
        if wanted.use_int8 is False or (wanted.use_int8 == "auto" and located.verdict != "faster"):
            return Choice((fp32,))
        remedy = located.remedy
        if int8 is None:
            return Choice((fp32,), f"INT8 of {located.name} is not there; running FP32. {remedy}")
        return Choice((self._variant(located, int8, "INT8", wanted), fp32), remedy=remedy)

    def load(self, variant: Variant) -> FrameDetector:
        """Load one file; see `Loader.load`."""
        located = self._located[variant.model]
        tuned = located.tuned_for(variant.precision)
        detector = Detector.from_file(
            self._root / variant.file,
            located.spec,
            precision=variant.precision,
            input_size=variant.input_size,
            threads=variant.threads or (tuned.threads if tuned else None),
            provider=tuned.provider if tuned else CPU_PROVIDER,
            square=tuned.square if tuned else False,
        )
        return as_fast_as_asked(detector)

    def differs(self, wanted: Wanted, other: Wanted) -> bool:
        """Tell whether the model takes `other`, and runs in another precision or at another size then."""
        try:
            spec = self._locate(self._model(wanted.model)).spec
            size, precision = (
                {chosen_size(spec, one.input_size) for one in (wanted, other)},
                {self.choose(one).variants[0].precision for one in (wanted, other)},
            )
        except MechaError:
            return False
        return len(size) > 1 or len(precision) > 1

    def memory_mb(self) -> float:
        """Return the resident memory of this process, 10^6 bytes."""
        return float(psutil.Process().memory_info().rss) / 1e6

    def _model(self, text: str) -> str:
        """Return the name of a model where the text is the path of a pulled one, pulled or not: it has a remedy."""
        path = self._root / text
        folder = path.parent if path.name in {MODEL_FILE, INT8_FILE} else path
        is_path = "/" in text or os.sep in text
        return folder.name if is_path and folder.parent == self._root / "models" else text

    def _locate(self, model: str) -> LocatedModel:
        """Find a model; a file that nobody published is parsed for it, and again only when it has changed."""
        file = self._root / model
        seen = (model, _stamp(file), _stamp(file.with_name(SPEC_FILE))) if file.is_file() else None
        if seen is not None and self._parsed is not None and self._parsed[0] == seen:
            return self._parsed[1]
        located = locate(model, cwd=self._root, environ=self._environ)
        self._parsed = None if seen is None or _is_published(located) else (seen, located)
        return located

    def _variant(self, located: LocatedModel, file: Path, precision: Precision, wanted: Wanted) -> Variant:
        stamp = _stamp(file)
        if not stamp:
            raise NotFoundError(f"{file}: no such file any more")
        shown = file.relative_to(self._root).as_posix() if file.is_relative_to(self._root) else str(file)
        return Variant(located.name, precision, shown, stamp, wanted.input_size, wanted.threads)


def _sibling(located: LocatedModel) -> Path | None:
    """Return the INT8 file beside an FP32 file that nobody published: of a published model the manifest decides."""
    file = located.fp32.with_name(f"{located.fp32.stem}-int8.onnx")
    return file if not _is_published(located) and file.is_file() else None


def _is_published(located: LocatedModel) -> bool:
    return located.fp32.with_name(MANIFEST_FILE).is_file()


def _stamp(file: Path) -> tuple[int, ...]:
    """Return what changes when a file is written again, nothing of a file that is not there."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
