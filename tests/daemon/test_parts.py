"""The parts of the daemon that need no process: events, state, retries, what the service manager is told."""

import os
import socket
import threading
from pathlib import Path

import pytest

from mecha.daemon.events import EventHub
from mecha.daemon.notify import Notifier, is_journal, journal_line
from mecha.daemon.retries import Patience, Task
from mecha.daemon.server import parsed_address, unix_listener
from mecha.daemon.state import DaemonState
from mecha.errors import BusyError, IntegrityError, NetworkError, UsageError
from mecha.progress import FileStage


def test_a_listener_that_is_too_slow_loses_the_oldest_events_and_is_told_how_many() -> None:
    hub = EventHub()
    with hub.subscribe(limit=3) as listener:
        for number in range(5):
            hub.publish({"event": "stats", "number": number})
        assert [event.data["number"] for event in listener.take()] == [2, 3, 4]
        assert listener.dropped == 2
    hub.publish({"event": "stats", "number": 5})
    assert (listener.take(), listener.closed) == ((), True)


def test_who_lost_the_connection_gets_what_came_meanwhile_and_after_a_new_start_all_that_is_kept() -> None:
    hub = EventHub()
    for number in range(5):
        hub.publish({"event": "stats", "number": number})
    assert [event.number for event in hub.subscribe(3).take()] == [4, 5]
    assert hub.subscribe().take() == ()
    assert [event.number for event in hub.subscribe(999).take()] == [1, 2, 3, 4, 5]


def test_an_end_of_the_hub_wakes_who_waits() -> None:
    hub, woken = EventHub(), threading.Event()
    listener = hub.subscribe(on_put=woken.set)
    threading.Timer(0.05, hub.close).start()
    assert listener.get(30) is None
    assert woken.wait(30)


def test_the_last_lines_of_the_log_are_kept() -> None:
    hub = EventHub()
    for number in range(600):
        hub.log(f"line {number}")
    assert (len(hub.recent()), hub.recent()[0], hub.recent()[-1]) == (500, "line 100", "line 599")


def test_a_state_tells_of_changes_only_and_faults_are_of_one_file_each() -> None:
    told: list[dict[str, object]] = []
    state = DaemonState(told.append)
    state.set_model("arena", state="pulling", stage="download", completed=1, total=2)
    state.set_model("arena", state="pulling")
    state.take_event({"event": "state", "node": "camera", "state": "running", "pid": 7, "restarts": 1, "reason": ""})
    state.take_event({"event": "swap", "node": "camera", "from": "FP32", "to": "INT8"})
    assert told == [
        {
            "event": "model",
            "name": "arena",
            "state": "pulling",
            "reason": "",
            "stage": "download",
            "completed": 1,
            "total": 2,
        }
    ]
    node = state.node("camera")
    assert node is not None
    assert (node.state, node.pid, node.restarts, node.swaps) == ("running", 7, 1, 1)
    state.set_fault("catalog", "no catalog")
    state.set_fault("camera", "no config")
    assert state.catalog_fault == "no config\nno catalog"
    state.set_fault("camera", "")
    assert state.catalog_fault == "no catalog"


def test_what_a_node_does_not_take_of_its_config_is_a_fault_until_it_does_or_begins_anew() -> None:
    state = DaemonState()
    fault = {"event": "config", "node": "camera", "fault": "config.json:1: sorce: unknown key"}
    begun = {"event": "state", "node": "camera", "state": "starting", "pid": 8, "restarts": 1, "reason": ""}
    told = []
    for event in (
        fault,
        {**begun, "state": "paused"},
        {**fault, "fault": ""},
        fault,
        begun,
        fault,
        {**begun, "state": "ended", "pid": None},
    ):
        state.take_event(event)
        told.append(state.catalog_fault)
    assert told == [fault["fault"], fault["fault"], "", fault["fault"], "", fault["fault"], ""]
    state.take_event(fault)
    state.set_fault("camera", fault["fault"])
    assert state.catalog_fault == fault["fault"]
    state.set_fault("camera", "")
    state.forget_node("camera")
    assert state.catalog_fault == ""


def test_no_state_shows_a_password() -> None:
    state = DaemonState()
    address = "http://you:hunter2hunter2@mirror: no answer"
    state.set_mirror_fault(address)
    state.set_fault("settings", address)
    told = [state.mirror_fault, state.catalog_fault, state.set_model("arena", reason=address).reason]
    assert told == [told[0]] * 3
    assert "hunter2" not in told[0]
    assert "no answer" in told[0]


def test_a_network_is_waited_for_without_end_and_what_will_not_go_away_a_few_times() -> None:
    patience, task = Patience(), Task("arena")
    pauses = [task.fail(NetworkError("down"), patience, 0.0) for _ in range(10)]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert task.mirror_fault == "down"
    task.change(0.0)
    assert [task.fail(IntegrityError("no ONNX"), patience, 0.0) for _ in range(5)] == [2, 4, 8, 16, None]
    assert (task.due_s, task.mirror_fault) == (None, "")
    task.change(9.0)
    assert task.due_s == 9.0
    assert [task.fail_build(patience, 0.0) for _ in range(5)] == [60, 120, 240, 480, None]


def test_lines_of_the_log_have_the_priority_that_the_journal_reads() -> None:
    assert journal_line("[ERROR] camera: gone") == "<3>[ERROR] camera: gone"
    assert journal_line("[WARNING] camera: gone") == "<4>[WARNING] camera: gone"
    assert journal_line("no level") == "<6>no level"


def test_a_journal_is_one_only_where_the_file_is_the_one_that_was_said(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        status = os.fstat(log.fileno())
        said = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(log.fileno(), said)
        assert not is_journal(log.fileno(), {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(log.fileno(), {})


def test_the_service_manager_is_told_in_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        notifier = Notifier(environ)
        assert notifier.watchdog_s == 15
        notifier.ready("two\nlines")
        notifier.alive()
        notifier.reloading()
        notifier.stopping()
        told = [manager.recv(4096).decode() for _ in range(4)]
    assert told[:2] == ["READY=1\nSTATUS=two lines", "WATCHDOG=1"]
    assert told[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[3] == "STOPPING=1"
    Notifier(environ).ready()  # nobody listens any more
    assert Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_an_address_is_a_host_and_a_port() -> None:
    assert parsed_address("127.0.0.1:8765") == ("127.0.0.1", 8765)
    assert parsed_address("[::1]:0") == ("::1", 0)
    for text in ("8765", "localhost", ":80", "::1:80", "host:99999"):
        with pytest.raises(UsageError) as caught:
            parsed_address(text)
        assert str(caught.value) == (f'--listen: got "{text}"; expected HOST:PORT, as in 127.0.0.1:8765 or [::1]:8765')


def test_a_socket_is_its_owners_and_takes_the_place_of_one_that_nobody_answers_on(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with unix_listener(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BusyError, match="another program answers there"), unix_listener(path):
            pass
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(UsageError) as caught, unix_listener(path):
        pass
    assert str(caught.value) == f"--socket {path}: got a file that is there already; expected a path for a new socket"
    long = tmp_path / ("x" * 120)
    with (
        pytest.raises(UsageError, match="bytes are too long for a socket; expected some 100 at most"),
        unix_listener(long),
    ):
        pass


def test_a_model_whose_file_comes_just_now_can_be_told() -> None:
    state = DaemonState()
    state.set_model("arena", state="pulling", stage=FileStage("download", "0" * 64), completed=1, total=2)
    (model,) = state.models()
    assert model.to_json()["stage"] == "download"
