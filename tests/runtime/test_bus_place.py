"""The bus of a project: who hosts it, who joins it, and at which endpoints."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mecha.errors import BusyError, DiskError, NetworkError, NotFoundError
from mecha.project import BusSettings
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.bus.zenoh import ZenohBus
from tests.runtime.bus_ends import connected
from tests.runtime.waiting import wait_for

if TYPE_CHECKING:
    from mecha.runtime.bus import Sample


def test_a_project_finds_its_bus_again_and_no_other(tmp_path: Path) -> None:
    mine, other = BusPlace(tmp_path / "mine", os.environ), BusPlace(tmp_path / "other", os.environ)
    assert mine.live_endpoint() is None

    with mine.hosted(BusSettings()) as (_, endpoint):
        assert BusPlace(tmp_path / "mine", os.environ).live_endpoint() == endpoint
        assert other.live_endpoint() is None
        assert other.folder != mine.folder

    assert mine.live_endpoint() is None


def test_members_of_a_bus_hear_each_other_and_not_another_project(tmp_path: Path) -> None:
    with ExitStack() as stack:
        places = {name: BusPlace(tmp_path / name, os.environ) for name in ("mine", "other")}
        hosts = {name: stack.enter_context(place.hosted(BusSettings())) for name, place in places.items()}
        member = places["mine"].join(hosts["mine"][1])
        stack.callback(member.close)
        heard = connected(member, hosts["mine"][0], "/here")
        elsewhere: list[Sample] = []
        hosts["other"][0].subscribe("/here", elsewhere.append)

        member.publish("/here", b"hello")

        wait_for(lambda: heard)
        assert elsewhere == []


def test_nobody_else_can_enter_the_folder_of_a_bus(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()):
        for folder in (place.folder, place.folder.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, run_time_folder: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    place.folder.parent.mkdir(mode=0o700)
    place.folder.parent.chmod(0o755)

    with pytest.raises(DiskError) as caught, place.hosted(BusSettings()):
        pass

    assert str(caught.value) == (
        f"{run_time_folder}/mecha: got a folder that others can enter; "
        "expected one of mode 0700 that belongs to this user"
    )
    assert caught.value.hint == "Remove it, or set XDG_RUNTIME_DIR to a folder of your own."


def test_a_second_host_is_told_who_the_first_is(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)

    with place.hosted(BusSettings()), pytest.raises(BusyError) as caught, place.hosted(BusSettings()):
        pass

    assert str(caught.value) == f"this project runs already: process {os.getpid()} hosts its bus"
    assert caught.value.hint == "Stop it first; `mecha run NODE` adds one more node to what runs."


def test_joining_where_nobody_is_fails_with_a_sentence(run_time_folder: Path) -> None:
    endpoint = f"unixsock-stream/{run_time_folder}/nobody.sock"

    with pytest.raises(NetworkError) as caught:
        ZenohBus.join(endpoint, listen=f"unixsock-stream/{run_time_folder}/me.sock", timeout_ms=200)

    assert str(caught.value) == f"bus: {endpoint}: nobody answers"
    assert caught.value.hint == "Is `mecha dev` running in this project?"


def test_an_endpoint_that_is_taken_is_named(run_time_folder: Path) -> None:
    endpoint = f"unixsock-stream/{run_time_folder}/bus.sock"
    first = ZenohBus.host(endpoint)
    try:
        with pytest.raises(BusyError) as caught:
            ZenohBus.host(endpoint)
    finally:
        first.close()

    assert str(caught.value) == f"bus: {endpoint}: taken by another process"


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("carrier-pigeon/1.2.3.4:5", "unicast not supported for carrier-pigeon protocol"),
        ("7447", "endpoints must be of the form <protocol>/<address>[?<metadata>][#<config>]: 7447"),
    ],
)
def test_an_endpoint_that_is_none_is_told(run_time_folder: Path, endpoint: str, fault: str) -> None:
    own = f"unixsock-stream/{run_time_folder}/bus.sock"

    with pytest.raises(NetworkError) as caught:
        ZenohBus.host(own, listen=[endpoint])

    assert str(caught.value) == f"bus: {own}, {endpoint}: {fault}"
    assert caught.value.hint.startswith('An endpoint is written as in "tcp/192.168.1.5:7447"; see bus.listen')


def test_two_machines_talk_where_the_settings_say_so(tmp_path: Path, free_port: Callable[[], int]) -> None:
    address = f"tcp/127.0.0.1:{free_port()}"
    with (
        BusPlace(tmp_path / "robot", os.environ).hosted(BusSettings(listen=(address,))) as (robot, _),
        BusPlace(tmp_path / "desk", os.environ).hosted(BusSettings(connect=(address,))) as (desk, _),
    ):
        received = connected(robot, desk, "/vision/object/detections")
        robot.publish("/vision/object/detections", b"{}")
        wait_for(lambda: received)


def test_a_new_host_removes_sockets_of_processes_that_are_gone_and_leaves_those_of_members(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()):
        pass
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = [place.folder / f"{int(gone.stdout)}.sock", place.folder / "bus.sock.lock"]
    kept = [place.folder / f"{os.getpid()}.sock", place.folder / f"{os.getpid()}.sock.lock"]
    for file in (*left, *kept):
        file.touch()

    with place.hosted(BusSettings()):
        assert not left[0].exists()
        assert all(file.exists() for file in kept)


def test_a_bus_that_nobody_hosts_cannot_be_joined(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught, BusPlace(tmp_path, os.environ).joined():
        pass

    assert str(caught.value) == "nothing runs in this project: nobody hosts its bus"
    assert caught.value.hint == "Start its nodes first, by `mecha dev` in another terminal."


def test_who_joins_a_bus_that_runs_leaves_nothing_behind(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()) as (host, _):
        with place.joined() as bus:
            received = connected(host, bus, "/here")
            host.publish("/here", b"hello")
            wait_for(lambda: received)
        assert {file.name for file in place.folder.glob("*.sock")} == {"bus.sock"}


def test_a_member_hears_the_next_host_of_its_project(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with ExitStack() as stack:
        with place.hosted(BusSettings()) as (_, endpoint):
            member = place.join(endpoint)
            stack.callback(member.close)
        with place.hosted(BusSettings()) as (host, _):
            received: list[Sample] = []
            member.subscribe("/here", received.append)

            def arrived() -> bool:
                host.publish("/here", b"hello")
                return bool(received)

            wait_for(arrived, timeout_s=60)


def test_the_last_frame_of_a_process_that_ends_is_delivered(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from mecha.runtime.bus.place import BusPlace\n"
        "with BusPlace(Path(sys.argv[1]), os.environ).joined() as bus:\n"
        "    while not bus.is_heard('/camera/rgb'): pass\n"
        "    bus.publish('/camera/rgb', bytes(6_220_800), droppable=True)\n"
    )
    received: list[Sample] = []
    with BusPlace(tmp_path, os.environ).hosted(BusSettings()) as (host, _):
        host.subscribe("/camera/rgb", received.append)
        for number in range(1, 4):
            subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
            wait_for(lambda number=number: len(received) == number)  # type: ignore[misc]
