"""Models carried on a stick: real commands, real bundles, two devices that never see each other."""

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.service.bundles import last_line, snapshot
from tests.service.conftest import CATALOG, Bench

LISTENER = """
import os, sys
def _hook(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind"):
        family = arguments[1] if event == "socket.__new__" else None
        if family != 1:  # AF_UNIX never leaves the machine
            with open(os.environ["SOCKET_LOG"], "a") as log:
                log.write(f"{sys.argv} {event} {arguments[1:]}\\n")
sys.addaudithook(_hook)
"""


def test_the_same_model_exported_twice_is_the_same_file(pulled_once: Bench, bundle: Path, tmp_path: Path) -> None:
    done = pulled_once.command("models", "export", "arena", "arena", "-o", str(tmp_path / "again.tar"), "--json")
    told = last_line(done)
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()
    assert told["size_bytes"] == bundle.stat().st_size
    assert [(model["name"], model["licence"], model["left_out"]) for model in told["models"]] == [
        ("arena", "Apache-2.0", [])
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "again.tar"], "nothing unfinished stays beside it"


def test_an_export_says_what_is_in_the_bundle(pulled_once: Bench, tmp_path: Path) -> None:
    done = pulled_once.command("models", "export", "arena", "-o", str(tmp_path / "b.tar"))
    first, second = done.stdout.splitlines()
    assert first == "arena: FP32 and INT8 (licence Apache-2.0)"
    assert second.startswith(f"{tmp_path}/b.tar: 1 model, ")


def test_a_device_without_a_network_has_the_model_and_its_int8_from_the_bundle(
    pulled_once: Bench, bundle: Path, robot: Bench
) -> None:
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 0, done.stderr
    folder = robot.root / "models" / "arena"
    assert done.stdout.splitlines()[0] == f"arena: {folder} (licence Apache-2.0)"
    assert "  INT8 is that of the bundle: CPU and onnxruntime are alike" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == f"  added to {robot.root}/model_catalog.toml"
    before = snapshot(pulled_once.root / "models" / "arena")
    now = snapshot(folder)
    assert {name for name in before if before[name] != now.get(name)} <= {"manifest.json"}, "only its time is another"
    assert (robot.root / "mecha.lock").read_text() == (pulled_once.root / "mecha.lock").read_text()
    assert (robot.root / "model_catalog.toml").read_text().startswith("# the models of this robot\n")


