"""The command line as a whole: quick help, one sentence a failure, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numpy", "onnx", "onnxruntime", "cv2", "zenoh", "fastapi", "rich", "pydantic")


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mecha", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """Top-level packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mecha", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    assert loaded("--help", cwd=tmp_path).isdisjoint(HEAVY)


def test_listing_models_loads_neither_arrays_nor_runtimes(tmp_path: Path) -> None:
    assert loaded("models", "list", cwd=tmp_path).isdisjoint({"numpy", "onnx", "onnxruntime", "cv2", "zenoh"})


def test_help_names_every_command_with_a_line(tmp_path: Path) -> None:
    text = run("--help", cwd=tmp_path).stdout
    for name in (
        "models",
        "detect",
        "quantize",
        "dev",
        "run",
        "topic",
        "record",
        "replay",
        "config",
        "init",
        "hub",
        "daemon",
        "doctor",
        "demo",
    ):
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    "command",
    [
        ("models", name)
        for name in (
            "pull",
            "list",
            "show",
            "verify",
            "remove",
            "quantize",
            "calibrate",
            "bench",
            "tune",
            "eval",
            "report",
            "add",
            "adopt",
            "outdated",
            "update",
            "rollback",
        )
    ]
    + [
        ("topic", "list"),
        ("topic", "echo"),
        ("topic", "hz"),
        ("record",),
        ("replay",),
        ("config", "get"),
        ("config", "set"),
        ("hub", "serve"),
        ("dev",),
        ("run",),
        ("detect",),
        ("quantize",),
        ("init",),
        ("demo",),
    ],
    ids=" ".join,
)
def test_every_command_has_help(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    import mecha

    assert run("--version", cwd=tmp_path).stdout == f"mecha {mecha.__version__}\n"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (("models", "pull"), 2, "Missing argument"),
        (("nonsense",), 2, "No such command"),
        (
            ("models", "pull", "arena-n", "--limit-rate", "fast"),
            2,
            'error: --limit-rate: got "fast"; expected bytes per second such as 500k or 2M\n',
        ),
        (
            ("models", "pull", "arena-n", "--method", "int4"),
            2,
            'error: --method: got "int4"; expected dynamic_int8, static_int8 or auto\n',
        ),
        (
            ("dev",),
            4,
            "error: no project here: {cwd} and the folders above it have no model_catalog.toml\n"
            "  next: `mecha init DIR` makes a project; or change to the folder of one.\n",
        ),
        (("models", "verify", "arena-n"), 4, 'error: model "arena-n" is not pulled: '),
        (("hub", "serve", "nowhere"), 4, "nowhere"),
    ],
    ids=["missing argument", "no such command", "rate", "method", "no project", "not pulled", "no folder"],
)
def test_a_wrong_call_is_a_sentence_and_an_exit_code(
    command: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = run(*command, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message.format(cwd=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_leaves_no_trace(tmp_path: Path) -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "mecha", "models", "list"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None
    listing.stdout.close()
    _, said = listing.communicate(timeout=60)
    assert said == b""


def test_init_lays_out_a_project_and_never_writes_over_one(tmp_path: Path) -> None:
    first = run("init", "robot", cwd=tmp_path)
    assert first.stdout.splitlines()[-1] == "next: cd robot && mecha models pull arena-n && mecha dev"
    for name in ("nodes/camera/node.py", "configs/common/nodes/object-detector/config.json", "model_catalog.toml"):
        assert (tmp_path / "robot" / name).is_file()
    again = run("init", "robot", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == (
        "error: robot: is a project already, it holds model_catalog.toml\n  next: name another folder\n"
    )


def test_config_get_and_set_read_and_write_one_value(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    assert run("config", "get", "object-detector", "use_int8", cwd=tmp_path).stdout == '"auto"\n'
    done = run("config", "set", "object-detector", "use_int8", "true", cwd=tmp_path)
    assert done.stdout == "configs/common/nodes/object-detector/config.json: use_int8 = true\n"
    assert run("config", "get", "object-detector", "use_int8", cwd=tmp_path).stdout == "true\n"


def test_config_set_does_not_repeat_a_password_and_config_get_gives_what_the_file_has(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    done = run("config", "set", "camera", "source", "rtsp://u:se/cret@host/x?password=hidden", cwd=tmp_path)
    assert done.stdout == "configs/common/nodes/camera/config.json: source = rtsp://***@host/x?password=***\n"
    got = run("config", "get", "camera", "source", cwd=tmp_path)
    assert got.stdout == '"rtsp://u:se/cret@host/x?password=hidden"\n'


def test_config_set_refuses_what_the_node_would_refuse_and_leaves_the_file(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    file = tmp_path / "configs/common/nodes/object-detector/config.json"
    before = file.read_bytes()
    done = run("config", "set", "object-detector", "use_int", "true", cwd=tmp_path)
    assert done.returncode == 3
    assert 'use_int: unknown key; did you mean "use_int8"?' in done.stderr
    assert file.read_bytes() == before


def test_the_demo_ends_with_its_table_and_a_picture(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mecha", "demo", "--dir", "shown"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for label in ("file size", "session, gate", "frame p50 in the node", "mAP50-95, arena", "agreement", "dropped"):
        assert label in done.stdout
    assert "use_int8 switched 6 times while running: INT8 FP32 INT8 FP32 INT8 FP32" in done.stdout
    assert (tmp_path / "shown" / "demo.png").is_file()
