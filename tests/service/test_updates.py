"""Models that change upstream: seen, brought, refused, gone back from; real processes, and a Hub whose files change."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
import tomli
from tests.service.conftest import CATALOG, PLAIN, Bench, make_bench
from tests.store.example import publish

from mecha.errors import QuantizationError
from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.project import Project, Settings
from mecha.service.publication import Place
from mecha.service.request import PullOptions
from mecha.service.switching import put
from mecha.store.blobs import BlobCache, packaged_models
from mecha.store.manifest import GateRecord, Int8Record
from mecha.store.models import ModelStore

PHOTOS = """
[models.quantize.calibration]
repo = "mecha/photos"
files = ["a.png", "b.png"]
samples = 2
"""
LABELS = "cone\nball\ncrate\ntag\n"


class Upstream:
    """A repo on a Hub that somebody publishes into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = folder / "mecha" / "arena-n"
        self.repo.mkdir(parents=True)

    def publish(self, version: str, *, spoilt: bool = False) -> str:
        """Put a version of the model in the place of the one there is; return its sha256."""
        model = onnx.load(packaged_models()[0])
        model.metadata_props.add(key="version", value=version)
        if spoilt:
            _overflow(model)
        content = model.SerializeToString()
        self.put("mecha/arena-n/arena-n.onnx", content)
        return sha256(content).hexdigest()

    def put(self, path: str, content: bytes) -> None:
        """Replace a file as a publisher does: whole."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}")
        fresh.write_bytes(content)
        fresh.replace(target)


def _overflow(model: onnx.ModelProto) -> None:
    """Make what comes out of the second Conv infinite: it loads, and INT8 cannot be made of it."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convs[1:3]:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
        values = onnx.numpy_helper.to_array(weights) * 0 + 1e30
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), weights.name))


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "hub")


@pytest.fixture
def mirror(upstream: Upstream) -> Iterator[RunningMirror]:
    upstream.publish("1")
    with running_mirror(upstream.folder) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, mirror: RunningMirror) -> Bench:
    """A project whose catalog asks for FP32 and a label file."""
    made = make_bench(tmp_path / "project", tmp_path / "home", mirror.endpoint)
    made.write_catalog(entry())
    return made


def entry(name: str = "arena", *, quantize: bool = False, extra: str = "", labels: str = "") -> str:
    text = CATALOG.format(method="static_int8", options=f"escalate = false\n{PLAIN}{extra}")
    text = text.replace('name = "arena"', f'name = "{name}"').replace("enabled = true", f"enabled = {quantize}".lower())
    return text.replace("\n[models.quantize]", f'labels = "{labels}"\n\n[models.quantize]') if labels else text


def ran(bench: Bench, *arguments: str, code: int = 0, **extra: str) -> str:
    done = bench.command("models", *arguments, **extra)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def told(bench: Bench, *arguments: str, code: int = 0, **extra: str) -> dict[str, Any]:
    """The last line of a command's JSON."""
    found: dict[str, Any] = json.loads(ran(bench, *arguments, "--json", code=code, **extra).splitlines()[-1])
    return found


def published(bench: Bench, name: str = "arena") -> str:
    return sha256((bench.root / "models" / name / "model.onnx").read_bytes()).hexdigest()


def locked(bench: Bench) -> dict[str, dict[str, Any]]:
    files = tomli.loads((bench.root / "mecha.lock").read_text()).get("files", [])
    return {file["filename"]: file for file in files}


def everything(bench: Bench) -> dict[str, bytes]:
    """mecha.lock and all files of models/, but for lock files."""
    files = [bench.root / "mecha.lock", *(bench.root / "models").rglob("*")]
    return {
        str(file.relative_to(bench.root)): file.read_bytes()
        for file in files
        if file.is_file() and ".lock" not in file.suffixes and file.suffix not in (".guard", ".holder")
    } | {"mecha.lock": (bench.root / "mecha.lock").read_bytes()}


