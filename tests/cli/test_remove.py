"""`mecha models remove` asks before it removes, and only about what is there."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MECHA = [sys.executable, "-m", "mecha", "models"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with something published, which need not be whole to be removed."""
    (tmp_path / "model_catalog.toml").touch()
    folder = tmp_path / "models" / "arena"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    return tmp_path


def remove(project: Path, *arguments: str, answer: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MECHA, "remove", *arguments], cwd=project, input=answer, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def question(project: Path) -> str:
    return f"Remove arena from {project / 'models'}? [y/N]: "


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_who_declines_keeps_the_model(project: Path, answer: str) -> None:
    done = remove(project, "arena", answer=answer)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{question(project)}arena: kept\n", "")
    assert (project / "models" / "arena").is_dir()


def test_who_agrees_removes_it(project: Path) -> None:
    done = remove(project, "arena", answer="y\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{question(project)}arena: removed\n", "")
    assert not (project / "models" / "arena").exists()


def test_where_nobody_answers_the_option_is_told(project: Path) -> None:
    done = remove(project, "arena", answer="")
    assert (done.returncode, done.stdout) == (2, f"{question(project)}\n")
    assert done.stderr == (
        "error: standard input: got its end; expected y or n\n"
        "  next: Add `-y`, and the model is removed without a question.\n"
    )
    assert (project / "models" / "arena").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of Windows closes no standard input")
def test_without_a_standard_input_nothing_is_asked(project: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *MECHA, "remove", "arena"], cwd=project, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: standard input: got its end; expected y or n\n")


def test_what_is_not_there_is_not_asked_about(project: Path) -> None:
    done = remove(project, "nope", answer="y\n")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith('error: model "nope" is not pulled: ')


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_at_the_question_is_ctrl_c(project: Path) -> None:
    asked = question(project).encode()
    with subprocess.Popen(
        [*MECHA, "remove", "arena"], cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.read(len(asked)) == asked
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, rest, said) == (130, b"", b"")
    assert (project / "models" / "arena").is_dir()
