"""INT8 of published models made again, with nothing downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import UnsupportedModelError, UsageError
from mecha.progress import Progress, silent
from mecha.service.provenance import entry_of
from mecha.service.report import PullReport
from mecha.service.request import PullOptions
from mecha.service.workplace import Workplace
from mecha.store.manifest import ChosenCalibration

if TYPE_CHECKING:
    from mecha.quantize.gathering import Live
    from mecha.service.recalibration import RecalibrationReport


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """INT8 of the models of one project: from other photos, by another method, from what the device sees.

    Attributes:
        pull: does what a pull of an entry does.
    """

    work: Workplace
    pull: Callable[[ModelCatalogEntry, PullOptions, Progress], PullReport]

    def quantize(
        self,
        name: str,
        *,
        method: str | None = None,
        calibration: Path | Literal["catalog"] | None = None,
        samples: int | None = None,
        progress: Progress = silent,
    ) -> PullReport:
        """Build INT8 again from the published FP32, with nothing downloaded. It is published only where it is right.

        Args:
            calibration: what it is calibrated on from now on, see `chosen_source`; "catalog" for what the catalog
                names; None for what was chosen before.
            samples: frames to take of it.

        Raises:
            NotFoundError: the model is not pulled, or the calibration is not there.
            UsageError: samples of nothing.
            MechaError: as `chosen_source`.
        """
        from mecha.service.chosen import chosen_source

        published = self.work.store.require(name)
        if isinstance(calibration, Path):
            entry = entry_of(published, self.work.project)
            return self._rebuilt(name, method, chosen_source(calibration, samples, entry, self.work.project), progress)
        if samples is not None:
            raise UsageError(f"--samples: got {samples}; expected --calibration with it, the photos to take them of")
        return self._rebuilt(name, method, calibration, progress)

    def calibrate(
        self, name: str, source: "Live | Path", *, frames: int = 64, progress: Progress = silent
    ) -> PullReport:
        """Gather frames, keep them in `calibration/<name>/` of the project, and build INT8 from them.

        Nothing is changed, frames included, unless the build is right.

        Args:
            source: a camera, or what `chosen_source` takes.
            frames: at most so many.

        Raises:
            NotFoundError: the model is not pulled, or the source is not there.
            UnsupportedModelError: as `require_fp32`.
            MechaError: as `gathered`.
        """
        from mecha.service.chosen import gathered

        self.require_fp32(name)
        with gathered(source, name, frames, self.work.project, progress) as found:
            return self._rebuilt(name, None, found.chosen, progress, staged=found.folder)

    def require_fp32(self, name: str) -> None:
        """Refuse a model of which no INT8 can be built.

        Raises:
            NotFoundError: it is not pulled.
            UnsupportedModelError: its file is INT8 already.
        """
        if self.work.store.require(name).quantized:
            raise UnsupportedModelError(
                f"{name}: model.onnx is INT8 already; there is no FP32 to calibrate",
                hint="`mecha models add FILE --name NAME` adds the FP32 that it was made of, as a model of its own.",
            )

    def recalibrate(
        self, name: str, frames: Path, *, seen_by: str, progress: Progress = silent
    ) -> "RecalibrationReport":
        """Build the provisional INT8 of a model again from a folder of frames that this device saw.

        It is published only where it is right and agrees better with FP32 than the one before; nothing is downloaded.

        Args:
            seen_by: the node that kept the frames.

        Raises:
            NotFoundError: the model is not pulled.
            BusyError: somebody else is making it.
            QuantizationError: its INT8 is not provisional, or the build could not be made.
        """
        from mecha.service.recalibration import Recalibration

        published = self.work.store.require(name)
        return Recalibration(self.work.place(name), entry_of(published, self.work.project), progress).run(
            frames, seen_by
        )

    def _rebuilt(
        self,
        name: str,
        method: str | None,
        calibration: ChosenCalibration | Literal["catalog"] | None,
        progress: Progress,
        *,
        staged: Path | None = None,
    ) -> PullReport:
        entry = entry_of(self.work.store.require(name), self.work.project)
        options = PullOptions(
            method=method or entry.quantize.method, int8_only=True, calibration=calibration, staged=staged
        )
        return self.pull(entry, options, progress)
