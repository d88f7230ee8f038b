"""A pull as a user sees it: a real process, a real server on loopback, real kills."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import psutil
import pytest
from tests.service.conftest import PLAIN, Bench, make_bench

from mecha.hub.mirror import RunningMirror

REPORT = {"report.md", "report.html", "report.json"}
FILES = {"model.onnx", "model-int8.onnx", "labels.txt", "config.json", "manifest.json"} | REPORT


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"gave up waiting until {what}"
        time.sleep(0.01)


def manifest(bench: Bench) -> dict[str, object]:
    document: dict[str, object] = json.loads((bench.root / "models/arena/manifest.json").read_text())
    return document


def test_a_pull_publishes_both_precisions_labels_config_and_manifest(pulled: Bench, served: bytes) -> None:
    folder = pulled.root / "models" / "arena"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "model.onnx").read_bytes() == served
    assert (folder / "labels.txt").read_text() == "cone\nball\ncrate\ntag\n"
    config = json.loads((folder / "config.json").read_text())
    assert config["family"] == "yolov8"
    assert config["input"] == {"name": "images", "height": 320, "width": 320, "dynamic": False, "stride": 32}
    assert config["int8"]["verdict"] in ("faster", "slower")


def test_int8_keeps_the_inputs_and_outputs_of_fp32_in_plain_onnxruntime(pulled: Bench) -> None:
    def signature(name: str) -> list[tuple[str, object, str]]:
        session = onnxruntime.InferenceSession(str(pulled.root / "models/arena" / name))
        return [(value.name, value.shape, value.type) for value in (*session.get_inputs(), *session.get_outputs())]

    assert signature("model-int8.onnx") == signature("model.onnx")


def test_a_second_pull_without_a_server_does_nothing_and_opens_no_socket(pulled: Bench, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.bind'):\n"
        "        sys.stderr.write('SOCKET ' + event)\n"
        "sys.addaudithook(hook)\n"
    )
    done = pulled.command("models", "pull", "arena", PYTHONPATH=str(audit))
    assert done.returncode == 0
    assert done.stdout == f"arena: complete in {pulled.root}/models/arena, nothing to do\n"
    assert "SOCKET" not in done.stderr


def test_a_second_project_pulls_from_the_cache_without_quantizing_again(pulled: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other", pulled.home, dict(pulled.environ))
    other.root.mkdir()
    other.write_catalog((pulled.root / "model_catalog.toml").read_text())
    (other.root / "mecha.lock").write_bytes((pulled.root / "mecha.lock").read_bytes())
    done = other.command("models", "pull", "arena", "--offline", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [line["event"] for line in lines] == ["done"], "no stage of the pull had work to do"
    assert lines[0]["downloaded_bytes"] == 0
    first = (pulled.root / "models/arena/model-int8.onnx").read_bytes()
    assert (other.root / "models/arena/model-int8.onnx").read_bytes() == first


def test_json_lines_end_with_what_was_done(bench: Bench, served: bytes) -> None:
    done = bench.command("models", "pull", "arena", "--json", "--no-quantize")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {"event": "licence", "name": "arena", "licence": "Apache-2.0"}
    assert {"event", "stage", "completed", "total"} == set(lines[1])
    assert lines[-1] == {
        "event": "done",
        "name": "arena",
        "path": str(bench.root / "models" / "arena"),
        "method": None,
        "verdict": None,
        "provisional": False,
        "speedup": None,
        "agreement": None,
        "downloaded_bytes": len(served),
        "changed": True,
        "message": "INT8 is not enabled",
        "fault": None,
    }


def test_killed_in_the_download_the_next_pull_transfers_only_the_rest(
    bench: Bench, hub: RunningMirror, served: bytes
) -> None:
    size = len(served)
    running = bench.start("models", "pull", "arena", "--no-quantize", "--limit-rate", "400k")
    partials = bench.home / "cache"

    def got() -> int:
        return max((path.stat().st_size for path in partials.rglob("*") if path.is_file()), default=0)

    wait_until(lambda: got() >= 0.4 * size, "40 % are there")
    running.send_signal(signal.SIGKILL)
    running.communicate()
    kept = got()
    before = hub.bytes_served
    done = bench.command("models", "pull", "arena", "--no-quantize", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["downloaded_bytes"] == size - kept
    # Metadata answers are a few hundred bytes of JSON at the most.
    assert size - kept <= hub.bytes_served - before <= size - kept + 4096
    assert (bench.root / "models/arena/model.onnx").read_bytes() == served


def test_killed_in_the_quantization_fp32_is_whole_and_the_next_pull_makes_int8_only(
    tmp_path: Path, hub: RunningMirror
) -> None:
    """With all that a build tries where the catalog says nothing."""
    bench = make_bench(tmp_path / "project", tmp_path / "home", hub.endpoint, options="")
    running = bench.start("models", "pull", "arena", "--json")
    assert running.stdout is not None
    children: list[psutil.Process] = []
    for line in running.stdout:
        if json.loads(line).get("stage") in ("calibrate", "quantize"):
            children = psutil.Process(running.pid).children(recursive=True)
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert children, "INT8 is made in a child process"
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "the child ends when its parent is gone"
    verified = bench.command("models", "verify", "arena")
    assert verified.stdout == "arena: every file is what its manifest says\n"
    done = bench.command("models", "pull", "arena", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["downloaded_bytes"], last["method"]) == (0, "static_int8")
    gains = manifest(bench)["int8"]["gains"]  # type: ignore[index]
    assert "weight rounding" in [gain["technique"] for gain in gains]


@pytest.mark.parametrize(("package", "method"), [("onnx", "static_int8"), ("onnxruntime.quantization", "dynamic_int8")])
def test_without_a_package_fp32_is_published_and_the_next_pull_makes_int8(
    tmp_path: Path, hub: RunningMirror, served: bytes, package: str, method: str
) -> None:
    bench = make_bench(
        tmp_path / "project", tmp_path / "home", hub.endpoint, method=method, options=f"escalate = false\n{PLAIN}"
    )
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}:\n"
        f"            raise ModuleNotFoundError('No module named ' + repr({package!r}), name={package!r})\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    done = bench.command("models", "pull", "arena", PYTHONPATH=str(broken))
    assert done.returncode == 0, done.stderr
    assert "FP32 is ready; INT8 is not" in done.stderr
    assert "pip install onnx onnxruntime" in done.stderr
    assert (bench.root / "models/arena/model.onnx").read_bytes() == served
    assert not (bench.root / "models/arena/model-int8.onnx").exists()
    again = bench.command("models", "pull", "arena", "--json", "--offline")
    last = json.loads(again.stdout.splitlines()[-1])
    assert (last["downloaded_bytes"], last["method"]) == (0, method)


def test_a_build_over_its_time_limit_leaves_fp32_and_says_where_the_limit_is(bench: Bench) -> None:
    settings = bench.root / "configs" / "common" / "mecha.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[quantize]\ntime_limit_s = 0.5\n")
    done = bench.command("models", "pull", "arena")
    assert done.returncode == 0
    assert done.stderr.endswith(
        "  FP32 is ready; INT8 is not: arena: INT8 was not ready after 0.5 s (quantize.time_limit_s)\n"
        "  next: FP32 works; raise quantize.time_limit_s in configs/common/mecha.toml, "
        "then run `mecha models quantize arena`\n"
    )
    settings.write_text("")
    again = bench.command("models", "quantize", "arena", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["method"] == "static_int8"


def test_a_slow_method_is_replaced_and_one_line_says_so(tmp_path: Path, hub: RunningMirror) -> None:
    bench = make_bench(tmp_path / "p", tmp_path / "h", hub.endpoint, method="dynamic_int8")
    done = bench.command("models", "pull", "arena")
    tried = manifest(bench)["int8"]["tried"]  # type: ignore[index]
    assert [item["method"] for item in tried][:2] == ["dynamic_int8", "static_int8"]
    assert tried[0]["verdict"] == "slower"
    speed = f"{tried[0]['speedup']:.1f}x FP32 on this CPU"
    assert f"  dynamic_int8 is {speed}; built static_int8 instead: " in done.stdout


def test_without_escalation_the_requested_method_is_published_and_marked(tmp_path: Path, hub: RunningMirror) -> None:
    bench = make_bench(tmp_path / "p", tmp_path / "h", hub.endpoint, method="dynamic_int8", options="escalate = false")
    done = bench.command("models", "pull", "arena", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["method"], last["verdict"]) == ("dynamic_int8", "slower")
