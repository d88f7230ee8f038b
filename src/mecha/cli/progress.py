"""Progress of long work: a live bar on a terminal, plain lines in a pipe, JSON lines for programs."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from mecha.cli.context import bytes_text, echo_json
from mecha.progress import ATTACHED, WAITING, Progress, licence_of

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 0.1
_WORDS = {
    "download": "downloading",
    ATTACHED: "downloading, by another process",
    "export": "writing the bundle",
    "import": "reading the bundle",
    "gather": "gathering frames",
    "calibrate": "calibrating",
    "quantize": "making INT8",
    "round": "rounding weights",
    "search": "comparing builds",
    "gate": "measuring INT8",
    "tune": "finding threads",
    "report": "writing the report",
    "detect": "detecting",
    "evaluate FP32": "evaluating FP32",
    "evaluate INT8": "evaluating INT8",
}
# Stages that count bytes.
_TRANSFERS = frozenset({"download", ATTACHED, "export", "import"})
# Stages whose steps are alike, so that a rate says something.
_RATED = frozenset({"detect", "evaluate FP32", "evaluate INT8"})


@contextmanager
def shown_progress(*, as_json: bool = False) -> Iterator[Progress]:
    """Yield a progress callback that writes in the form that suits where the output goes.

    People read it on standard error; JSON lines are the output itself.
    """
    if as_json:
        yield JsonLines()
    elif sys.stderr.isatty():
        with _bar() as callback:
            yield callback
    else:
        yield PlainLines()


@dataclass(frozen=True, slots=True)
class _Begun:
    """When a stage began, and what was there already."""

    at_s: float
    first: int

    def rate(self, completed: int) -> float:
        """Return how much a second came since."""
        return (completed - self.first) / max(time.monotonic() - self.at_s, 1e-9)

    def resumed(self, stage: str) -> int:
        """Return the bytes that an earlier process had left of what is transferred now."""
        return self.first if stage == "download" else 0


def _left_s(rate: float, completed: int, total: int | None) -> float | None:
    return (total - completed) / rate if total is not None and rate > 0 else None


class JsonLines:
    """One JSON object a line, ten a second at most; a transfer has its rate, the time left and where it went on."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None] = echo_json) -> None:
        self._write = write
        self._paced = _paced(self._line, _JSON_EVERY_S)
        self._begun: dict[str, _Begun] = {}

    def __call__(self, stage: str, completed: int, total: int | None) -> None:
        """Take one report."""
        self._begun.setdefault(stage, _Begun(time.monotonic(), completed))
        self._paced(stage, completed, total)

    def _line(self, stage: str, completed: int, total: int | None) -> None:
        if (told := licence_of(stage)) is not None:
            self._write({"event": "licence", "name": told[0], "licence": told[1]})
            return
        line: dict[str, Any] = {"event": "progress", "stage": stage, "completed": completed, "total": total}
        begun = self._begun[stage]
        rate = begun.rate(completed)
        if stage in _TRANSFERS and rate > 0:
            left = _left_s(rate, completed, total)
            line |= {"bytes_per_s": round(rate), "eta_s": None if left is None else round(left, 1)}
        if begun.resumed(stage):
            line["resumed_from"] = begun.first
        self._write(line)


def _paced(write: Progress, every_s: float) -> Progress:
    """Let through the first and last call of each stage, and one call each `every_s` seconds."""
    last: dict[str, float] = {}

    def call(stage: str, completed: int, total: int | None) -> None:
        now = time.monotonic()
        if stage not in last or completed == total or now - last[stage] >= every_s:
            last[stage] = now
            write(stage, completed, total)

    return call


class PlainLines:
    """One line a stage and one each few seconds while it lasts, with rate and time left."""

    def __init__(self, write: Callable[[str], None] = lambda line: typer.echo(line, err=True)) -> None:
        self._write = write
        self._paced = _paced(self._line, _PLAIN_EVERY_S)
        self._begun: dict[str, _Begun] = {}

    def __call__(self, stage: str, completed: int, total: int | None) -> None:
        """Take one report."""
        self._begun.setdefault(stage, _Begun(time.monotonic(), completed))
        self._paced(stage, completed, total)

    def _line(self, stage: str, completed: int, total: int | None) -> None:
        words = _WORDS.get(stage, stage)
        if total is None:
            self._write(stage if licence_of(stage) else f"{words} ...")
            return
        begun = self._begun[stage]
        rate = begun.rate(completed)
        left = f", {(total - completed) / rate:.0f} s left" if rate > 0 and completed < total else ""
        if stage in _TRANSFERS:
            speed = f", {bytes_text(int(rate))}/s" if rate > 0 else ""
            resumed = f", resumed from {bytes_text(begun.first)}" if begun.resumed(stage) else ""
            self._write(f"{words} {bytes_text(completed)} of {bytes_text(total)}{speed}{left}{resumed}")
        else:
            self._write(f"{words} {completed} of {total}{_per_second(stage, rate)}{left}")


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    name, done = TextColumn("{task.description:<16}"), TextColumn("{task.fields[done]}")
    with RichProgress(
        name,
        BarColumn(),
        done,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # rich would send what goes into a pipe to the terminal.
        redirect_stdout=sys.stdout.isatty(),
    ) as bars:
        tasks: dict[str, TaskID] = {}
        begun: dict[str, _Begun] = {}

        def call(stage: str, completed: int, total: int | None) -> None:
            if stage.startswith(WAITING) or licence_of(stage):
                bars.console.print(stage if licence_of(stage) else f"{stage} ...", markup=False, highlight=False)
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(_WORDS.get(stage, stage), total=total, done="")
                begun[stage] = _Begun(time.monotonic(), completed)
            bars.update(
                tasks[stage], completed=completed, total=total, done=_done(stage, completed, total, begun[stage])
            )

        yield call


def _done(stage: str, completed: int, total: int | None, begun: _Begun) -> str:
    if total is None:
        return ""
    rate = begun.rate(completed)
    if stage not in _TRANSFERS:
        return f"{completed}/{total}{_per_second(stage, rate)}"
    resumed = f", resumed from {bytes_text(begun.first)}" if begun.resumed(stage) else ""
    return f"{bytes_text(completed)}/{bytes_text(total)} {bytes_text(int(rate))}/s{resumed}"


def _per_second(stage: str, rate: float) -> str:
    return f", {rate:.1f}/s" if stage in _RATED and rate > 0 else ""
