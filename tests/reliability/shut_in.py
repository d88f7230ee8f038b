"""The daemon as its unit shuts it in, on a system whose first process is not systemd.

python -m tests.reliability.shut_in [--seconds 120] [--int8]

Root prepares what systemd would: a user without a name, a group and a capability, a system that is read-only but for
the folders of the unit, each a mount of its own, empty homes, a service manager to be told. The daemon runs under
strace, pulls, begins to build INT8, and runs its nodes; every system call that it and they make is looked for in the
filter of the unit. Ends with 0 when the daemon became ready, made no call that the filter refuses, and stopped when it
was asked to.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mecha.daemon.unit_text import UnitPlan, unit_text

USER = 54321
TOOLS = ("unshare", "setpriv", "strace", "systemd-analyze", "mount")
_HIDDEN = ("/home", "/root")
_RUN_ON_S = 10.0


def main() -> int:
    """Prepare the folders, go in, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long it may take to be ready")
    parser.add_argument("--int8", action="store_true", help="wait until INT8 is built and runs: minutes, under strace")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--manager", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        _shut(given.inside, given.seconds, int8=given.int8)
    if given.manager:
        return _manage(given.manager, given.seconds, int8=given.int8)
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or lacking:
        sys.exit(f"needs root and {', '.join(lacking) or 'nothing else'}")
    # Not in /tmp, which is one of its own there.
    folder = Path(tempfile.mkdtemp(prefix="mecha-shut-in-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        _prepare(folder)
        return subprocess.run(
            ["unshare", "--mount", *_again("--inside", folder, given.seconds, int8=given.int8)],
            timeout=given.seconds + 120,
            check=False,
        ).returncode
    finally:
        shutil.rmtree(folder)


def _prepare(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "mecha", "init", str(folder / "robot")], check=True, capture_output=True)
    for name in ("run", "cache", "state"):
        (folder / name).mkdir(mode=0o700)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", *map(str, folder.iterdir())], check=True)


def _shut(folder: Path, seconds: float, *, int8: bool) -> None:
    """Mount what the service sees, give up what it has not, and run its manager."""
    plan = UnitPlan(folder / "robot")
    text = unit_text(plan)
    tests = Path(__file__).resolve().parents[2]
    seen = {path for path in (*plan.needed, tests) if path.parts[1:2] and f"/{path.parts[1]}" in _HIDDEN}
    kept = {path: folder / f"kept-{number}" for number, path in enumerate(sorted(seen))}
    _mount("--make-rprivate", "/")
    for path, place in kept.items():
        place.mkdir()
        _mount("--bind", path, place)
    for home in _HIDDEN:
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", home)
    for path, place in kept.items():
        path.mkdir(parents=True)
        _mount("--bind", place, path)
        _mount("-o", "remount,ro,bind", path)
    for name in ("robot", "run", "cache", "state"):
        _mount("--bind", folder / name, folder / name)
    _mount("-o", "remount,ro,bind", "/")
    _mount("-t", "tmpfs", "tmpfs", "/tmp")
    os.chdir(plan.root)
    os.umask(int(next(line for line in text.splitlines() if line.startswith("UMask=")).partition("=")[2], 8))
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tests),
        "HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "MECHA_CACHE_DIR": str(folder / "cache"),
        "NOTIFY_SOCKET": str(folder / "run/notify"),
        "WATCHDOG_USEC": "30000000",
        # Nothing answers there: what ships in the package needs no network.
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    shut = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    os.execvpe("setpriv", [*shut, *_again("--manager", folder, seconds, int8=int8)], environ)  # noqa: S606 - its place


def _manage(folder: Path, seconds: float, *, int8: bool) -> int:
    """Be the service manager: start the daemon, listen to it, stop it."""
    calls = folder / "state/calls"
    told: dict[str, Any] = {"read_only": not os.access("/usr", os.W_OK), "notified": [], "ready_s": None}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(os.environ["NOTIFY_SOCKET"])
        listening.settimeout(0.5)
        started = time.monotonic()
        command = ["strace", "-f", "-c", "-o", str(calls), sys.executable, "-m", "mecha", "daemon", "run"]
        with (folder / "state/log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
            until = started + seconds
            while time.monotonic() < until and daemon.poll() is None:
                message = _received(listening)
                told["notified"] += [word for word in message if word not in told["notified"]]
                if "STATUS=ready" in message and told["ready_s"] is None and (_int8_is_there(folder) or not int8):
                    told["ready_s"] = round(time.monotonic() - started, 1)
                    until = min(until, time.monotonic() + _RUN_ON_S)
            stopping = time.monotonic()
            os.kill(_child_of(daemon.pid), signal.SIGTERM)
            told["exit_code"] = daemon.wait(60)
            told["stopped_s"] = round(time.monotonic() - stopping, 1)
    told["refused"] = sorted(_calls(calls) - _allowed(unit_text(UnitPlan(folder / "robot"))))
    told["calls"] = len(_calls(calls))
    sys.stdout.write(json.dumps(told) + "\n")
    if told["ready_s"] is None or told["exit_code"]:
        sys.stdout.write((folder / "state/log").read_text(encoding="utf-8", errors="replace")[-3000:])
    return 0 if told["ready_s"] is not None and told["exit_code"] == 0 and not told["refused"] else 1


def _received(listening: socket.socket) -> list[str]:
    try:
        return listening.recv(4096).decode().splitlines()
    except TimeoutError:
        return []


def _int8_is_there(folder: Path) -> bool:
    return (folder / "robot/models/arena-n/model-int8.onnx").is_file()


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])


def _calls(file: Path) -> set[str]:
    """Return the names of a table of `strace -c`."""
    rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return {row[-1] for row in rows if row and row[0].replace(".", "").isdigit() and row[-1] != "total"}


def _allowed(text: str) -> set[str]:
    """Return what SystemCallFilter= of a unit lets through."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, list[str]] = {}
    current: list[str] = []
    for line in listed.splitlines():
        if line.startswith("@"):
            current = groups.setdefault(line.strip(), [])
        elif line.strip() and not line.strip().startswith("#"):
            current.append(line.strip())

    def members(group: str) -> set[str]:
        found = (members(name) if name.startswith("@") else {name} for name in groups[group])
        return set().union(*found)

    allowed = members("@default")
    for line in text.splitlines():
        if line.startswith("SystemCallFilter="):
            group = line.partition("=")[2]
            allowed = allowed - members(group[1:]) if group.startswith("~") else allowed | members(group)
    return allowed | members("@default")


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def _again(option: str, folder: Path, seconds: float, *, int8: bool) -> list[str]:
    command = [sys.executable, "-m", "tests.reliability.shut_in", option, str(folder), "--seconds", str(seconds)]
    return [*command, "--int8"] if int8 else command


if __name__ == "__main__":
    sys.exit(main())
