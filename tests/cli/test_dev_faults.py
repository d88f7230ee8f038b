"""`mecha dev --fault` on the command line: what is refused, and how the end of a run tells of faults."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.projects import COUNTER, TICKER, configure, make_project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a source that ends and a counter."""
    root = make_project(tmp_path / "project", ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=150, pause_s=0.02)
    # Short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="mt-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield root


def dev(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mecha", "dev", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def test_a_fault_that_is_none_is_refused_before_anything_runs(root: Path) -> None:
    unknown = dev(root, "--fault", "camera-drob@5s")
    nobody = dev(root, "--fault", "node-crash@5s")

    assert (unknown.returncode, nobody.returncode) == (2, 2)
    assert unknown.stderr == (
        'error: --fault camera-drob@5s: got "camera-drob"; expected camera-drop, node-crash, node-hang, '
        'slow-inference, bad-config or disk-full; did you mean "camera-drop"?\n'
    )
    assert nobody.stderr == (
        'error: --fault node-crash@5s: no node "object-detector" runs; expected counter or ticker\n'
        "  next: `--fault node-crash@5s,node=counter` gives it to counter.\n"
    )
    assert unknown.stdout == nobody.stdout == ""


def test_the_summary_tells_what_came_of_each_fault(root: Path) -> None:
    crash, late = "node-crash@0.2s,node=counter", "node-hang@1h,node=counter"

    done = dev(root, "--json", "--fault", crash, "--fault", late)

    assert done.returncode == 0, done.stderr
    *events, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"event": "fault", "node": "counter", "fault": crash, "phase": "begin"} in events
    came, did_not = summary["faults"]
    recovery_s = came.pop("recovery_s")
    assert came == {"fault": crash, "kind": "node-crash", "node": "counter", "begun": True}
    assert did_not == {"fault": late, "kind": "node-hang", "node": "counter", "begun": False, "recovery_s": None}
    assert summary["nodes"]["counter"]["restarts"] == 1
    assert summary["nodes"]["ticker"]["frames"] == 150
    # A slow machine may be at the end of the source before the counter is back.
    assert recovery_s is None or recovery_s > 0.5


def test_without_json_the_summary_has_a_line_for_each_fault(root: Path) -> None:
    configure(root, "ticker", frames=5, pause_s=0.02)

    done = dev(root, "--fault", "node-hang@1h,node=ticker")

    assert done.stdout.splitlines()[-1] == (
        "Fault node-hang@1h,node=ticker (ticker): did not come: by then the run was over, or the node was not there"
    )