def test_an_import_of_what_is_there_does_nothing(bundle: Path, robot: Bench) -> None:
    robot.command("models", "import", str(bundle))
    before = snapshot(robot.root)
    done = robot.command("models", "import", str(bundle))
    assert (done.returncode, done.stdout) == (0, f"arena: complete in {robot.root}/models/arena, nothing to do\n")
    assert last_line(robot.command("models", "import", str(bundle), "--json"))["models"][0]["int8"] == "unchanged"
    assert snapshot(robot.root) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda content: content[:-2000],
            r"ends in files/[0-9a-f]{64}, after \d+ of \d+ bytes: the bundle was cut off",
        ),
        (
            lambda content: content[:-3000] + bytes([content[-3000] ^ 1]) + content[-2999:],
            r"files/([0-9a-f]{64}): the content has sha256 (?!\1)[0-9a-f]{64}",
        ),
    ],
    ids=["cut off", "a bit flipped"],
)
def test_a_bundle_is_compared_to_its_end_although_all_of_it_is_here(
    pulled_once: Bench, bundle: Path, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(change(bundle.read_bytes()))
    before = snapshot(pulled_once.root)
    done = pulled_once.command("models", "import", str(broken))
    assert (done.returncode, done.stdout) == (6, "")
    fault, hint = done.stderr.splitlines()[-2:]
    assert re.fullmatch(f"error: {re.escape(str(broken))}: {words}", fault)
    assert hint == "  next: Nothing was imported. Copy the bundle again, or export it again."
    assert snapshot(pulled_once.root) == before


def test_who_writes_a_bundle_into_a_pipe_comes_to_its_end_although_all_is_here(pulled_once: Bench) -> None:
    commands = [
        [sys.executable, "-m", "mecha", "models", *words] for words in (("export", "arena", "-o", "-"), ("import", "-"))
    ]
    start = partial(
        subprocess.Popen[str], text=True, cwd=pulled_once.root, env=pulled_once.environment, stderr=subprocess.PIPE
    )
    with start(commands[0], stdout=subprocess.PIPE) as exporting:
        with start(commands[1], stdin=exporting.stdout, stdout=subprocess.PIPE) as importing:
            assert exporting.stdout is not None
            exporting.stdout.close()
            said, fault = importing.communicate(timeout=120)
        assert (exporting.wait(120), importing.returncode) == (0, 0), fault
    assert said == f"arena: complete in {pulled_once.root}/models/arena, nothing to do\n"


def test_a_bundle_can_come_and_go_through_a_pipe(pulled_once: Bench, bundle: Path, robot: Bench) -> None:
    def piped(bench: Bench, *arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "mecha", "models", *arguments]
        return subprocess.run(
            command, cwd=bench.root, env=bench.environment, input=data, capture_output=True, timeout=120, check=False
        )

    exported = piped(pulled_once, "export", "arena", "-o", "-")
    assert exported.stdout == bundle.read_bytes()
    assert b"1 model, " in exported.stderr
    imported = piped(robot, "import", "-", data=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    assert robot.command("models", "verify", "arena").returncode == 0


def test_a_model_that_is_another_one_here_stays(bundle: Path, robot: Bench) -> None:
    robot.write_catalog('[[models]]\nname = "arena"\nrepo = "other/repo"\nfilename = "x.onnx"\n')
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'error: model "arena" is another one here: {robot.root}/model_catalog.toml names other/repo/x.onnx, '
        "the bundle has mecha/arena-n/arena-n.onnx",
        "  next: Nothing was imported. Rename the entry here, or name the models to import.",
    ]
    assert not (robot.root / "mecha.lock").exists()


def test_a_catalog_that_pins_another_file_is_obeyed(bundle: Path, robot: Bench) -> None:
    robot.write_catalog(CATALOG.format(method="auto", options="").replace("license", f'sha256 = "{"1" * 64}"\nlicense'))
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 2
    assert f"expects sha256 {'1' * 64}, the bundle has " in done.stderr


def test_only_some_models_of_a_bundle_are_taken_by_name(pulled: Bench, robot: Bench, tmp_path: Path) -> None:
    pulled.write_catalog((pulled.root / "model_catalog.toml").read_text() + SECOND)
    assert pulled.command("models", "pull", "again", "--offline").returncode == 0
    both = tmp_path / "both.tar"
    done = pulled.command("models", "export", "again", "arena", "-o", str(both))
    assert done.stdout.splitlines()[0] == "again: FP32 (licence Apache-2.0)"
    with tarfile.open(both) as tar:
        fp32 = (pulled.root / "models/arena/model.onnx").stat().st_size
        assert [member.size for member in tar].count(fp32) == 1, "both have the same FP32, stored once"
    done = robot.command("models", "import", str(both), "again")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (robot.root / "models").iterdir() if not path.name.startswith(".")] == ["again"]
    wrong = robot.command("models", "import", str(both), "arenna")
    assert wrong.returncode == 4
    assert wrong.stderr.splitlines() == [
        f'error: {both}: no model "arenna" in the bundle; did you mean "arena"?',
        "  next: It holds again, arena.",
    ]


SECOND = """
[[models]]
name = "again"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
license = "Apache-2.0"
"""


def test_a_file_of_one_device_becomes_a_model_of_another(pulled: Bench, robot: Bench, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "best.onnx"
    file.parent.mkdir()
    shutil.copyfile(pulled.root / "models/arena/model.onnx", file)
    added = pulled.command("models", "add", str(file), "--name", "cones", "--labels", "a,b,c,d", "--no-quantize")
    assert added.returncode == 0, added.stderr
    assert pulled.command("models", "export", "cones", "-o", str(tmp_path / "c.tar")).returncode == 0
    file.unlink()
    assert robot.command("models", "import", str(tmp_path / "c.tar")).returncode == 0
    assert 'path = "cones.onnx"' in (robot.root / "model_catalog.toml").read_text()
    assert (robot.root / "models/cones/labels.txt").read_text() == "a\nb\nc\nd\n"
    again = robot.command("models", "pull", "cones", "--offline")
    assert again.stdout == f"cones: complete in {robot.root}/models/cones, nothing to do\n"


def test_everything_that_was_imported_works_without_a_socket(bundle: Path, robot: Bench, tmp_path: Path) -> None:
    audit, log = tmp_path / "audit", tmp_path / "sockets"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(LISTENER)
    extra = {"PYTHONPATH": str(audit), "SOCKET_LOG": str(log)}
    quick = CATALOG.format(method="dynamic_int8", options="escalate = false")
    for command in (
        ("models", "import", str(bundle)),
        ("models", "list"),
        ("models", "show", "arena"),
        ("models", "verify", "arena"),
        ("models", "pull", "arena"),
        ("models", "pull", "arena", "--offline"),
        ("models", "export", "arena", "-o", str(tmp_path / "out.tar")),
        ("detect", "arena://", "--model", "arena", "--int8", "--frames", "2"),
        ("models", "quantize", "arena", "--offline"),
    ):
        if "quantize" in command:
            robot.write_catalog(quick)
        done = robot.command(*command, **extra)
        assert done.returncode == 0, (command, done.stderr)
    assert not log.exists(), log.read_text()
