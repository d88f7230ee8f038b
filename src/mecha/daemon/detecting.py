"""Detects in single pictures, one after the other, in processes of low priority, one a model and precision.

A process is started when its model is first asked for, and ended when nobody has asked for a while: onnxruntime gives
no memory back otherwise.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecha.child_process import exit_words, piped
from mecha.daemon.children import child_environ
from mecha.daemon.detect_child import ANSWER, NICENESS, QUESTION
from mecha.daemon.problems import error_of
from mecha.errors import MechaError, NodeError

MOST_PIXELS = 32_000_000
IDLE_S = 60.0
MOST_LOADED = 2
_LOAD_S = 60.0
_RUN_S = 30.0
_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What detects.

    Attributes:
        folder: of a published model.
        precision: auto, fp32 or int8.
        stamp: changes when the model is published anew.
    """

    folder: Path
    precision: str
    stamp: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    wanted: Wanted
    score: float
    picture: bytes
    done: "Future[dict[str, Any]]"
    asked_s: float


class Detecting:
    """Takes pictures from any thread, and works on them in one of its own.

    Args:
        environ: of the daemon.
        idle_s: without a picture, after which a model is unloaded.
        run_s: for one picture.
        niceness: of its processes.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        idle_s: float = IDLE_S,
        run_s: float = _RUN_S,
        niceness: int = NICENESS,
    ) -> None:
        self._environ = child_environ(environ) | {"OPENCV_IO_MAX_IMAGE_PIXELS": str(MOST_PIXELS)}
        self._idle_s = idle_s
        self._run_s = run_s
        self._niceness = niceness
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        # In the order of their last use. Of the worker alone.
        self._loaded: dict[tuple[Path, str], _Child] = {}

    @property
    def loaded(self) -> int:
        """How many models are loaded."""
        return len(self._loaded)

    def detect(self, wanted: Wanted, picture: bytes, score: float) -> "Future[dict[str, Any]]":
        """Detect in a picture when its turn has come.

        Returns:
            What `mecha.daemon.detect_child` found, with "queued" and "run" milliseconds in "ms"; or a MechaError.
        """
        job = _Job(wanted, score, picture, Future(), time.monotonic())
        with self._lock:
            self._jobs.put(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="detect", daemon=True)
                self._worker.start()
        return job.done

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            # Whatever ended it: the next picture finds another one.
            with self._lock:
                if self._worker is threading.current_thread():
                    self._worker = None

    def _turn(self) -> bool:
        """Work on a picture, or unload what nobody has asked for; False where there is nothing left to do."""
        try:
            job = self._jobs.get(timeout=self._idle_s)
        except queue.Empty:
            self._unload(self._idle_s)
            with self._lock:
                if self._jobs.empty() and not self._loaded:
                    self._worker = None
                    return False
            return True
        self._unload(self._idle_s)
        if not job.done.set_running_or_notify_cancel():
            return True
        try:
            job.done.set_result(self._done(job))
        except MechaError as error:
            job.done.set_exception(error)
        finally:
            if not job.done.done():
                job.done.set_exception(NodeError("the daemon made a mistake with this picture; its log has the trace"))
        return True

    def _done(self, job: _Job) -> dict[str, Any]:
        began_s = time.monotonic()
        child = self._child(job.wanted)
        loaded_s = time.monotonic()
        try:
            found = child.ask(job.score, job.picture, self._run_s)
        except NodeError:
            # It has ended, or was ended.
            self._loaded.pop(child.key, None)
            raise
        finally:
            child.used_s = time.monotonic()
        found["ms"] |= {
            "queued": round((began_s - job.asked_s) * 1e3, 3),
            "load": round((loaded_s - began_s) * 1e3, 3),
        }
        return found

    def _child(self, wanted: Wanted) -> "_Child":
        key = (wanted.folder, wanted.precision)
        child = self._loaded.pop(key, None)
        if child is not None and (child.stamp != wanted.stamp or not child.alive):
            child.end()
            child = None
        if child is None:
            while len(self._loaded) >= MOST_LOADED:
                self._loaded.pop(next(iter(self._loaded))).end()
            child = _Child(wanted, self._environ, self._niceness)
        self._loaded[key] = child
        return child

    def _unload(self, idle_s: float) -> None:
        before_s = time.monotonic() - idle_s
        for key in [key for key, child in self._loaded.items() if child.used_s <= before_s]:
            self._loaded.pop(key).end()


class _Child:
    """A process with one model; see `mecha.daemon.detect_child`. Raises MechaError where the model cannot be loaded."""

    def __init__(self, wanted: Wanted, environ: Mapping[str, str], niceness: int) -> None:
        self.key = (wanted.folder, wanted.precision)
        self.stamp = wanted.stamp
        self.used_s = time.monotonic()
        self._what = f"{wanted.folder.name}, {wanted.precision}"
        command = [sys.executable, "-P", "-m", "mecha.daemon.detect_child", str(wanted.folder)]
        try:
            self._process = subprocess.Popen(
                [*command, "--precision", wanted.precision, "--niceness", str(niceness)],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=sys.platform != "win32",
            )
        except OSError as error:
            raise NodeError(
                f"{self._what}: no process can be started: {(error.strerror or str(error)).lower()}"
            ) from error
        try:
            self._answer(_LOAD_S)
        except MechaError:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, score: float, picture: bytes, deadline_s: float) -> dict[str, Any]:
        """Return what is found. Raises MechaError; NodeError where the process is no more."""
        # A process that ended meanwhile is noticed by the answer that it does not give.
        with contextlib.suppress(OSError):
            stdin = piped(self._process.stdin)
            stdin.write(QUESTION.pack(len(picture), score) + picture)
            stdin.flush()
        return self._answer(deadline_s)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                piped(stream).close()

    def _answer(self, deadline_s: float) -> dict[str, Any]:
        stdout = piped(self._process.stdout)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(deadline_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            head = stdout.read(ANSWER.size)
            text = stdout.read(ANSWER.unpack(head)[0]) if len(head) == ANSWER.size else b""
        finally:
            timer.cancel()
        if not text:
            self.end()
            if late.is_set():
                raise NodeError(f"{self._what}: no answer within {deadline_s:g} s; its process was ended")
            how = exit_words(self._process.returncode)
            raise NodeError(f"{self._what}: its process ended with {how} while it worked on the picture")
        said: dict[str, Any] = json.loads(text)
        if "found" not in said:
            raise error_of(said, 0)
        found: dict[str, Any] = said["found"]
        return found
