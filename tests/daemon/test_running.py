"""`mecha daemon run`, `status` and `stop` as commands: a real process, its socket, its signals, its service manager."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.daemon.kept import PATIENCE_S, environ_with, kept_project
from tests.runtime.projects import TICKER, configure
from tests.runtime.waiting import wait_for


def command(root: Path, environ: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mecha", "daemon", *arguments],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def running(root: Path, environ: dict[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "mecha", "daemon", "run", *arguments],
        cwd=root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(manager: socket.socket, text: str) -> str:
    """Return the next datagram that holds a text."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        said = manager.recv(4096).decode()
        if text in said:
            return said
    raise AssertionError(f"{text} was not told")


def test_a_daemon_answers_reloads_and_ends_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        environ = environ_with(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        with running(root, environ) as process:
            told(manager, "READY=1")
            told(manager, "WATCHDOG=1")
            told(manager, "STATUS=ready")

            done = command(root, environ, "status", "--json")
            assert done.returncode == 0, done.stderr
            status: dict[str, Any] = json.loads(done.stdout)
            assert (status["pid"], status["ready"], status["running"]) == (process.pid, True, True)
            assert [node["state"] for node in status["nodes"]] == ["running"]
            lines = command(root, environ, "status").stdout.splitlines()
            assert lines[0].startswith(f"ready, process {process.pid}, up ")
            assert lines[2].split()[:2] == ["ticker", "running"]

            second = command(root, environ, "run")
            assert second.returncode == 10
            assert second.stderr == (
                f"error: the daemon of this project runs already: process {process.pid} keeps {root}\n"
                "  next: `mecha daemon status` tells what it does, `mecha daemon stop` ends it.\n"
            )

            process.send_signal(signal.SIGHUP)
            told(manager, "RELOADING=1")
            told(manager, "READY=1")
            children = psutil.Process(process.pid).children(recursive=True)
            began_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            told(manager, "STOPPING=1")
            log = process.communicate(timeout=PATIENCE_S)[0]
            took_s = time.monotonic() - began_s
    assert process.returncode == 0, log
    # Five seconds where a processor is free.
    assert took_s < PATIENCE_S
    wait_for(lambda: not any(child.is_running() for child in children), timeout_s=PATIENCE_S)
    assert "[INFO] daemon: reads its files again" in log
    assert log.splitlines()[-1] != ""
    assert [path.name for path in tmp_path.glob("run/mecha/*/daemon.sock")] == []


def test_a_daemon_is_stopped_by_a_command_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    environ = environ_with(tmp_path)
    for name in ("status", "stop"):
        done = command(root, environ, name)
        assert done.returncode == 4
        assert done.stderr == (
            f"error: no daemon runs in {root}\n"
            "  next: `mecha daemon run` starts one here, `mecha daemon install` one that starts with the system.\n"
        )
    away = command(root, environ, "status", "--json")
    assert away.returncode == 4
    assert json.loads(away.stdout) == {"schema": 1, "running": False, "project": str(root)}
    with running(root, environ, "--socket", str(tmp_path / "d.sock")) as process:
        wait_for((tmp_path / "d.sock").exists, timeout_s=PATIENCE_S)
        done = command(root, environ, "stop")
        assert (done.returncode, done.stdout) == (0, f"process {process.pid} has ended\n")
        assert process.wait(PATIENCE_S) == 0
        assert not (tmp_path / "d.sock").exists()


def test_a_daemon_whose_settings_have_a_fault_goes_on_tells_it_and_is_stopped(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    environ = environ_with(tmp_path)
    settings = root / "configs/common/mecha.toml"
    fault = "configs/common/mecha.toml:2: hub.foo: unknown key"
    with running(root, environ) as process:
        wait_for(lambda: command(root, environ, "status").stdout.startswith("ready"), timeout_s=PATIENCE_S)

        settings.write_text("[hub]\nfoo = 1\n")
        wait_for(lambda: fault in command(root, environ, "status").stdout, timeout_s=PATIENCE_S)

        lines = command(root, environ, "status").stdout.splitlines()
        assert lines[0].startswith(f"ready, process {process.pid}, ")
        assert lines[1] == f"  file: {fault}"
        topics = subprocess.run(
            [sys.executable, "-m", "mecha", "topic", "list"], cwd=root, env=environ, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert (topics.returncode, topics.stderr) == (0, "")
        done = command(root, environ, "stop")
        assert (done.returncode, done.stdout) == (0, f"process {process.pid} has ended\n")
        assert process.wait(PATIENCE_S) == 0


def test_a_config_that_a_node_refuses_is_told_until_it_takes_it(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    environ = environ_with(tmp_path)
    fault = "  file: configs/common/nodes/ticker/config.json:2: nosuch: unknown key"

    def lines() -> list[str]:
        return command(root, environ, "status").stdout.splitlines()

    with running(root, environ):
        wait_for(lambda: any("ticker" in line and "running" in line for line in lines()), timeout_s=PATIENCE_S)
        configure(root, "ticker", nosuch=1)
        wait_for(lambda: fault in lines(), timeout_s=PATIENCE_S)
        configure(root, "ticker", pause_s=0.02)
        wait_for(lambda: fault not in lines(), timeout_s=PATIENCE_S)


def test_nodes_end_with_a_daemon_that_is_killed_and_the_next_one_goes_on(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    environ = environ_with(tmp_path)

    def status() -> dict[str, Any]:
        done = command(root, environ, "status", "--json")
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    with running(root, environ) as process:
        wait_for(lambda: status().get("ready"), timeout_s=PATIENCE_S)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
    wait_for(lambda: not any(child.is_running() for child in children), timeout_s=PATIENCE_S)
    with running(root, environ) as process:
        wait_for(lambda: status().get("ready"), timeout_s=PATIENCE_S)
        assert status()["pid"] == process.pid
