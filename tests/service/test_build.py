"""The process that makes INT8, as its parent sees it."""

import os
import sys
from pathlib import Path

import pytest
from tests.detect.blob_detector import blob_detector
from tests.service.jobs import blob_job

from mecha.errors import QuantizationError
from mecha.progress import silent
from mecha.project import QuantizeSettings
from mecha.service.build import run_build
from mecha.service.job import BuildJob

RETRY = "FP32 works; run `mecha models quantize blobs` to try again"


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    (tmp_path / "model.onnx").write_bytes(blob_detector())
    return blob_job(tmp_path)


def runs_instead(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be one that a test has chosen: no model crashes a runtime when it is asked to."""
    shell = folder / "python"
    shell.write_text(f"#!/bin/sh\n{program}\n")
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", os.fspath(shell))


@pytest.mark.skipif(sys.platform == "win32", reason="a script of the shell")
@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("echo of a library; echo 'no memory' >&2; echo >&2; exit 3", "exit code 3: no memory"),
        ("printf 'caf\\351\\n' >&2; kill -SEGV $$", "signal SIGSEGV: caf\N{REPLACEMENT CHARACTER}"),
        ("exec >&-; sleep 0.3; echo late >&2; exit 4", "exit code 4: late"),
        ("kill -KILL $$", "signal SIGKILL, which a kernel that is out of memory sends"),
    ],
)
def test_one_that_ends_without_an_answer_is_told_with_its_last_words(
    job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, what: str
) -> None:
    runs_instead(program, tmp_path, monkeypatch)
    with pytest.raises(QuantizationError) as died:
        run_build(job, QuantizeSettings(), silent)
    assert str(died.value) == f"blobs: making INT8 ended with {what}"
    assert died.value.hint == RETRY


def test_who_interrupts_it_gets_no_fault_of_a_thread(job: BuildJob) -> None:
    def interrupt(stage: str, completed: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_build(job, QuantizeSettings(), interrupt)
    assert not (job.out_dir / "model-int8.onnx").exists()


def test_one_that_cannot_be_started_is_told(job: BuildJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.fspath(job.out_dir / "no python"))
    with pytest.raises(QuantizationError) as refused:
        run_build(job, QuantizeSettings(), silent)
    assert str(refused.value) == "blobs: no process can be started for INT8: no such file or directory"
    assert refused.value.hint == "FP32 works; the number of processes or the memory of this device is used up"
