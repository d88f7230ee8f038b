"""Who hears a bus: its project, other machines that the settings name, and nobody else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from mecha.project import BusSettings
from mecha.runtime.bus.place import BusPlace
from tests.runtime.waiting import wait_for

NOBODY = 65534
DEADLINE_S = 60.0
FRAME_BYTES = 6_220_800

# What another user of the machine can try: enter, connect, and read the shared memory.
INTRUDER = """
import os, socket, sys
user, folder, *shared = sys.argv[1:]
if int(user) != os.getuid():
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
tries = {
    "list": lambda: os.listdir(folder),
    "connect": lambda: socket.socket(socket.AF_UNIX).connect(folder + "/bus.sock"),
    "note": lambda: open(folder + "/endpoint").read(),
} | {path: (lambda path=path: open(path, "rb").read(1)) for path in shared}
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "got in")
    except PermissionError:
        print(name, "kept out")
"""

# One machine: it hosts the bus of its project, and a member of it, as a node, publishes and listens.
MACHINE = """
import os, sys, threading, time
from pathlib import Path
from mecha.project import BusSettings
from mecha.runtime.bus.place import BusPlace
name, endpoint, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
settings = BusSettings(listen=(endpoint,)) if name == "robot" else BusSettings(connect=(endpoint,))
mine, theirs = ("/camera/rgb", "/answer") if name == "robot" else ("/answer", "/camera/rgb")
frame, answer = bytes(range(256)) * 24300, b"{}"
payload, expected = (frame, answer) if name == "robot" else (answer, frame)
place = BusPlace(folder, os.environ)
done = threading.Event()
with place.hosted(settings) as (_, own):
    member = place.join(own)
    heard = []
    member.subscribe(theirs, lambda sample: heard.append(sample.payload == expected))
    deadline = time.monotonic() + 60
    while True not in heard and time.monotonic() < deadline:
        member.publish(mine, payload)
        time.sleep(0.1)
    print("heard" if True in heard else "nothing", flush=True)
    # The other one may still be waiting.
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    while not done.wait(0.1):
        member.publish(mine, payload)
    member.close()
"""


@pytest.fixture
def as_root() -> None:
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root can act for another user, or make a network")


def listening() -> list[str]:
    """Addresses at which this process can be reached from a network."""
    return [str(one.laddr) for one in psutil.Process().net_connections("inet") if not one.raddr]


def test_a_bus_can_be_reached_over_no_network(tmp_path: Path) -> None:
    before = listening()
    place = BusPlace(tmp_path, os.environ)

    with place.hosted(BusSettings()), place.joined():
        assert listening() == before


@pytest.mark.usefixtures("as_root")
def test_another_user_can_neither_listen_nor_inject(tmp_path: Path, run_time_folder: Path) -> None:
    # What keeps them out is the folder of the bus itself, not the one around it.
    run_time_folder.chmod(0o755)
    place = BusPlace(tmp_path, os.environ)
    heard: list[object] = []
    shm = Path("/dev/shm")
    before = set(shm.glob("*.zenoh"))
    with place.hosted(BusSettings()) as (host, _), place.joined() as member:
        host.subscribe("/camera/rgb", heard.append)

        def arrived() -> bool:
            member.publish("/camera/rgb", bytes(FRAME_BYTES))
            return bool(heard)

        wait_for(arrived)
        shared = sorted(str(path) for path in set(shm.glob("*.zenoh")) - before)
        tried = {user: intrude(user, place.folder, *shared) for user in (NOBODY, os.getuid())}

    names = ["list", "connect", "note", *shared]
    assert shared or not shm.is_dir()
    assert tried[NOBODY] == [f"{name} kept out" for name in names]
    assert tried[os.getuid()] == [f"{name} got in" for name in names]


def intrude(user: int, folder: Path, *shared: str) -> list[str]:
    command = [sys.executable, "-c", INTRUDER, str(user), str(folder), *shared]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout.splitlines()


@contextmanager
def two_networks() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: the first is 10.77.0.1."""
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip")
    names = (f"mt-a{os.getpid()}", f"mt-b{os.getpid()}")
    with ExitStack() as stack:
        for name in names:
            if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
                pytest.skip("no network namespaces here")
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        ends = ("mt0", "mt1")
        cable = ["ip", "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1]]
        subprocess.run([*cable, "netns", names[1]], check=True)
        for number, (name, end) in enumerate(zip(names, ends, strict=True), start=1):
            subprocess.run(["ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end], check=True)
            for link in (end, "lo"):
                subprocess.run(["ip", "-n", name, "link", "set", link, "up"], check=True)
        yield names


@pytest.mark.usefixtures("as_root")
def test_nodes_on_two_machines_talk_where_the_settings_say_so(tmp_path: Path, run_time_folder: Path) -> None:
    """Each has a network, a run-time folder and shared memory of its own; the path of the project is the same."""
    own = 'mount -t tmpfs -o mode=0700 own "$XDG_RUNTIME_DIR" && mount -t tmpfs own /dev/shm && exec "$0" "$@"'
    with two_networks() as networks:
        machines = [
            subprocess.Popen(
                ["ip", "netns", "exec", network, "sh", "-c", own, sys.executable, "-c", MACHINE, name,
                 "tcp/10.77.0.1:7447", str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for network, name in zip(networks, ("robot", "desk"), strict=True)
        ]  # fmt: skip
        try:
            said = []
            for machine in machines:
                assert machine.stdout is not None
                said.append(machine.stdout.readline())
            for machine in machines:
                machine.communicate(timeout=DEADLINE_S)
        finally:
            for machine in machines:
                machine.kill()
                machine.wait()

    assert said == ["heard\n", "heard\n"]
    assert [machine.returncode for machine in machines] == [0, 0]
