"""A pull in a process of its own, which the daemon follows.

What says whether a model can run takes 80 MB and gives half of it back, and a model can crash it: neither is the
daemon's.
"""

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mecha.child_process import ended_after, exit_words, piped, read_lines
from mecha.daemon.children import child_environ
from mecha.daemon.problems import error_of
from mecha.daemon.pull_lines import Step, stage_of
from mecha.errors import NodeError
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.report import PullReport
from mecha.service.request import PullOptions

_LENGTH_BYTES = 4
"""Before the job, little-endian: the input of the process stays open behind it, and its end is the daemon's."""
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class PullJob:
    """What is to be pulled, with the settings that were valid last."""

    project: Project
    name: str
    options: PullOptions


def pull_aside(
    job: PullJob, environ: Mapping[str, str], progress: Progress, *, is_over: Callable[[], bool]
) -> PullReport:
    """Pull in a process of its own. Whatever `progress` raises ends it.

    Args:
        environ: of the daemon.
        is_over: asked all the while; True ends the pull with a step that says nothing new.

    Raises:
        MechaError: as `ModelService.pull`.
        NodeError: the process ended without an answer, as by a model that crashes onnxruntime.
    """
    packed = pickle.dumps(job)
    command = [sys.executable, "-P", "-m", "mecha.daemon.pull_child"]
    try:
        child = subprocess.Popen(
            command,
            env=child_environ(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in the terminal is for the daemon, which ends its pulls.
            start_new_session=sys.platform != "win32",
        )
    except OSError as error:
        raise NodeError(
            f"pull of {job.name}: no process can be started: {(error.strerror or str(error)).lower()}"
        ) from error
    with ended_after(child):
        return _followed(child, packed, job.name, progress, is_over)


def read_job() -> PullJob:
    """Read the job from standard input, in the process that is to do it."""
    size = int.from_bytes(_read(_LENGTH_BYTES), "little")
    job = pickle.loads(_read(size))  # noqa: S301 - of the daemon, over a pipe that nobody else has
    if not isinstance(job, PullJob):
        raise TypeError(f"standard input: got {type(job).__name__}; expected a job")
    return job


def _read(size: int) -> bytes:
    # Not sys.stdin: it reads further than it was asked to.
    found = b""
    while len(found) < size:
        part = os.read(0, size - len(found))
        if not part:
            raise EOFError("standard input ended within the job")
        found += part
    return found


def _followed(
    child: "subprocess.Popen[bytes]", packed: bytes, name: str, progress: Progress, is_over: Callable[[], bool]
) -> PullReport:
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    read_lines(child.stdout, lines.put, "pull lines", at_end=lambda: lines.put(None))
    stage, completed, total = "resolve", 0, None
    # One that has ended takes nothing, and its output ends too.
    with contextlib.suppress(OSError):
        stdin = piped(child.stdin)
        stdin.write(len(packed).to_bytes(_LENGTH_BYTES, "little") + packed)
        stdin.flush()
    while True:
        try:
            line = lines.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            if is_over():
                progress(stage, completed, total)
            continue
        if line is None:
            break
        said = json.loads(line)
        if "error" in said:
            raise error_of(said, 0)
        step = Step.model_validate(said)
        if step.report is not None:
            return step.report
        stage, completed, total = stage_of(step), step.completed or 0, step.total
        progress(stage, completed, total)
    raise NodeError(
        f"pull of {name}: its process ended with {exit_words(child.wait())} at {stage}",
        hint="A model can crash onnxruntime, and a full memory ends processes: `mecha models pull` alone shows more.",
    )
