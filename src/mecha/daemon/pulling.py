"""A pull, told as the states of a model: pulling, quantizing, gating."""

import time
from collections.abc import Callable

from mecha.daemon.state import DaemonState, ModelState
from mecha.progress import ATTACHED, WAITING, Progress, licence_of

_EVERY_S = 0.25
_STATES: dict[str, ModelState] = {
    "download": "pulling",
    ATTACHED: "pulling",
    "calibrate": "quantizing",
    "quantize": "quantizing",
    "round": "quantizing",
    "search": "quantizing",
    "gate": "gating",
    "tune": "gating",
    "report": "gating",
}


class StoppedError(BaseException):
    """The pull is to end: the daemon ends. No failure of the pull, as Ctrl-C is none."""


class ToldPull:
    """The progress of one pull: it goes to the state of the daemon, and to whoever asked for the pull.

    Args:
        name: of the model.
        state: where it is told.
        progress: gets everything too.
        on_stage: called with each new stage.
        is_over: asked at every step; True ends the pull.
    """

    def __init__(
        self,
        name: str,
        state: DaemonState,
        progress: Progress,
        *,
        on_stage: Callable[[str], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._name = name
        self._state = state
        self._progress = progress
        self._on_stage = on_stage
        self._is_over = is_over
        self._stage = ""
        self._told_s = 0.0

    def __call__(self, stage: str, completed: int, total: int | None) -> None:
        """Take in how far the pull is.

        Raises:
            StoppedError: it is to end.
        """
        if self._is_over():
            raise StoppedError
        self._progress(stage, completed, total)
        new = stage != self._stage
        if new:
            self._stage = stage
            self._on_stage(stage)
        if licence_of(stage) is not None:
            return
        now_s = time.monotonic()
        if not new and completed != total and now_s - self._told_s < _EVERY_S:
            return
        self._told_s = now_s
        state = _STATES.get(stage, "pulling")
        reason = stage if stage.startswith(WAITING) else ""
        self._state.set_model(self._name, state=state, reason=reason, stage=stage, completed=completed, total=total)
