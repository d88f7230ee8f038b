"""Whether onnxruntime loads and runs here. It is tried in a process of its own: a crash is a finding, not a crash."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mecha.doctor.child import run_child
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.words import printable

CHECK = "onnxruntime"
TIMEOUT_S = 60.0

_CHILD = (sys.executable, "-m", "mecha.doctor.runtime_child")
_STEPS = {
    "": "before it began",
    "import": "while it was imported",
    "load": "while it loaded a model",
    "run": "while it ran a model",
    "done": "at its end",
}
_ANOTHER = "Install another version of onnxruntime, the one before or after it, and run `mecha doctor` again."
_LONGEST_LINE = 300
# A line of a trace, or of a log, that says where and not what.
_PLACE = re.compile(r'^(\s|File "|Traceback )')


def runtime_findings(
    environ: Mapping[str, str], command: Sequence[str] = _CHILD, *, timeout_s: float = TIMEOUT_S
) -> Iterator[Finding]:
    """Give what came of loading onnxruntime and running a small model.

    Args:
        environ: of the process that tries.
        command: the process; it writes lines of JSON, see `runtime_child`.
        timeout_s: how long it may take.
    """
    try:
        done = run_child(command, environ, timeout_s=timeout_s)
    except subprocess.TimeoutExpired as error:
        told = _told(error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else "")
        yield wrong(
            CHECK,
            f"onnxruntime did not come to an end in {timeout_s:g} s: it hung {_step(told)}",
            "No detector can run on this device.",
            f"Stop what else takes the CPU. If it hangs then too: {_ANOTHER}",
        )
        return
    told = _told(done.stdout)
    if done.returncode == 0 and told and told[-1].get("step") == "done":
        yield from _well(told[-1], done.stderr)
    elif done.returncode < 0:
        yield _crashed(-done.returncode, _step(told))
    else:
        yield _refused(_last_line(done.stderr), _step(told))


def _well(told: Mapping[str, Any], stderr: str) -> Iterator[Finding]:
    others = f"; besides the CPU: {', '.join(told['providers'])}" if told["providers"] else ""
    threads = f"{told['threads']} thread{'' if told['threads'] == 1 else 's'}"
    yield ok(CHECK, f"onnxruntime {told['version']} loads and runs a model ({threads}){others}")
    warning = _last_line(stderr)
    if warning:
        yield note(
            CHECK,
            f"onnxruntime warns: {warning}",
            "It runs all the same; in a container without /sys it may not know its cores.",
        )


def _crashed(number: int, step: str) -> Finding:
    name = signal.Signals(number).name if number in {item.value for item in signal.Signals} else f"signal {number}"
    what = f"onnxruntime was ended by {name} {step}"
    if name == "SIGILL":
        why = "This build of onnxruntime uses instructions that this CPU does not have."
        remedy = "Install an onnxruntime that is built for this CPU: of the maker of the board, or an older one."
    elif name == "SIGKILL":
        why = "The system ended it: as a rule because the memory, or what a container may take of it, is used up."
        remedy = "Free memory or raise the limit; `dmesg` tells whether the kernel did it."
    elif name == "SIGSYS":
        why = "A filter of system calls, of a container or a service, does not let it do what it needs."
        remedy = "Allow @system-service in the filter (SystemCallFilter= of a unit, seccomp of a container)."
    else:
        why = "No detector can run on this device."
        remedy = _ANOTHER
    return wrong(CHECK, what, why, remedy)


def _refused(line: str, step: str) -> Finding:
    what = f"onnxruntime ended with a fault {step}: {line or 'it says nothing'}"
    why = "No detector can run on this device."
    if "GLIBC" in line:
        why = "The wheel was built for a newer system than this one."
        remedy = "Update the system, or install an onnxruntime that is old enough for it."
    elif "executable stack" in line:
        why = "The system does not allow what this build of onnxruntime asks for."
        remedy = "Install onnxruntime 1.21 or newer."
    elif "No module named" in line:
        remedy = "Install mecha again in this environment: what it depends on is not there."
    elif "cannot open shared object" in line:
        remedy = "Install the library that it names with the package manager of the system."
    elif "MemoryError" in line or "bad_alloc" in line or "Cannot allocate memory" in line:
        why = "There is not enough memory, or a limit forbids it."
        remedy = "Free memory, or raise the limit (`ulimit -v`, MemoryMax= of a unit)."
    else:
        remedy = _ANOTHER
    return wrong(CHECK, what, why, remedy)


def _told(stdout: str) -> list[dict[str, Any]]:
    """Return the objects that a child wrote; a line that was cut off is none."""
    found: list[dict[str, Any]] = []
    for line in stdout.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _step(told: Sequence[Mapping[str, Any]]) -> str:
    return _STEPS.get(str(told[-1].get("step", "")) if told else "", _STEPS[""])


def _last_line(text: str) -> str:
    lines = [printable(line) for line in text.splitlines() if line.strip() and not _PLACE.match(line)]
    return lines[-1][:_LONGEST_LINE] if lines else ""
