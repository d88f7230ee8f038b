"""What calibration saw, kept so that the next build from the same frames does not look again."""

import hashlib
import io
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mecha.errors import DiskError
from mecha.graph.cpu import cpu_features
from mecha.quantize.histogram import BINS, Histogram
from mecha.quantize.observe import Observed
from mecha.store.atomic import make_dir, write_file

# One takes some 300 kB; entries of models and photos that are gone must not fill a small disk.
MOST_ENTRIES = 16

_PACKAGE = Path(__file__).parent.parent
# The code that decides what calibration sees.
_MAKERS = (
    "detect/images.py",
    "detect/preprocess.py",
    "graph/*.py",
    "quantize/calibration_cache.py",
    "quantize/histogram.py",
    "quantize/observe.py",
)


def calibration_key(
    model_sha256: str,
    frames_digest: str,
    *,
    preprocessing: str,
    height: int,
    width: int,
    tensors: Sequence[str],
) -> str:
    """Return the key of what calibration sees, lower-case hex: of everything that it depends on.

    Args:
        model_sha256: of the bytes of the model that is run.
        frames_digest: of the frames.
        preprocessing: what becomes of a frame before the model sees it.
        height, width: of the input, pixels.
        tensors: names of those observed, in order.
    """
    parts = {
        "model": model_sha256,
        "frames": frames_digest,
        "preprocessing": preprocessing,
        "size": [height, width],
        "tensors": list(tensors),
        "code": _code_digest(),
        "onnxruntime": version("onnxruntime"),
        "cpu": cpu_features().key(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class CalibrationCache:
    """Results in a folder of the user cache, one file each. A missing, full or read-only folder only means no cache.

    A file is the sha256 of what follows, its key, and arrays as numpy writes them.

    Args:
        folder: made when the first result is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Observed | None:
        """Return the result of a key; None where there is none that is whole."""
        try:
            data = (self._folder / key).read_bytes()
        except OSError:
            return None
        digest, _, rest = data.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            return None
        kept_key, _, arrays = rest.partition(b"\n")
        return _read(arrays) if kept_key == key.encode() else None

    def keep(self, key: str, observed: Observed) -> None:
        """Keep a result, and drop the oldest beyond MOST_ENTRIES; where that cannot be done, nothing is kept."""
        rest = key.encode() + b"\n" + _written(observed)
        try:
            make_dir(self._folder)
            write_file(self._folder / key, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        except DiskError:
            return
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            entries = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            for file in entries[MOST_ENTRIES:]:
                file.unlink(missing_ok=True)
        except OSError:
            return  # another process drops the same ones


def _written(observed: Observed) -> bytes:
    found = observed.histograms
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        # As bytes: numpy would drop what a name ends in, were it a null.
        tensors=np.frombuffer(json.dumps([observed.tensors, list(found)]).encode(), dtype=np.uint8),
        lows=observed.lows,
        highs=observed.highs,
        edges=np.array([(item.low, item.high) for item in found.values()], dtype=np.float64).reshape(-1, 2),
        counts=np.array([item.counts for item in found.values()], dtype=np.int64).reshape(-1, BINS),
    )
    return buffer.getvalue()


def _read(data: bytes) -> Observed:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        tensors, counted = json.loads(arrays["tensors"].tobytes())
        edges, counts = arrays["edges"].tolist(), arrays["counts"]
        histograms = {
            name: Histogram(counts[at], low, high)
            for at, (name, (low, high)) in enumerate(zip(counted, edges, strict=True))
        }
        return Observed(tuple(tensors), arrays["lows"], arrays["highs"], histograms)


@cache
def _code_digest() -> str:
    """Digest of the code that decides: after an upgrade, or an edit in a checkout, every result has another key."""
    digest = hashlib.sha256()
    for pattern in _MAKERS:
        for file in sorted(_PACKAGE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
