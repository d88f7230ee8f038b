"""The parent's side of making INT8: start the child, watch its time and memory, collect its result."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from collections import deque

import psutil

from mecha.child_process import ended_after, exit_words, read_lines
from mecha.errors import QuantizationError
from mecha.progress import Progress
from mecha.project import QuantizeSettings
from mecha.service.job import BuildJob, FaultLine
from mecha.store.manifest import Int8Record
from mecha.store.staged import write_staged

_POLL_S = 0.2
# A library of linear algebra with threads of its own takes them from onnxruntime's: beside other work, rounding the
# weights took 23 s instead of 5.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LAST_WORDS = 20
"""Lines of its errors: the last one that says something is shown."""
_READ_OUT_S = 1.0


def run_build(job: BuildJob, limits: QuantizeSettings, progress: Progress) -> Int8Record:
    """Run one build in a child process; model-int8.onnx lies in job.out_dir when the record's state is "built".

    Beside it lies its report, unless the disk is full or the child died of it, and tuned.json, unless the job asks for
    no tune, there was nothing to try, or it did not come to an end.

    Raises:
        QuantizationError: it could not be made: a package is missing, time or memory ran out, the child died.
        DiskError: it could not be made because the disk is full, or refuses.
    """
    job_file = job.out_dir / "job.json"
    write_staged(job_file, job.model_dump_json(by_alias=True).encode())
    command = [sys.executable, "-m", "mecha.service.build_child", str(job_file)]
    environ = {**os.environ, **_ONE_THREAD}
    try:
        child = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise QuantizationError(
            f"{job.spec.name}: no process can be started for INT8: {(error.strerror or str(error)).lower()}",
            hint="FP32 works; the number of processes or the memory of this device is used up",
        ) from error
    with ended_after(child):
        return _Watch(child, job, limits, progress).result()


class _Watch:
    """Follows one child to its end."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", job: BuildJob, limits: QuantizeSettings, progress: Progress
    ) -> None:
        self._child, self._name, self._limits, self._progress = child, job.spec.name, limits, progress
        self._doing, self._again = "making INT8", f"`mecha models quantize {self._name}`"
        if job.candidate is not None:
            self._doing = f"measuring {job.candidate.name}"
            self._again = f"`mecha models adopt {self._name} {job.candidate.name}`"
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._last_words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self._record: Int8Record | None = None
        self._hearing = read_lines(child.stderr, self._last_words.append, "build errors")
        read_lines(child.stdout, self._lines.put, "build lines", at_end=lambda: self._lines.put(None))

    def result(self) -> Int8Record:
        deadline = time.monotonic() + self._limits.time_limit_s
        while True:
            try:
                line = self._lines.get(timeout=_POLL_S)
            except queue.Empty:
                line = b""
            if line is None:
                return self._record or self._died()
            try:
                # A library may print, too.
                if line.startswith(b"{"):
                    self._record = self._take(json.loads(line)) or self._record
                self._check_limits(deadline)
            except QuantizationError:
                # A report or a tune that finds no end takes nothing from what is built.
                if self._record is None:
                    raise
                return self._record

    @property
    def _retry(self) -> str:
        return f"FP32 works; run {self._again} to try again"

    def _take(self, message: dict[str, object]) -> Int8Record | None:
        if message["event"] == "progress":
            total = message["total"]
            self._progress(
                str(message["stage"]), int(str(message["completed"])), None if total is None else int(str(total))
            )
            return None
        if message["event"] == "fault":
            raise FaultLine.model_validate(message).error(otherwise=self._retry)
        return Int8Record.model_validate(message["record"])

    def _check_limits(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise QuantizationError(
                f"{self._name}: INT8 was not ready after {self._limits.time_limit_s:g} s (quantize.time_limit_s)",
                hint=f"FP32 works; raise quantize.time_limit_s in configs/common/mecha.toml, then run {self._again}",
            )
        with contextlib.suppress(psutil.Error):
            used_mb = psutil.Process(self._child.pid).memory_info().rss / 2**20
            if used_mb > self._limits.memory_limit_mb:
                raise QuantizationError(
                    f"{self._name}: {self._doing} used {used_mb:.0f} MB, "
                    f"the limit is {self._limits.memory_limit_mb} MB (quantize.memory_limit_mb)",
                    hint="FP32 works; raise quantize.memory_limit_mb in configs/common/mecha.toml, "
                    f"then run {self._again}",
                )

    def _died(self) -> Int8Record:
        what = exit_words(self._child.wait())
        self._hearing.join(_READ_OUT_S)
        said = [text for line in self._last_words if (text := line.decode(errors="replace").strip())]
        detail = f": {said[-1]}" if said else ""
        killed = ", which a kernel that is out of memory sends" if what == "signal SIGKILL" else ""
        raise QuantizationError(
            f"{self._name}: {self._doing} ended with {what}{killed}{detail}",
            hint=self._retry,
        )
