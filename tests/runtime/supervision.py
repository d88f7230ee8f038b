"""Runs of nodes that a test takes part in."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mecha.project import find_project
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.supervisor import Supervisor
from tests.runtime.waiting import wait_for

PATIENCE_S = 60.0
"""A loaded machine takes its time."""


def settle(root: Path, text: str) -> None:
    """Write the settings of a project."""
    file = root / "configs/common/mecha.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


class Played:
    """A run, and what is done beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._supervisor: Supervisor | None = None
        self._failures: list[BaseException] = []

    def go(self, then: Callable[[], None] | None = None, **options: Any) -> DevSummary:
        """Run; `then` runs beside it, and its end ends the run."""
        thread = threading.Thread(target=self._beside, args=(then,))

        def begin(supervisor: Supervisor, _: object) -> None:
            self._supervisor = supervisor
            if then is not None:
                thread.start()

        summary = run_dev(
            find_project(self.root, os.environ),
            (),
            DevOptions(**options),
            self.lines.append,
            self.events.append,
            on_begin=begin,
        )
        if then is not None:
            thread.join()
        if self._failures:
            raise self._failures[0]
        return summary

    def _beside(self, then: Callable[[], None]) -> None:
        try:
            then()
        except AssertionError as error:
            self._failures.append(error)
        finally:
            self.supervisor.stop()

    @property
    def supervisor(self) -> Supervisor:
        assert self._supervisor is not None
        return self._supervisor

    def states(self, node: str) -> list[str]:
        return [event["state"] for event in self.of(node, "state")]

    def of(self, node: str, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind and event.get("node") == node]

    def pid(self, node: str) -> int:
        """Of the process that the node has, or had last."""
        return int(next(event["pid"] for event in reversed(self.of(node, "state")) if event["pid"] is not None))

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def wait_until(self, *states: str, node: str) -> None:
        """Wait until a node was in these states, one after the other, from now on or before."""

        def passed() -> bool:
            left = iter(self.states(node))
            return all(state in left for state in states)

        wait_for(passed, timeout_s=PATIENCE_S, what=f"{node}: {states}")

    def wait_for_more(self, kind: str, *, node: str, count: int = 3) -> None:
        """Wait for so many more events of a kind."""
        target = len(self.of(node, kind)) + count
        wait_for(lambda: len(self.of(node, kind)) >= target, timeout_s=PATIENCE_S, what=f"{node}: {kind}")
