"""INT8 that was built on scenes, built again from what a node really sees, beside its frames."""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Result
from mecha.errors import DiskError, MechaError
from mecha.project import Project, cache_dir, find_project
from mecha.runtime.attempts import Attempt, Attempts
from mecha.runtime.kept_frames import KeptFrames, remove_leftovers
from mecha.runtime.power import SYS, power_state
from mecha.runtime.rebuild import Rebuild, Rebuilt
from mecha.runtime.rebuild_child import FOLDER
from mecha.service.recalibration import is_provisional
from mecha.store.models import ModelStore
from mecha.store.published import PublishedModel


@dataclass(frozen=True, slots=True)
class Periods:
    """How often something is looked at, seconds.

    Attributes:
        model: whether the INT8 that runs is a provisional one.
        power: whether something speaks against a build that runs.
        again: whether what stood in the way of a build still does.
        disk: whether the disk takes again what it refused.
    """

    model: float = 2.0
    power: float = 5.0
    again: float = 60.0
    disk: float = 5.0


class SelfCalibration:
    """Keeps frames while the INT8 of a node's model is provisional, and then has it built again.

    `offer` belongs to the thread of the frames, and never waits; all else happens in another thread, and another
    process.

    Args:
        root: of the project.
        node: its name.
        log: where it is told what happens.
        sys_root: where the system shows its power and heat.

    Raises:
        MechaError: the settings of the project have faults.
    """

    def __init__(
        self,
        root: Path,
        node: str,
        log: logging.Logger,
        *,
        environ: Mapping[str, str] = os.environ,
        sys_root: Path = SYS,
        periods: Periods | None = None,
    ) -> None:
        self._project, self._node, self._log = find_project(root, environ), node, log
        self._environ, self._sys_root, self._periods = environ, sys_root, periods or Periods()
        self._worker: _Worker | None = None
        self._ending: list[_Worker] = []

    def switch(self, *, on: bool) -> None:
        """Begin, or end and remove what was kept. The settings of the project may say that it never begins."""
        wanted = on and self._project.settings.self_calibration.enabled
        if wanted and self._worker is None:
            self._worker = _Worker(self._project, self._node, self._log, self._environ, self._sys_root, self._periods)
            self._worker.start()
        elif not wanted and self._worker is not None:
            self._worker.end()
            self._ending = [*(worker for worker in self._ending if worker.is_alive()), self._worker]
            self._worker = None
        if not wanted:
            # What a killed process left is not kept either.
            remove_leftovers(cache_dir(self._environ) / FOLDER)

    def offer(self, frame: NDArray[np.uint8], result: Result, model: str) -> None:
        """Show a frame.

        Args:
            frame: (H, W, 3) uint8 BGR; copied where it is taken.
            result: what was found in it.
            model: name of what found it.
        """
        if self._worker is not None:
            self._worker.offer(frame, result, model)

    def close(self) -> None:
        """End; a build that runs is ended too, and nothing of it is kept."""
        self.switch(on=False)
        for worker in self._ending:
            worker.join()


