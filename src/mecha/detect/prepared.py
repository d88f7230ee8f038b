"""What a model file is made into before it runs, and the copies of that which spare the next start the making.

Making it needs the `onnx` package and a parse of the whole file, which take longer than loading the session. A copy
belongs to this device: its key says from what, for what and by what it was made, and one of another key is not read.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.decoder_record import UnreadableRecordError, decoder_of, record_of
from mecha.errors import DiskError
from mecha.graph.cpu import cpu_features
from mecha.store.atomic import make_dir, write_file

if TYPE_CHECKING:
    from mecha.detect.decode.candidates import Decoder
    from mecha.store.spec import ModelSpec

# A project has few models, of two precisions each; copies of what is gone must not fill a small disk.
MOST_COPIES = 16

_PACKAGE = Path(__file__).parent.parent
_FLAGS = ("cut", "pixels", "free")
# The code that decides what a copy holds.
_MAKING = ("pipeline", "pixels", "prepared", "preprocess", "rectangles")
_MAKERS = ("detect/decode/*.py", "graph/*.py", *(f"detect/{name}.py" for name in _MAKING))


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A graph as it is loaded, and what reads its outputs.

    Attributes:
        model: the bytes of an ONNX file.
        cut: the decode tail is left out.
        pixels: the input is uint8.
        free: the input has any size, so that each frame runs at its exact padded rectangle.
    """

    model: bytes
    decoder: "Decoder"
    cut: bool
    pixels: bool
    free: bool = False


def prepared_key(
    sha256: str, spec: "ModelSpec", *, height: int, width: int, square: bool = False, on_cpu: bool = True
) -> str:
    """Return the key of what is made from a file, lower-case hex: of everything that it depends on.

    Args:
        sha256: of the source file.
        spec: how its input and outputs are read.
        height, width: of the input, pixels; of the largest where it may be smaller.
        square: the input has this size only.
        on_cpu: it runs on onnxruntime's CPU provider, whose kernels other ones do not share.
    """
    parts = {
        "source": sha256,
        "family": spec.family,
        "preprocessing": spec.preprocessing,
        "name": spec.name,
        "classes": len(spec.classes),
        "dynamic": spec.input.dynamic,
        "size": [height, width],
        "square": square,
        "stride": spec.input.stride,
        "on_cpu": on_cpu,
        "code": _code_digest(),
        "onnxruntime": version("onnxruntime"),
        "cpu": cpu_features().key(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class PreparedCopies:
    """Copies in a folder of the user cache, one file each. A missing, full or read-only folder only means no copies.

    A file is the sha256 of what follows, a line of JSON, and the model.

    Args:
        folder: made when the first copy is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Prepared | None:
        """Return the copy of a key; None where there is none that is whole."""
        try:
            data = (self._folder / key).read_bytes()
        except OSError:
            return None
        digest, _, rest = data.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            return None
        head, _, model = rest.partition(b"\n")
        described = json.loads(head)
        if described["key"] != key:
            return None
        try:
            decoder = decoder_of(described["decoder"])
        except UnreadableRecordError:
            return None
        return Prepared(model, decoder, **{name: described[name] for name in _FLAGS})

    def keep(self, key: str, prepared: Prepared) -> None:
        """Keep a copy, and drop the oldest beyond MOST_COPIES; where that cannot be done, nothing is kept."""
        record = record_of(prepared.decoder)
        if record is None:
            return
        head = {"key": key, "decoder": record, **{name: getattr(prepared, name) for name in _FLAGS}}
        rest = json.dumps(head).encode() + b"\n" + prepared.model
        try:
            make_dir(self._folder)
            write_file(self._folder / key, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        except DiskError:
            return
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            copies = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            for file in copies[MOST_COPIES:]:
                file.unlink(missing_ok=True)
        except OSError:
            return  # another process drops the same ones


@cache
def _code_digest() -> str:
    """Digest of the code that makes copies: after an upgrade, or an edit in a checkout, every copy has another key."""
    digest = hashlib.sha256()
    for pattern in _MAKERS:
        for file in sorted(_PACKAGE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
