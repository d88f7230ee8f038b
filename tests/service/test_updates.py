"""Models that change upstream: seen, brought, refused; real processes, and a Hub whose files change."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest
from tests.service.conftest import Bench, make_bench
from tests.service.updating import (
    LABELS,
    entry,
    everything,
    following,
    locked,
    published,
    published_by_a_pull,
    ran,
    told,
)
from tests.service.upstream import Upstream
from tests.store.example import publish

from mecha.errors import NetworkError, QuantizationError
from mecha.hub.huggingface import HuggingFaceSource
from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.hub.source import RemoteFile, RepoType
from mecha.project import Project, Settings, find_project
from mecha.service.models import ModelService
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


@pytest.fixture
def bench(tmp_path: Path, mirror: RunningMirror) -> Bench:
    return following(tmp_path, mirror)


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


def test_a_hub_that_is_silent_now_and_then_is_asked_for_all(bench: Bench, upstream: Upstream) -> None:
    names = ("a", "b", "c", "d")
    for name in names:
        upstream.put(f"mecha/{name}/arena-n.onnx", (upstream.repo / "arena-n.onnx").read_bytes())
    bench.write_catalog("".join(entry(name).replace("mecha/arena-n", f"mecha/{name}") for name in names))
    for name in names:
        ran(bench, "pull", name)
    updates = ModelService(find_project(bench.root, bench.environment), bench.environment).updates()

    class SilentForTwo(HuggingFaceSource):
        def resolve(
            self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model"
        ) -> RemoteFile:
            if repo in {"mecha/a", "mecha/c"}:
                raise NetworkError(f"{repo}: no answer")
            return super().resolve(repo, filename, revision=revision, repo_type=repo_type)

    news = replace(updates, source=lambda: SilentForTwo(bench.environ["HF_ENDPOINT"])).news()
    assert [(one.name, one.state) for one in news] == [
        ("a", "unknown"),
        ("b", "current"),
        ("c", "unknown"),
        ("d", "current"),
    ]


def test_a_model_that_comes_with_mecha_is_told_and_updated_without_the_hub(bench: Bench, upstream: Upstream) -> None:
    packaged = sha256(packaged_models()[0].read_bytes()).hexdigest()
    names = ("a", "aa", "arena-n", "b")
    bench.write_catalog("".join(map(entry, names)))
    for name in names:
        ran(bench, "pull", name)
    pinned = entry("arena-n").replace('license = "Apache-2.0"', f'sha256 = "{packaged}"')
    bench.write_catalog("".join(map(entry, ("a", "aa", "b"))) + pinned)
    news = told(bench, "outdated", code=1, HF_ENDPOINT="http://127.0.0.1:1")["models"]
    assert [(model["name"], model["state"]) for model in news] == [
        ("a", "unknown"),
        ("aa", "unknown"),
        ("arena-n", "outdated"),
        ("b", "unknown"),
    ]
    assert news[3]["reason"] == "not asked: the Hub did not answer for the models before"
    assert news[2]["files"][0]["newest"]["sha256"] == packaged

    # Named alone, so that nothing else has to be asked.
    assert told(bench, "update", "arena-n", HF_HUB_OFFLINE="1")["models"][0]["state"] == "updated"
    assert published(bench, "arena-n") == packaged
    (report,) = told(bench, "update", "arena-n", HF_HUB_OFFLINE="1")["models"]
    assert (report["state"], report["reason"], report["after"]["sha256"]) == ("current", "", packaged)


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