def test_the_lock_holds_model_label_file_and_photos_of_a_repo(tmp_path: Path, upstream: Upstream) -> None:
    photos = _photos(upstream)
    model = upstream.publish("1")
    upstream.put("mecha/arena-n/labels.txt", LABELS.encode())
    with running_mirror(upstream.folder) as mirror:
        bench = make_bench(tmp_path / "project", tmp_path / "home", mirror.endpoint)
        bench.write_catalog(entry(quantize=True, extra=PHOTOS, labels="labels.txt"))
        ran(bench, "pull", "arena")
        files = locked(bench)
        assert list(files) == ["a.png", "b.png", "arena-n.onnx", "labels.txt"], "sorted, and so the same each time"
        assert files["arena-n.onnx"]["sha256"] == model
        assert {files[name]["sha256"] for name in ("a.png", "b.png")} == {sha256(p).hexdigest() for p in photos}
        assert [len(file["revision"]) for file in files.values()] == [40] * 4
        sizes = [len(photos[0]), len(photos[1]), (upstream.repo / "arena-n.onnx").stat().st_size, len(LABELS)]
        assert [file["size_bytes"] for file in files.values()] == sizes

        # The file is written again as it was when somebody lost it, and the network is not asked.
        before = (bench.root / "mecha.lock").read_bytes()
        (bench.root / "mecha.lock").unlink()
        ran(bench, "pull", "arena", "--offline")
        assert (bench.root / "mecha.lock").read_bytes() == before

        # Other photos are another version too.
        upstream.put("datasets/mecha/photos/a.png", photos[1])
        news = told(bench, "outdated", code=1)["models"][0]
        assert [file["filename"] for file in news["files"] if file["changed"]] == ["a.png"]
        ran(bench, "update")
        assert locked(bench)["a.png"]["sha256"] == sha256(photos[1]).hexdigest()
        ran(bench, "rollback", "arena")
        assert locked(bench)["a.png"]["sha256"] == sha256(photos[0]).hexdigest()
        ran(bench, "pull", "arena", "--offline", "--frozen")


def _photos(upstream: Upstream) -> tuple[bytes, bytes]:
    from mecha.arena.leaves import calibration_scene
    from mecha.detect.images import write_image

    contents = []
    for number, name in enumerate(("a.png", "b.png")):
        file = upstream.folder / "datasets" / "mecha" / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_image(file, calibration_scene(0, number, 320, 320))
        contents.append(file.read_bytes())
    return contents[0], contents[1]


def test_a_model_that_changed_upstream_is_outdated_and_one_that_did_not_is_not(
    bench: Bench, upstream: Upstream
) -> None:
    first = published_by_a_pull(bench)
    assert told(bench, "outdated")["models"][0]["state"] == "current"
    upstream.put("mecha/arena-n/README.md", b"Another commit, the same model.")
    assert told(bench, "outdated")["models"][0]["state"] == "current"

    second = upstream.publish("2")
    news = told(bench, "outdated", code=1)
    assert news["schema"] == 1
    (model,) = news["models"]
    assert (model["name"], model["state"], model["reason"]) == ("arena", "outdated", "")
    (file,) = model["files"]
    assert (file["requested"], file["locked"]["sha256"], file["newest"]["sha256"]) == ("main", first, second)
    assert file["changed"]
    done = bench.command("models", "outdated")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split() == [
        "arena",
        "outdated",
        first[:12],
        second[:12],
        "main",
        "mecha/arena-n/arena-n.onnx",
    ]
    assert done.stderr == "`mecha models update` brings the newest versions\n"
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (first, first), "it was only looked at"


def published_by_a_pull(bench: Bench) -> str:
    ran(bench, "pull", "arena")
    return published(bench)


def test_broken_and_unreachable_models_are_said_and_do_not_stop_the_others(
    bench: Bench, upstream: Upstream, mirror: RunningMirror
) -> None:
    upstream.put("mecha/other/arena-n.onnx", (upstream.repo / "arena-n.onnx").read_bytes())
    bench.write_catalog(entry("broken") + entry("gone").replace("mecha/arena-n", "mecha/other") + entry("right"))
    for name in ("broken", "gone", "right"):
        ran(bench, "pull", name)
    (bench.root / "models/broken/manifest.json").write_text("{")
    (upstream.folder / "mecha/other/arena-n.onnx").unlink()
    models = told(bench, "outdated", code=4)["models"]
    assert [(model["name"], model["state"]) for model in models] == [
        ("broken", "broken"),
        ("gone", "unknown"),
        ("right", "current"),
    ]
    assert "mecha/other" in models[1]["reason"]
    assert models[0]["hint"] == "`mecha models pull broken` makes it whole again."

    upstream.publish("2")
    offline = told(bench, "outdated", code=5, HF_HUB_OFFLINE="1")["models"]
    assert [model["state"] for model in offline] == ["broken", "unknown", "unknown"]
    updated = told(bench, "update", code=4)["models"]
    assert [model["state"] for model in updated] == ["broken", "unknown", "updated"]


