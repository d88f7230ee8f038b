"""Whether the daemon of a project is installed, and whether it runs."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from mecha.daemon.asking import asked_status
from mecha.daemon.place import DaemonPlace
from mecha.daemon.service_unit import InstalledUnit
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.errors import MechaError
from mecha.project import Project
from mecha.runtime.bus.place import BusPlace

CHECK = "daemon"

_ASKED = ("ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "ExecMainStatus")
_TIMEOUT_S = 10.0


def service_findings(project: Project, environ: Mapping[str, str], unit: InstalledUnit | None) -> Iterator[Finding]:
    """Give whether the daemon of a project runs.

    Args:
        unit: its service, None where none is installed.
    """
    place = DaemonPlace.of_running(project.root, environ)
    pid = place.pid
    told = None if unit is None else unit_state(unit.name)
    if unit is not None and told is not None:
        yield from unit_findings(unit.name, told)
    elif unit is not None:
        yield note(
            CHECK,
            f"the service {unit.name} is installed, and systemd does not answer",
            "What state it is in cannot be told.",
            f"`systemctl status {unit.name}`",
        )
    elif pid is not None:
        yield ok(CHECK, f"it runs in process {pid}; no service is installed that starts it with the system")
    elif BusPlace(project.root, environ).live_endpoint() is not None:
        yield ok(CHECK, "it does not run; nodes of this project do")
    else:
        yield ok(CHECK, "it does not run, and no service is installed")
    if pid is not None:
        yield from _answer(place, pid)


def _answer(place: DaemonPlace, pid: int) -> Iterator[Finding]:
    """Give what the daemon says of itself."""
    try:
        told = asked_status(place)
    except MechaError as error:
        yield wrong(CHECK, str(error), "It may hang.", error.hint or f"kill {pid}, and start it again.")
        return
    if told is None:
        return
    yield from status_findings(told)


def status_findings(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Give what a daemon that runs says is wrong.

    Args:
        told: what `GET /api/status` answers.
    """
    for fault in str(told.get("catalog_fault") or "").splitlines():
        yield wrong(
            CHECK,
            f"it goes on with older files: {fault}",
            "What was changed since then does not count.",
            "Correct the line that it names.",
        )
    mirror = str(told.get("mirror_fault") or "")
    if mirror:
        yield note(
            CHECK,
            f"it brings no models: {mirror}",
            "What is there runs on; it tries again by itself.",
            "See what is said of the hub below.",
        )
    if told.get("ready"):
        yield ok(CHECK, "it is ready")
    elif not mirror:
        yield note(
            CHECK,
            f"it is not ready: {told.get('why') or 'it does not say why'}",
            "A model that a node needs is not there yet, or a node does not run.",
            "`mecha daemon status` shows how far it is.",
        )


def unit_state(name: str) -> dict[str, str] | None:
    """Return what systemd tells of a service, None where it does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    command = (systemctl, "show", f"{name}.service", f"--property={','.join(_ASKED)}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    told = {key: value for key, _, value in pairs}
    return told if done.returncode == 0 and told.get("ActiveState") else None


def unit_findings(name: str, told: Mapping[str, str]) -> Iterator[Finding]:
    """Give what systemd's words for a service mean.

    Args:
        told: as `systemctl show` writes it.
    """
    state, sub, result = told.get("ActiveState", ""), told.get("SubState", ""), told.get("Result", "")
    restarts = int(told["NRestarts"]) if told.get("NRestarts", "").isdecimal() else 0
    log = f"`journalctl -u {name} -n 50` says why; `systemctl restart {name}` starts it again."
    if state == "failed":
        yield wrong(CHECK, f"the service {name} has failed: {_words(result, told)}", "No node runs.", log)
    elif sub == "auto-restart":
        yield wrong(
            CHECK, f"the service {name} ends again and again: {_words(result, told)}", "No node runs for long.", log
        )
    elif state != "active":
        yield note(
            CHECK,
            f"the service {name} is {state}",
            "No node runs.",
            f"`systemctl start {name}`, unless it was stopped on purpose.",
        )
    elif restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        yield note(
            CHECK,
            f"the service {name} runs; systemd had to start it again {times}",
            "It ended without being asked to.",
            f"`journalctl -u {name}` tells when and why.",
        )
    else:
        yield ok(CHECK, f"the service {name} runs")
    if told.get("UnitFileState") == "disabled":
        yield note(
            CHECK,
            f"the service {name} is not enabled",
            "It does not start with the system.",
            f"sudo systemctl enable {name}",
        )


def _words(result: str, told: Mapping[str, str]) -> str:
    match result:
        case "watchdog":
            return "it showed no sign of life for 30 s"
        case "oom-kill":
            return "the system ended it for its memory"
        case "timeout":
            return "it was not ready, or did not end, in time"
        case "exit-code":
            return f"exit code {told.get('ExecMainStatus', '?')}"
        case "signal" | "core-dump":
            return f"ended by signal {told.get('ExecMainStatus', '?')}"
        case _:
            return result or "no reason is told"
