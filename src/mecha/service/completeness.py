"""What of a model is published as it is wanted, so that a pull does what is missing and nothing else."""

from mecha.catalog.schema import ModelCatalogEntry
from mecha.service.adoption import is_adopted, still_holds
from mecha.service.calibration import chosen_digest, known_calibration
from mecha.service.fetch import Fetcher
from mecha.service.publication import Place
from mecha.service.request import PullOptions, int8_key, wanted_file, wanted_int8
from mecha.service.switching import is_settled
from mecha.store.manifest import ChosenCalibration
from mecha.store.published import MODEL_FILE, PublishedModel


class Completeness:
    """Compares what is published with what an entry and the options of a pull want. Touches no network.

    Attributes:
        wanted: the FP32 file.
        quantize: how INT8 is to be made of it, None where none is wanted.
    """

    def __init__(self, place: Place, entry: ModelCatalogEntry, fetcher: Fetcher, options: PullOptions) -> None:
        self._place, self._entry, self._fetcher, self._options = place, entry, fetcher, options
        self.wanted, self.quantize = wanted_file(entry, options, place.project.root), wanted_int8(entry, options)

    def is_whole(self, published: PublishedModel) -> bool:
        """Tell whether what is published is what is wanted, by looking at sizes and records only."""
        if not is_settled(self._place, published.name, self._options):
            return False
        if self._options.force or self._options.update or published.suspect or not has_its_files(published):
            return False
        if self._options.int8_only and not published.quantized:
            return False
        return self._has_fp32(published) and self.has_int8(published)

    def has_int8(self, published: PublishedModel) -> bool:
        """Tell whether its INT8 is the one that is wanted, or none is."""
        quantize, int8 = self.quantize, published.manifest.int8
        if self.keeps_adopted(published):
            return still_holds(published)
        if quantize is None or published.quantized:
            return True
        if int8.state not in ("built", "rejected"):
            return False
        fp32 = published.manifest.files[MODEL_FILE].sha256
        chosen = self.chosen_for(published)
        if chosen is not None:
            return int8.key == int8_key(self._entry, fp32, quantize, chosen_digest(chosen, self._place.project.root))
        if quantize.calibration is None and int8.calibration is not None and int8.calibration.seen_digest:
            # Made from what this device saw, and better than what built-in scenes would give again.
            return int8.key == int8_key(self._entry, fp32, quantize, int8.calibration.seen_digest)
        calibration = known_calibration(quantize.calibration, self._place.project.root, self._fetcher)
        return calibration is not None and int8.key == int8_key(self._entry, fp32, quantize, calibration.digest)

    def chosen_for(self, published: PublishedModel | None) -> ChosenCalibration | None:
        """Return what a user chose to calibrate on, now or before; None where it is for the catalog to say."""
        asked = self._options.calibration
        if asked is None:
            return published.manifest.int8.chosen if published else self._gathered()
        return asked if isinstance(asked, ChosenCalibration) else None

    def keeps_adopted(self, published: PublishedModel) -> bool:
        """Tell whether the INT8 of a model was made elsewhere, and nobody asks for another one."""
        options = self._options
        asked = options.force or options.int8_only or options.method is not None or not options.quantize
        return is_adopted(published) and not asked

    def _has_fp32(self, published: PublishedModel) -> bool:
        wanted, origin = self.wanted, published.manifest.origin
        known = self._fetcher.known(wanted)
        digests = {published.manifest.files[MODEL_FILE].sha256, wanted.sha256, known.sha256 if known else None}
        same_file = (origin.repo, origin.filename) == (wanted.repo, wanted.filename)
        return same_file and origin.requested_revision == wanted.revision and len(digests - {None}) == 1

    def _gathered(self) -> ChosenCalibration | None:
        """Return the frames that were gathered for a model of which no manifest tells what was chosen."""
        from mecha.service.chosen import gathered_before

        return gathered_before(self._entry.name, self._place.project.root)


def has_its_files(published: PublishedModel) -> bool:
    """Compare presence and size only: a pull of what is complete must not read hundreds of megabytes."""
    try:
        return all(
            (published.path / name).stat().st_size == record.size_bytes
            for name, record in published.manifest.files.items()
        )
    except OSError:
        return False  # also where another process removes it at this moment
