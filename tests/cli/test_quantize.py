"""`mecha quantize --config FILE.json` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.quantize.xquant.project import Project


def run(project: Project, *options: str) -> "subprocess.CompletedProcess[str]":
    config = project.written().relative_to(project.root)
    command = [sys.executable, "-m", "mecha", "quantize", "--config", str(config), "--threads", "1", *options]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=120, check=False)


def test_a_configuration_is_run_and_what_became_of_it_is_told(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.entry["std_values"] = [1]
    project.photos[2].write_bytes(b"no picture")
    done = run(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("out/small.q.onnx: ")
    assert "  calibrated on 3 files, 1 of the list skipped: not there, or cannot be read" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "out/small.q_report.md: every tensor compared with FP32"
    assert (
        f"warning: config.json:{project.line_of('std_values')}: calibration_parameters.input_parametres[0].std_values: "
        'unknown key, passed over; did you mean "std_value"?\n'
    ) in done.stderr


def test_its_help_offers_what_that_of_others_does() -> None:
    command = [sys.executable, "-m", "mecha", "quantize", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "--config" in done.stdout
    assert "completion" not in done.stdout


def test_json_holds_the_same(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.entry["std_values"] = [1]
    done = run(project, "--json")
    assert done.returncode == 0, done.stderr
    *progress, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["event"] for line in progress} == {"progress"}
    assert (last["event"], last["method"], last["samples"]) == ("done", "static_int8", 4)
    assert (tmp_path / last["model"]).stat().st_size == last["int8_bytes"]
    assert last["outputs"][0]["snr"] < 0.01
    assert len(last["warnings"]) == 1
    assert done.stderr == ""


def test_a_fault_is_a_sentence_and_an_exit_code(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.config["quantization_parameters"]["precision_level"] = 4
    done = run(project)
    assert done.returncode == 3
    assert done.stderr == (
        f"error: config.json:{project.line_of('precision_level')}: quantization_parameters.precision_level: got 4; "
        "expected 0, 1, 2 or 3; 4, which is FP16, and beyond are no INT8\n"
    )
    assert not (tmp_path / "out").exists()
