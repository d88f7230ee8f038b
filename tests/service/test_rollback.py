"""The version from before an update: kept, gone back to, and forward again, without a network."""

import json
from pathlib import Path

import pytest
from tests.service.conftest import Bench
from tests.service.updating import entry, everything, following, locked, published, published_by_a_pull, ran, told
from tests.service.upstream import Upstream

from mecha.hub.mirror import RunningMirror


@pytest.fixture
def bench(tmp_path: Path, mirror: RunningMirror) -> Bench:
    return following(tmp_path, mirror)


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
