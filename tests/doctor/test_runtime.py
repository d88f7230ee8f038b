"""onnxruntime is tried in a process that may crash."""

import os
import sys

import pytest

from mecha.doctor.finding import Finding
from mecha.doctor.runtime import runtime_findings

STEP = 'import sys, os, signal; print(\'{"step": "load"}\', flush=True); '
DONE = 'print(\'{"step": "done", "version": "1.31.1", "providers": [], "threads": 1, "ms": 2.0}\')'


def found(code: str, timeout_s: float = 30) -> list[Finding]:
    return list(runtime_findings(os.environ, (sys.executable, "-c", code), timeout_s=timeout_s))


def test_the_onnxruntime_that_is_installed_runs_the_model_of_the_package() -> None:
    (finding,) = runtime_findings(os.environ)
    assert (finding.check, finding.level) == ("onnxruntime", "ok")
    assert "loads and runs a model" in finding.what


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SIGILL", "This build of onnxruntime uses instructions that this CPU does not have."),
        ("SIGSEGV", "No detector can run on this device."),
        (
            "SIGKILL",
            "The system ended it: as a rule because the memory, or what a container may take of it, is used up.",
        ),
        ("SIGSYS", "A filter of system calls, of a container or a service, does not let it do what it needs."),
    ],
)
def test_a_crash_is_a_finding_that_says_where_it_happened(name: str, why: str) -> None:
    (finding,) = found(f"{STEP}os.kill(os.getpid(), signal.{name})")
    assert finding.level == "wrong"
    assert finding.what == f"onnxruntime was ended by {name} while it loaded a model"
    assert finding.why == why
    assert finding.remedy


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("ImportError: libgomp.so.1: cannot open shared object file", "Install the library that it names"),
        ("ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found", "Update the system"),
        ("ModuleNotFoundError: No module named 'onnxruntime'", "Install mecha again in this environment"),
        ("MemoryError", "Free memory, or raise the limit"),
        ("RuntimeError: something else", "Install another version of onnxruntime"),
    ],
)
def test_what_keeps_it_from_loading_is_told_with_its_remedy(fault: str, remedy: str) -> None:
    (finding,) = found(f"{STEP}print({fault!r}, file=sys.stderr); sys.exit(1)")
    assert finding.level == "wrong"
    assert finding.what == f"onnxruntime ended with a fault while it loaded a model: {fault}"
    assert finding.remedy.startswith(remedy)


def test_one_that_hangs_is_ended_and_told() -> None:
    (finding,) = found("import time; time.sleep(600)", timeout_s=0.3)
    assert finding.what == "onnxruntime did not come to an end in 0.3 s: it hung before it began"


def test_what_it_warns_of_while_it_works_is_a_note() -> None:
    well, warning = found(f"import sys; print('Error in cpuinfo: no cores', file=sys.stderr); {DONE}")
    assert (well.level, well.what) == ("ok", "onnxruntime 1.31.1 loads and runs a model (1 thread)")
    assert (warning.level, warning.what) == ("note", "onnxruntime warns: Error in cpuinfo: no cores")


def test_an_end_without_a_word_is_no_success() -> None:
    (finding,) = found("pass")
    assert finding.what == "onnxruntime ended with a fault before it began: it says nothing"
