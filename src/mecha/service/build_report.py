"""The report that lies beside every INT8 build: report.md, report.html and report.json."""

import json
from collections.abc import Iterable, Sized
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mecha.errors import MechaError, NotFoundError
from mecha.progress import Progress, silent
from mecha.service.tools import tool_versions
from mecha.store.atomic import write_file
from mecha.store.published import REPORT_FILE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mecha.quantize.report.rows import Facts, Report
    from mecha.store.manifest import Int8Record
    from mecha.store.models import ModelStore
    from mecha.store.published import PublishedModel
    from mecha.store.spec import ModelSpec

REPORT_PAGE = "report.html"
REPORT_DATA = "report.json"
REPORT_FILES = (REPORT_FILE, REPORT_PAGE, REPORT_DATA)

# A model may hold what the report does not know. That costs its figures and never the build, whatever it raises.
_FAULTS = (
    MechaError, MemoryError, RuntimeError, OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
)  # fmt: skip


class Frames(Sized, Iterable["NDArray[np.uint8]"], Protocol):
    """Frames, BGR uint8, that the build was not made from; a `FrameSet` is one."""

    @property
    def description(self) -> str:
        """What they are, in a few words."""


def write_report(
    folder: Path,
    fp32: Path,
    int8: Path,
    frames: Frames,
    spec: "ModelSpec",
    record: "Int8Record",
    *,
    threads: int,
    progress: Progress = silent,
) -> str:
    """Measure an INT8 file against its FP32 and write the report files into a folder.

    What cannot be measured is missing in the report, which then says why.

    Args:
        folder: takes REPORT_FILES.
        frames: at least one; not those of the calibration.
        record: of the build, as the manifest will have it.
        threads: of every session.
        progress: told of stage "report".

    Returns:
        why nothing could be measured; empty where it was.

    Raises:
        DiskError: the files cannot be written.
    """
    from mecha.quantize.report.measure import measure_report

    report, fault = None, ""
    try:
        report = measure_report(fp32, int8, frames, spec, threads=threads, progress=progress)
    except _FAULTS as error:
        fault = str(error) or type(error).__name__
    _write(folder, report, _facts(fp32, int8, spec, record, fault))
    return fault


def _facts(fp32: Path, int8: Path, spec: "ModelSpec", record: "Int8Record", fault: str) -> "Facts":
    from mecha.gate.device import describe_device
    from mecha.quantize.report.rows import Facts

    # Its version of onnxruntime stands among the tools.
    device = {key: value for key, value in describe_device().items() if key != "onnxruntime"}
    return Facts(
        spec=spec,
        record=record,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fp32_bytes=fp32.stat().st_size,
        int8_bytes=int8.stat().st_size,
        tools=tool_versions(),
        device=device,
        fault=fault,
    )


def _write(folder: Path, report: "Report | None", facts: "Facts") -> None:
    for name, content in _rendered(report, facts).items():
        write_file(folder / name, content)


def rewritten_report(store: "ModelStore", published: "PublishedModel", record: "Int8Record") -> dict[str, bytes]:
    """Return the report files of a published model as they are with another record of its build.

    Returns:
        contents by file name; none where the model has no report.

    Raises:
        IntegrityError: the files are not what the manifest says, or of another version of mecha.
    """
    from mecha.quantize.report.restore import restored

    if not all(name in published.manifest.files for name in REPORT_FILES):
        return {}
    document, page = (store.read(published.name, name).decode("utf-8") for name in (REPORT_DATA, REPORT_PAGE))
    return _rendered(*restored(document, page, published.spec, record))


def _rendered(report: "Report | None", facts: "Facts") -> dict[str, bytes]:
    from mecha.quantize.report.document import document
    from mecha.quantize.report.markdown import markdown
    from mecha.quantize.report.page import page

    return {
        REPORT_FILE: markdown(report, facts).encode(),
        REPORT_PAGE: page(report, facts).encode(),
        REPORT_DATA: f"{json.dumps(document(report, facts), allow_nan=False)}\n".encode(),
    }


def read_report(store: "ModelStore", name: str, filename: str) -> str:
    """Return a report file of a published model.

    Args:
        filename: one of REPORT_FILES.

    Raises:
        NotFoundError: the model was not pulled, or has no report.
        IntegrityError: the file is not what the manifest says.
    """
    published = store.require(name)
    if filename not in published.manifest.files:
        raise _missing(name, published.manifest.int8.state)
    return store.read(name, filename).decode("utf-8")


def _missing(name: str, state: str) -> NotFoundError:
    if state == "published":
        return NotFoundError(f'model "{name}" has no report: it was published in INT8, with no FP32 to compare it with')
    why = "" if state == "built" else f": it has no INT8 build ({state})"
    tells = f"`mecha models show {name}` tells why; " if state in ("failed", "rejected") else ""
    return NotFoundError(
        f'model "{name}" has no report{why}',
        hint=f"{tells}`mecha models quantize {name}` makes INT8 and its report.",
    )