def test_of_a_hub_that_does_not_answer_it_is_said_for_each_model(bench: Bench, mirror: RunningMirror) -> None:
    names = ("a", "b", "c")
    bench.write_catalog("".join(map(entry, names)))
    for name in names:
        ran(bench, "pull", name)
    models = told(bench, "outdated", code=5, HF_ENDPOINT="http://127.0.0.1:1")["models"]
    assert [model["state"] for model in models] == ["unknown"] * 3
    assert models[2]["reason"] == "not asked: the Hub did not answer for the models before"


def test_an_update_brings_the_new_version_and_a_rollback_the_one_before_and_again(
    bench: Bench, upstream: Upstream, mirror: RunningMirror
) -> None:
    first = published_by_a_pull(bench)
    second = upstream.publish("2")
    before = everything(bench)

    plan = told(bench, "update", "--dry-run")
    assert (plan["event"], plan["models"][0]["state"]) == ("plan", "outdated")
    assert everything(bench) == before

    done = told(bench, "update")
    (model,) = done["models"]
    assert (done["event"], model["state"]) == ("done", "updated")
    assert (model["before"]["sha256"], model["after"]["sha256"]) == (first, second)
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (second, second)
    assert told(bench, "update")["models"][0]["state"] == "current"

    asked = len(mirror.requests)
    back = told(bench, "rollback", "arena")
    assert (back["before"]["sha256"], back["after"]["sha256"]) == (second, first)
    assert {name: content for name, content in everything(bench).items() if "rollback" not in name} == before
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (first, first)
    assert told(bench, "pull", "arena")["changed"] is False, "what is locked is published"
    told(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (second, second)
    assert len(mirror.requests) == asked, "no network for what is here"
    ran(bench, "verify", "arena")


def test_without_an_update_there_is_nothing_to_go_back_to(bench: Bench) -> None:
    published_by_a_pull(bench)
    done = bench.command("models", "rollback", "arena")
    assert done.returncode == 4
    assert done.stderr == (
        "error: arena: there is nothing to go back to: it was not updated here since it was pulled\n"
        "  next: `mecha models pull arena --revision R` brings any commit, branch or tag.\n"
    )
    ran(bench, "rollback", "nothing", code=4)
    ran(bench, "update", "nothing", code=4)


def test_a_rollback_takes_from_the_cache_what_is_kept_no_more_and_from_the_hub_what_the_cache_lost(
    bench: Bench, upstream: Upstream, mirror: RunningMirror
) -> None:
    first = published_by_a_pull(bench)
    old = (upstream.repo / "arena-n.onnx").read_bytes()
    second = upstream.publish("2")
    ran(bench, "update", "arena")

    kept = bench.root / "models/.arena.rollback/model.onnx"
    kept.unlink()
    told(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert published(bench) == first

    ran(bench, "rollback", "arena")
    kept.unlink()
    (bench.home / "cache/blobs" / first).unlink()
    before = everything(bench)
    done = bench.command("models", "rollback", "arena", HF_HUB_OFFLINE="1")
    assert done.returncode == 5, done.stderr
    assert everything(bench) == before
    upstream.put("mecha/arena-n/arena-n.onnx", old)
    back = told(bench, "rollback", "arena")
    assert (published(bench), back["downloaded_bytes"]) == (first, len(old))
    assert second != first


def test_what_is_no_model_upstream_leaves_the_one_before(bench: Bench, upstream: Upstream) -> None:
    first = published_by_a_pull(bench)
    before = everything(bench)
    upstream.put("mecha/arena-n/arena-n.onnx", b"<!doctype html><title>Log in</title>" * 20)
    done = bench.command("models", "update")
    assert done.returncode == 6
    assert done.stderr.splitlines()[-2].startswith("arena: not updated, the version before stays: ")
    assert everything(bench) == before
    assert (published(bench), told(bench, "pull", "arena")["changed"]) == (first, False)


def test_an_update_whose_int8_cannot_be_made_leaves_fp32_int8_and_lock_as_they_were(
    pulled: Bench, upstream: Upstream, mirror: RunningMirror
) -> None:
    bench = Bench(pulled.root, pulled.home, {"HF_ENDPOINT": mirror.endpoint})
    first, before = published(bench), everything(bench)
    upstream.publish("2", spoilt=True)
    done = bench.command("models", "update", "--json")
    report = json.loads(done.stdout.splitlines()[-1])["models"][0]
    assert (done.returncode, report["state"]) == (8, "kept")
    assert report["reason"].startswith("arena: INT8 of the new version could not be made: ")
    assert report["hint"] == "`mecha models pull arena --force` takes the new one all the same, as FP32."
    assert everything(bench) == before
    assert told(bench, "pull", "arena", "--offline")["changed"] is False

    upstream.publish("3")
    report = told(bench, "update")["models"][0]
    assert (report["state"], report["method"]) == ("updated", "static_int8")
    int8 = (bench.root / "models/arena/model-int8.onnx").read_bytes()
    ran(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert published(bench) == first
    assert (bench.root / "models/arena/model-int8.onnx").read_bytes() == before["models/arena/model-int8.onnx"] != int8
    assert told(bench, "pull", "arena", "--offline")["changed"] is False, "INT8 is that of this FP32"

    # What is nowhere any more is built again.
    ran(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    (bench.root / "models/.arena.rollback/model-int8.onnx").unlink()
    shutil.rmtree(bench.home / "cache/builds")
    back = told(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert (back["after"]["sha256"], back["method"]) == (first, "static_int8")
    ran(bench, "verify", "arena")


@pytest.mark.parametrize(
    ("state", "gate", "words"),
    [
        ("rejected", GateRecord(verdict="wrong", reason="it finds nothing"), "is wrong: it finds nothing"),
        ("rejected", GateRecord(verdict="unloadable", reason="no such operator"), "is unloadable: no such operator"),
        ("failed", None, "could not be made: no time left"),
    ],
    ids=["wrong", "unloadable", "failed"],
)
def test_int8_that_is_not_right_never_takes_the_place_of_one_that_is(
    tmp_path: Path, state: Literal["rejected", "failed"], gate: GateRecord | None, words: str
) -> None:
    project = Project(root=tmp_path, user_level=False, environment=None, settings=Settings())
    store = ModelStore(project.models_dir)
    old = publish(store, "m", "1", int8=True)
    record = Int8Record(state=state, gate=gate, message="no time left")
    with pytest.raises(QuantizationError) as caught:
        put(
            Place(project, store, BlobCache(tmp_path / "cache")),
            PullOptions(update=True),
            old.spec,
            "0" * 64,
            old.manifest.origin,
            record,
            (),
        )
    assert str(caught.value) == f"m: INT8 of the new version {words}"
    assert store.published("m") == old
    assert sorted(path.name for path in store.models_dir.iterdir()) == ["m"]


def test_two_updates_at_once_keep_the_version_from_before_both(bench: Bench, upstream: Upstream) -> None:
    first = published_by_a_pull(bench)
    second = upstream.publish("2")
    running = [bench.start("models", "update", "arena") for _ in range(2)]
    for process in running:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert published(bench) == second
    ran(bench, "rollback", "arena")
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (first, first)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_killed_at_any_moment_of_an_update_the_old_or_the_new_version_counts(bench: Bench, upstream: Upstream) -> None:
    known = {published_by_a_pull(bench)}
    began = time.monotonic()
    known.add(upstream.publish("0"))
    ran(bench, "update", "arena")
    lasts_s = time.monotonic() - began
    for number in range(4):
        known.add(upstream.publish(f"{number + 2}"))
        running = bench.start("models", "update", "arena")
        time.sleep(lasts_s * (0.4 + number / 7))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert [row["state"] for row in told(bench, "list")["models"] if row["name"] == "arena"] == ["ready"]
        ran(bench, "verify", "arena")
        told(bench, "pull", "arena", "--offline")
        assert published(bench) in known
        assert locked(bench)["arena-n.onnx"]["sha256"] == published(bench)
        assert not (bench.root / "models/.arena.switch").exists()
    newest = upstream.publish("last")
    ran(bench, "update", "arena")
    assert published(bench) == newest
    ran(bench, "rollback", "arena")
    assert published(bench) in known - {newest}


@pytest.mark.parametrize("moment", ["before it is published", "after it is published", "before it is kept"])
def test_an_update_that_dies_next_to_its_publication_is_undone_or_carried_out(
    bench: Bench, upstream: Upstream, tmp_path: Path, moment: str
) -> None:
    first = published_by_a_pull(bench)
    second = upstream.publish("2")
    _die(tmp_path / "dying", moment)
    running = bench.start("models", "update", "arena", PYTHONPATH=str(tmp_path / "dying"))
    said, _ = running.communicate(timeout=120)
    assert running.returncode == -signal.SIGKILL, said
    assert (bench.root / "models/.arena.switch").is_dir()
    expected = first if moment == "before it is published" else second
    assert published(bench) == expected
    ran(bench, "verify", "arena")
    told(bench, "pull", "arena", "--offline")
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (expected, expected)
    if expected == second:
        ran(bench, "rollback", "arena")
        assert published(bench) == first
    else:
        ran(bench, "rollback", "arena", code=4)


def _die(folder: Path, moment: str) -> None:
    """Let Python end itself as by a loss of power at one step of the publication."""
    step = {
        "before it is published": "store.models:ModelStore.publish",
        "after it is published": "store.kept:KeptModels.settle:after publish",
        "before it is kept": "store.lockfile:LockFile.put_all:after",
    }[moment]
    module, function, *when = step.split(":")
    owner, method = function.split(".")
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import importlib.util, os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != 'mecha.{module}':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            owner = getattr(module, {owner!r})
            method = getattr(owner, {method!r})
            def dying(self, *arguments, **keys):
                switching = (__import__('pathlib').Path('models') / '.arena.switch').is_dir()
                if switching:
                    if {when!r} == ['after']:
                        method(self, *arguments, **keys)
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(self, *arguments, **keys)
            setattr(owner, {method!r}, dying)
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
""")


def test_a_frozen_pull_brings_what_is_locked_and_writes_nothing(
    bench: Bench, upstream: Upstream, tmp_path: Path
) -> None:
    first = published_by_a_pull(bench)
    old = (upstream.repo / "arena-n.onnx").read_bytes()
    upstream.publish("2")
    robot = Bench(tmp_path / "robot", tmp_path / "home2", dict(bench.environ))
    robot.root.mkdir()
    robot.home.mkdir()
    robot.write_catalog(entry())
    (robot.root / "mecha.lock").write_bytes((bench.root / "mecha.lock").read_bytes())
    (robot.root / "mecha.lock").chmod(0o444)
    # The Hub has another file by now: what is locked cannot be had, and nothing else is taken.
    ran(robot, "pull", "arena", "--frozen", code=4)
    assert not (robot.root / "models/arena").exists()
    upstream.put("mecha/arena-n/arena-n.onnx", old)
    ran(robot, "pull", "arena", MECHA_FROZEN="1")
    assert published(robot) == first
    upstream.publish("3")
    ran(robot, "pull", "arena", "--force", "--frozen")
    assert published(robot) == first
    assert (robot.root / "mecha.lock").read_bytes() == (bench.root / "mecha.lock").read_bytes()


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            ('filename = "arena-n.onnx"', 'filename = "other.onnx"'),
            "mecha.lock: got no entry for mecha/arena-n/other.onnx; expected one at main, "
            "as model_catalog.toml asks for arena",
            "Pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
        (
            ('license = "Apache-2.0"', 'revision = "v2"'),
            "mecha.lock: got mecha/arena-n/arena-n.onnx at main; expected it at v2, "
            "as model_catalog.toml asks for arena",
            "Set the revision to main, or pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
        (
            ('license = "Apache-2.0"', f'sha256 = "{"0" * 64}"'),
            f"mecha.lock: got mecha/arena-n/arena-n.onnx at main with sha256 {{sha256}}; expected {'0' * 64}, "
            "as model_catalog.toml asks for arena",
            "Correct sha256 in the catalog, or pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
    ],
    ids=["another file", "another revision", "another digest"],
)
def test_a_catalog_that_disagrees_with_the_lock_is_refused_when_frozen(
    bench: Bench, change: tuple[str, str], message: str, hint: str, mirror: RunningMirror
) -> None:
    first = published_by_a_pull(bench)
    asked = len(mirror.requests)
    bench.write_catalog(entry().replace(*change))
    for arguments in (("pull", "arena", "--frozen"), ("pull", "arena", "--frozen", "--dry-run")):
        done = bench.command("models", *arguments)
        assert done.returncode == 3
        assert done.stderr == f"error: {message.format(sha256=first)}\n  next: {hint}\n"
    assert len(mirror.requests) == asked
    assert published(bench) == first


def test_what_would_change_the_lock_is_refused_in_a_frozen_fleet(bench: Bench) -> None:
    published_by_a_pull(bench)
    for command in (("update",), ("rollback", "arena"), ("add", "x.onnx", "--name", "x")):
        done = bench.command("models", *command, MECHA_FROZEN="1")
        assert done.returncode == 2
        what = f"mecha models {command[0]}"
        assert done.stderr == (
            f"error: {what}: MECHA_FROZEN is 1, so mecha.lock must not change; expected it unset\n"
            f"  next: Run `{what}` where the project is kept, commit mecha.lock, and run `mecha models pull` here.\n"
        )
    ran(bench, "outdated", MECHA_FROZEN="1")


def test_a_label_file_that_changed_is_another_version_and_programs_are_told(bench: Bench, upstream: Upstream) -> None:
    upstream.put("mecha/arena-n/labels.txt", LABELS.encode())
    bench.write_catalog(entry(labels="labels.txt"))
    published_by_a_pull(bench)
    upstream.put("mecha/arena-n/labels.txt", LABELS.replace("cone", "pylon").encode())
    (model,) = told(bench, "outdated", code=1)["models"]
    assert [file["filename"] for file in model["files"] if file["changed"]] == ["labels.txt"]
    (report,) = told(bench, "update")["models"]
    assert report["notes"] == ["its classes are others now: 4, before 4; gone: cone"]
    ran(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert (bench.root / "models/arena/labels.txt").read_text() == LABELS
    assert locked(bench)["labels.txt"]["sha256"] == sha256(LABELS.encode()).hexdigest()


def test_a_file_of_this_device_is_outdated_when_somebody_trained_again(bench: Bench, upstream: Upstream) -> None:
    file = bench.root / "mine.onnx"
    shutil.copy(upstream.repo / "arena-n.onnx", file)
    bench.write_catalog(
        entry().replace('repo = "mecha/arena-n"', "").replace('filename = "arena-n.onnx"', 'path = "mine.onnx"')
    )
    first = published_by_a_pull(bench)
    second = upstream.publish("2")
    shutil.copy(upstream.repo / "arena-n.onnx", file)
    told(bench, "outdated", code=1, HF_HUB_OFFLINE="1")
    assert told(bench, "update", HF_HUB_OFFLINE="1")["models"][0]["state"] == "updated"
    assert published(bench) == second
    file.unlink()
    (model,) = told(bench, "outdated", HF_HUB_OFFLINE="1")["models"]
    assert (model["state"], model["files"][0]["note"]) == ("current", f"{file}: no such file any more")
    ran(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert (published(bench), locked(bench)["mine.onnx"]["sha256"]) == (first, first)


def test_a_model_that_an_earlier_version_published_can_be_updated_and_gone_back_from(
    bench: Bench, upstream: Upstream
) -> None:
    first = published_by_a_pull(bench)
    file = bench.root / "models/arena/manifest.json"
    manifest = json.loads(file.read_text())
    assert [pin["sha256"] for pin in manifest.pop("pins")] == [first]
    manifest.pop("digest", None)
    file.write_text(json.dumps(manifest))
    (bench.root / "mecha.lock").unlink()
    assert told(bench, "outdated")["models"][0]["state"] == "current"

    second = upstream.publish("2")
    ran(bench, "update")
    bench.write_catalog(entry().replace('license = "Apache-2.0"', f'sha256 = "{second}"'))
    back = told(bench, "rollback", "arena", HF_HUB_OFFLINE="1")
    assert back["notice"] == "the catalog asks for mecha/arena-n/arena-n.onnx at main, which the next pull brings again"
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (first, first)

    # What the catalog pins by its digest is the newest there is.
    ran(bench, "update")
    upstream.publish("3")
    (model,) = told(bench, "outdated")["models"]
    note = f"main has another file now; the catalog pins sha256 {second}"
    assert (published(bench), model["state"], model["files"][0]["note"]) == (second, "current", note)


def test_removing_a_model_removes_what_it_was_before(bench: Bench, upstream: Upstream) -> None:
    published_by_a_pull(bench)
    upstream.publish("2")
    ran(bench, "update")
    assert (bench.root / "models/.arena.rollback").is_dir()
    ran(bench, "remove", "arena", "-y")
    assert not (bench.root / "models/.arena.rollback").exists()