class _Worker(threading.Thread):
    """The thread beside the frames."""

    def __init__(
        self,
        project: Project,
        node: str,
        log: logging.Logger,
        environ: Mapping[str, str],
        sys_root: Path,
        periods: Periods,
    ) -> None:
        super().__init__(name="self-calibration", daemon=True)
        self._project, self._node, self._log = project, node, log
        self._settings = project.settings.self_calibration
        self._environ, self._sys_root, self._periods = environ, sys_root, periods
        self._store = ModelStore(project.models_dir)
        self._attempts = Attempts(project.models_dir)
        self._closed = threading.Event()
        self._taken: queue.Queue[tuple[NDArray[np.uint8], int, float] | None] = queue.Queue(maxsize=1)
        self._taking = False
        self._due_s = 0.0
        self._runs = ("", "")
        self._told: set[str] = set()
        self._refused = False
        self._own_attempt: Attempt | None = None

    # The thread of the frames

    def offer(self, frame: NDArray[np.uint8], result: Result, model: str) -> None:
        """See `SelfCalibration.offer`."""
        self._runs = (model, result.digest)
        if not self._taking:
            return
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._settings.period_s
        # While one is being written the next one is left out: nobody waits.
        if self._taken.empty():
            with contextlib.suppress(queue.Full):
                self._taken.put_nowait((frame.copy(), len(result.detections), now_s))

    def end(self) -> None:
        """Ask it to end; `join` waits for that."""
        self._closed.set()
        with contextlib.suppress(queue.Full):
            self._taken.put_nowait(None)

    # This thread

    def run(self) -> None:
        """Look, keep, build, until closed."""
        folder = cache_dir(self._environ) / FOLDER
        try:
            remove_leftovers(folder)
            while not self._closed.is_set():
                self._turn(folder)
        except MechaError as error:
            self._tell("ends: %s", error, level=logging.WARNING)

    def _turn(self, folder: Path) -> None:
        try:
            model = self._provisional()
            if model is None or self._tried(model):
                self._closed.wait(self._periods.model)
            else:
                self._calibrate(model, KeptFrames(folder, self._settings))
        except DiskError as error:
            # Others fill the disk and free it again.
            if not self._refused:
                self._log.warning("Self-calibration: waits until the disk takes frames again: %s", error)
            self._refused = True
            self._closed.wait(self._periods.disk)

    def _provisional(self) -> PublishedModel | None:
        """Return the model that runs, where its INT8 was built on scenes."""
        name, digest = self._runs
        published = self._store.published(name) if name else None
        if published is None or not is_provisional(published):
            return None
        # A file of another folder may have the same name.
        return published if digest in {file.sha256 for file in published.manifest.files.values()} else None

    def _tried(self, model: PublishedModel) -> bool:
        attempt = self._attempts.recent(model)
        if attempt is not None and attempt != self._own_attempt:
            self._tell("tried at %s: %s; again a day later", attempt.at, attempt.message)
        return attempt is not None

    def _calibrate(self, model: PublishedModel, frames: KeptFrames) -> None:
        try:
            self._tell("INT8 of %s was built on scenes; keeping %d frames of what is seen here (self_calibrate)",
                       model.name, self._settings.frames)  # fmt: skip
            if self._kept(model, frames):
                self._build(model, frames)
        finally:
            self._taking = False
            frames.remove()

    def _kept(self, model: PublishedModel, frames: KeptFrames) -> bool:
        """Keep frames until there are enough; False when there is no use for them any more."""
        self._taking = True
        look_s = time.monotonic() + self._periods.model
        while not frames.enough:
            with contextlib.suppress(queue.Empty):
                taken = self._taken.get(timeout=self._periods.model)
                if taken is not None:
                    frames.take(*taken)
                    self._taken_again()
            if self._closed.is_set():
                return False
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + self._periods.model
                if not self._still(model):
                    return False
            if frames.shown_enough and not frames.enough:
                self._tell("waits for frames with objects on them")
        self._taking = False
        return True

    def _taken_again(self) -> None:
        if self._refused:
            self._refused = False
            self._log.info("Self-calibration: the disk takes frames again")

    def _still(self, model: PublishedModel) -> bool:
        now = self._store.published(model.name)
        return now is not None and now.manifest.files == model.manifest.files

    def _build(self, model: PublishedModel, frames: KeptFrames) -> None:
        """Build as soon as nothing speaks against it."""
        while not self._closed.is_set() and self._still(model):
            objection = power_state(self._sys_root).objection
            if objection is not None:
                self._tell("%d frames kept, the build waits: %s", frames.count, objection)
            else:
                self._tell("%d frames kept, building INT8 in the background", frames.count)
                rebuilt = self._rebuilt(model, frames)
                if rebuilt is not None and rebuilt.kind != "busy":
                    self._conclude(model, rebuilt)
                    return
            self._closed.wait(self._periods.again)

    def _rebuilt(self, model: PublishedModel, frames: KeptFrames) -> Rebuilt | None:
        """Run one build; None when it was ended before its end."""
        build = Rebuild(self._project.root, model.name, frames.folder, node=self._node, environ=self._environ)
        look_s = time.monotonic() + self._periods.power
        try:
            while not self._closed.is_set():
                rebuilt = build.result(timeout_s=0.2)
                if rebuilt is not None:
                    if rebuilt.kind == "busy":
                        self._tell("the build waits: %s", rebuilt.message)
                    return rebuilt
                if time.monotonic() >= look_s:
                    look_s = time.monotonic() + self._periods.power
                    objection = power_state(self._sys_root).objection
                    if objection is not None:
                        self._tell("the build is ended: %s", objection)
                        return None
            return None
        finally:
            build.stop()

    def _conclude(self, model: PublishedModel, rebuilt: Rebuilt) -> None:
        if rebuilt.kind == "published":
            self._tell("INT8 of %s is replaced: %s", model.name, rebuilt.message)
            return
        self._own_attempt = self._attempts.note(model, rebuilt.message)
        level = logging.WARNING if rebuilt.kind == "fault" else logging.INFO
        self._tell(
            "INT8 of %s is %s",
            model.name,
            rebuilt.message if rebuilt.kind == "kept" else f"kept: {rebuilt.message}",
            level=level,
        )

    def _tell(self, text: str, *arguments: object, level: int = logging.INFO) -> None:
        """Log a sentence, once for the frames that are being kept."""
        sentence = text % arguments
        if sentence not in self._told:
            self._told.add(sentence)
            self._log.log(level, "Self-calibration: %s", sentence)
