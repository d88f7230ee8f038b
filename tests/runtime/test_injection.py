"""Faults within a process: when they come, and what they do to it."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.detections import Detections, StageTimes
from mecha.detect.detector import Result
from mecha.runtime.fault_log import FaultLog, fault_lines
from mecha.runtime.faults import Fault
from mecha.runtime.injection import Injection
from mecha.runtime.slowed import SLOWED_S, SlowedDetector
from tests.runtime.waiting import wait_for


class Clock:
    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def faults(*requests: str) -> list[Fault]:
    return [Fault.parsed(request) for request in requests]


# When


def test_nothing_lasts_before_messages_flow() -> None:
    injection = Injection(faults("bad-config@0s:5s"), clock=Clock())

    assert injection.planned("bad-config")
    assert not injection.lasts("bad-config")


def test_the_time_of_a_process_that_is_started_again_is_that_of_the_run() -> None:
    clock = Clock(100.0)
    injection = Injection(faults("bad-config@5s:5s"), began_s=93.0, clock=clock)

    assert injection.lasts("bad-config")
    clock.now_s = 103.0
    assert not injection.lasts("bad-config")


def test_each_fault_is_told_when_it_begins_and_ends() -> None:
    told: list[tuple[str, str]] = []
    go = threading.Event()
    injection = Injection(
        faults("bad-config@0s:0.05s", "slow-inference@0.02s:0.01s"),
        tell=lambda fault, phase: told.append((fault.kind, phase)),
    )
    injection.begin(go)
    assert told == []
    go.set()

    wait_for(lambda: len(told) == 4)
    assert told == [
        ("bad-config", "begin"),
        ("slow-inference", "begin"),
        ("slow-inference", "end"),
        ("bad-config", "end"),
    ]


def test_what_came_before_a_process_is_not_told_again_but_lasts() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock(100.0)
    injection = Injection(
        faults("bad-config@5s:5s", "node-hang@1s", "slow-inference@1s:2s"),
        began_s=94.0,
        clock=clock,
        tell=lambda fault, phase: told.append((fault.kind, phase)),
    )
    go = threading.Event()
    go.set()
    injection.begin(go)

    assert injection.lasts("bad-config")
    injection._hang()  # the step of a process that was not there when it came
    clock.now_s = 104.0
    wait_for(lambda: told)
    assert told == [("bad-config", "end")]


# What


@pytest.mark.parametrize("text", [b"{}", b"{\n}\n", b'{"a": 1}', b'{"a": {"b": {}}}  \n\n\n\n\n\n\n\n\n\n'])
def test_a_bad_config_is_never_a_whole_one(text: bytes) -> None:
    injection = Injection(faults("bad-config@0s:5s"), began_s=100.0, clock=Clock(101.0))

    bad = injection.config_text(text)

    assert text.startswith(bad)
    with pytest.raises(json.JSONDecodeError):
        json.loads(bad)


def test_a_config_is_what_the_file_holds_before_and_after() -> None:
    clock = Clock(101.0)
    injection = Injection(faults("bad-config@5s:5s"), began_s=100.0, clock=clock)
    before = injection.config_text(b'{"a": 1}\n')
    clock.now_s = 111.0

    assert before == injection.config_text(b'{"a": 1}\n') == b'{"a": 1}'
    assert Injection().config_text(b'{"a": 1}\n') == b'{"a": 1}\n'


class Quick:
    """A detector that takes a millisecond, as it says."""

    def run(self, frame: NDArray[np.uint8]) -> Result:
        found = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("red",))
        return Result(found, StageTimes(0.1, 0.8, 0.1), "FP32", "0" * 64)

    def warm_up(self) -> None:
        pass

    def with_thresholds(self, **_: object) -> "Quick":
        return self


def test_a_slow_session_shows_in_the_time_of_the_session() -> None:
    clock = Clock(100.0)
    injection = Injection(faults("slow-inference@5s:5s"), began_s=100.0, clock=clock)
    detector = SlowedDetector(Quick(), injection).with_thresholds(
        score_threshold=0.5, iou_threshold=0.5, max_detections=1
    )
    frame = np.zeros((8, 8, 3), np.uint8)

    before = detector.run(frame)
    clock.now_s = 106.0
    slow = detector.run(frame)

    assert before.times.session_ms == 0.8
    assert slow.times.session_ms >= 0.8 + SLOWED_S * 1e3
    assert (slow.times.pre_ms, slow.times.post_ms) == (0.1, 0.1)


FILLED = """
    import errno, json, os, sys
    from pathlib import Path
    from mecha.runtime.full_disk import FullDisk

    root, full, found = Path(sys.argv[1]), [False], {}
    disk = FullDisk(lambda: full[0])
    disk.watch()
    log, other = (root / "log").open("a"), (root / "other").open("a")
    print("before", file=log, flush=True)

    def tried(name, act):
        try:
            act()
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
        else:
            found[name] = "done"

    def tried_all(when):
        tried(when + " open", lambda: (root / "new").write_text("new"))
        tried(when + " os.open", lambda: os.close(os.open(root / "low", os.O_WRONLY | os.O_CREAT)))
        tried(when + " mkdir", lambda: (root / when).mkdir())
        tried(when + " write", lambda: os.write(log.fileno(), b"line\\n"))
        tried(when + " read", lambda: (root / "there").read_text())
        tried(when + " null", lambda: Path(os.devnull).write_text("gone"))

    full[0] = True
    disk.fill()
    tried_all("full")
    other.close()
    mine = (root / "there").open()
    full[0] = False
    disk.free()
    tried_all("free")
    found["taken"] = mine.read()
    log.close()
    found["log"] = (root / "log").read_text()
    print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_on_a_full_disk_nothing_can_be_written_until_it_is_free(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("there")

    done = subprocess.run(
        [sys.executable, "-c", dedent(FILLED), str(tmp_path)], check=True, capture_output=True, text=True
    )

    assert json.loads(done.stdout) == {
        **{f"full {what}": "ENOSPC" for what in ("open", "os.open", "mkdir", "write")},
        **{f"free {what}": "done" for what in ("open", "os.open", "mkdir", "write")},
        **{f"{when} {what}": "done" for when in ("full", "free") for what in ("read", "null")},
        "taken": "there",
        "log": "before\nline\n",
    }


# How it is told


def test_a_node_that_works_again_has_recovered() -> None:
    clock = Clock()
    log = FaultLog(faults("camera-drop@5s:3s", "node-crash@9s,node=camera", "node-hang@1m"), clock=clock)

    def at(now_s: float, event: str, **values: object) -> None:
        clock.now_s = now_s
        log.take({"event": event, "node": "camera", **values})

    at(5.0, "stats", frames=140)
    at(5.5, "fault", fault="camera-drop@5s:3s", phase="begin")
    at(6.0, "stats", frames=155)
    at(7.0, "stats", frames=155)
    at(8.5, "fault", fault="camera-drop@5s:3s", phase="end")
    at(9.0, "stats", frames=155)
    at(9.75, "stats", frames=170)
    at(10.0, "fault", fault="node-crash@9s,node=camera", phase="begin")
    at(10.0, "stats", frames=180)
    at(10.5, "state", state="restarting")
    at(11.0, "state", state="starting")
    at(11.5, "stats", frames=0)
    at(12.0, "stats", frames=10)
    at(13.0, "stats", frames=40)

    told = [record.to_json() for record in log.records]
    assert told == [
        {"fault": "camera-drop@5s:3s", "kind": "camera-drop", "node": "camera", "begun": True, "recovery_s": 1.25},
        {"fault": "node-crash@9s,node=camera", "kind": "node-crash", "node": "camera", "begun": True,
         "recovery_s": 2.0},
        {"fault": "node-hang@1m", "kind": "node-hang", "node": "object-detector", "begun": False, "recovery_s": None},
    ]  # fmt: skip
    assert fault_lines(told) == [
        "Fault camera-drop@5s:3s (camera): the node worked again 1.2 s after its end",
        "Fault node-crash@9s,node=camera (camera): the node worked again 2.0 s after it came",
        "Fault node-hang@1m (object-detector): did not come: by then the run was over, or the node was not there",
    ]


def test_a_node_that_stays_away_has_not() -> None:
    log = FaultLog(faults("node-hang@1s"), clock=Clock())
    log.take({"event": "fault", "node": "object-detector", "fault": "node-hang@1s", "phase": "begin"})
    log.take({"event": "inference", "node": "camera", "frame": 7})

    assert fault_lines(record.to_json() for record in log.records) == [
        "Fault node-hang@1s (object-detector): the node did not work again before the run was over"
    ]
