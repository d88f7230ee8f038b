"""What a published model is, and what the store says of one that is not whole."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mecha.catalog.names import is_model_name
from mecha.errors import IntegrityError, NotFoundError
from mecha.store.damage import Fault
from mecha.store.manifest import Manifest
from mecha.store.models import ModelStore
from mecha.store.published import (
    INT8_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    SPEC_FILE,
    BrokenModel,
    PublishedModel,
)
from mecha.store.spec import ModelSpec, serialised
from tests.store.example import content, fill, publish


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_published_model_is_read_back_as_it_was_written(store: ModelStore) -> None:
    model = publish(store, "yolov8n", "v1", int8=True)
    assert store.published("yolov8n") == model
    assert model.path == store.models_dir / "yolov8n"
    assert model.fp32_path.read_bytes() == content("v1")
    assert model.int8_path == model.path / INT8_FILE
    assert model.report_path is None
    assert model.spec.classes == ("cone", "ball")
    assert sorted(model.manifest.files) == [SPEC_FILE, LABELS_FILE, INT8_FILE, MODEL_FILE]
    assert [entry.name for entry in store.models_dir.iterdir()] == ["yolov8n"]


def test_int8_is_there_when_the_manifest_and_the_disk_say_so(store: ModelStore) -> None:
    assert publish(store, "a", "v1").int8_path is None
    built = publish(store, "b", "v1", int8=True)
    (built.path / INT8_FILE).unlink()
    assert built.int8_path is None
    pending = publish(store, "c", "v1")
    (pending.path / INT8_FILE).write_bytes(b"left by hand")
    assert pending.int8_path is None


def test_the_report_is_there_when_it_was_written(store: ModelStore) -> None:
    model = publish(store, "a", "v1")
    (model.path / "report.md").write_text("# report")
    assert model.report_path == model.path / "report.md"


def test_publishing_again_takes_the_place_of_the_model(store: ModelStore) -> None:
    publish(store, "a", "v1", int8=True)
    publish(store, "a", "v2")
    assert store.read("a", MODEL_FILE) == content("v2")
    assert not (store.models_dir / "a" / INT8_FILE).exists()


def test_what_is_staged_and_not_published_is_removed(store: ModelStore) -> None:
    with store.staging("a") as staged:
        (staged / MODEL_FILE).write_bytes(b"x")
    assert list(store.models_dir.iterdir()) == []


def test_a_staged_folder_must_hold_what_its_manifest_says(store: ModelStore) -> None:
    with store.staging("a") as staged:
        manifest = fill(staged, "a", "v1")
        (staged / LABELS_FILE).unlink()
        with pytest.raises(ValueError, match="is not the file of the manifest"):
            store.publish("a", staged, manifest)
        with pytest.raises(ValueError, match="got the manifest of 'a'; expected 'b'"):
            store.publish("b", staged, manifest)
    assert store.all() == ()


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_kept(store: ModelStore) -> None:
    store.models_dir.mkdir()
    dead = store.models_dir / ".a.4194399-1-0.staging"
    dead.mkdir()
    (dead / MODEL_FILE).write_bytes(b"x")
    (store.models_dir / ".a.4194399-1-1.tmp").write_bytes(b"x")
    reused_pid = store.models_dir / f".a.{os.getpid()}-1-0.removed"
    reused_pid.mkdir()
    mine = store.models_dir / ".notes"
    mine.mkdir()
    with store.staging("b") as living:
        publish(store, "a", "v1")
        assert sorted(entry.name for entry in store.models_dir.iterdir()) == sorted([living.name, ".notes", "a"])


def test_a_model_that_was_not_pulled_is_told_with_the_command_that_does(store: ModelStore) -> None:
    for act in (store.require, store.remove, store.verify):
        with pytest.raises(NotFoundError) as caught:
            act("yolov8n")
        folder = store.models_dir / "yolov8n"
        assert str(caught.value) == f'model "yolov8n" is not pulled: {folder} has no manifest.json'
        assert caught.value.hint == "`mecha models pull yolov8n` pulls it."


def test_a_name_that_no_catalog_has_is_told_so_and_with_the_nearest_one(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, pullable=lambda: {"yolov8n", "arena-n"})
    told = []
    for name in ("arena-n", "yolo8n", "nope"):
        with pytest.raises(NotFoundError) as caught:
            store.require(name)
        told.append(
            (str(caught.value).removeprefix(f'model "{name}" is not pulled: {tmp_path / name} '), caught.value.hint)
        )
    listed = "`mecha models list` shows what can be pulled."
    assert told == [
        ("has no manifest.json", "`mecha models pull arena-n` pulls it."),
        ('has no manifest.json, and it is not in the catalog; did you mean "yolov8n"?', listed),
        ("has no manifest.json, and it is not in the catalog", listed),
    ]


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".", "..", "/etc", ".hidden", "A"])
def test_a_name_never_leads_out_of_the_models_folder(store: ModelStore, name: str) -> None:
    outside = store.models_dir.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / MANIFEST_FILE).write_text("{}")
    assert store.published(name) is None
    with pytest.raises(NotFoundError):
        store.remove(name)
    with pytest.raises(NotFoundError):
        store.verify(name)
    for act in (store.lock_file, lambda name: store.staging(name).__enter__()):
        with pytest.raises(NotFoundError) as caught:
            act(name)
        assert str(caught.value) == (
            f'model "{name}" cannot exist; expected a name of lower-case letters, digits, . _ and -, '
            "at most 64, starting with a letter or digit"
        )
    assert (outside / MANIFEST_FILE).is_file()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=70))
def test_no_name_at_all_makes_the_store_fail(store: ModelStore, name: str) -> None:
    assert store.published(name) is None
    if is_model_name(name):
        assert store.lock_file(name).parent == store.models_dir


def damage(store: ModelStore, name: str, file: str, change: object) -> BrokenModel | PublishedModel | None:
    path = publish(store, name, "v1").path / file
    if isinstance(change, dict):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    elif isinstance(change, bytes):
        path.chmod(0o644)
        path.write_bytes(change)
    else:
        path.unlink()
    return store.find(name)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        (MANIFEST_FILE, b"", "manifest.json: the file is empty; expected JSON"),
        (MANIFEST_FILE, b"{", "manifest.json:1:2: not JSON: expecting property name enclosed in double quotes"),
        (MANIFEST_FILE, b"\xff", "manifest.json: byte 0 is not UTF-8 text"),
        (MANIFEST_FILE, {"schema": 0}, "manifest.json:1: schema: got 0; expected 1"),
        (MANIFEST_FILE, {"name": "other"}, 'manifest.json: name: got "other"; expected "m"'),
        (MANIFEST_FILE, {"files": {}}, "model.onnx: got 1.0 kB; expected a size in the manifest"),
        (SPEC_FILE, None, "config.json: no such file"),
        (SPEC_FILE, b"[]", "config.json:1: got a list; expected a table of keys"),
        (MODEL_FILE, None, "model.onnx: no such file or directory"),
        (MODEL_FILE, b"short", "model.onnx: got 5 bytes; expected 1.0 kB"),
    ],
)
def test_a_broken_model_is_told_with_the_reason_and_hides_no_other(
    store: ModelStore, file: str, change: object, reason: str
) -> None:
    publish(store, "whole", "v1")
    assert damage(store, "m", file, change) == BrokenModel("m", reason)
    assert [(model.name, type(model)) for model in store.all()] == [("m", BrokenModel), ("whole", PublishedModel)]
    assert store.published("m") is None
    with pytest.raises(IntegrityError) as caught:
        store.require("m")
    assert str(caught.value) == f'model "m" cannot be used: {reason}'
    assert caught.value.hint == "`mecha models pull m` makes it whole again."
    publish(store, "m", "v2")
    assert store.published("m") is not None


def test_a_broken_model_can_be_removed(store: ModelStore) -> None:
    damage(store, "m", MANIFEST_FILE, b"{")
    store.remove("m")
    assert store.all() == ()


def test_a_config_that_a_person_edited_is_used_and_reported_by_verify(store: ModelStore) -> None:
    found = damage(store, "m", SPEC_FILE, {"classes": ["pylon", "ball"]})
    assert isinstance(found, PublishedModel)
    assert found.spec.classes == ("pylon", "ball")
    assert [fault.file for fault in store.verify("m")] == [SPEC_FILE]


def test_the_store_of_a_folder_that_is_not_there_is_empty(store: ModelStore) -> None:
    assert store.all() == ()
    assert store.published("a") is None


def test_verify_reads_every_file_again(store: ModelStore) -> None:
    model = publish(store, "m", "v1", int8=True)
    digests = {name: record.sha256 for name, record in model.manifest.files.items()}
    assert store.verify("m") == ()
    (model.path / INT8_FILE).write_bytes(content("v2"))
    (model.path / LABELS_FILE).unlink()
    model.fp32_path.write_bytes(b"short")
    wrong = "46c3b0ba1bb0f9c79cbb8ffbb39cd0ea2e4b4c0d1b3f6bb2ef5ea2f0e2ea6c0c"
    faults = store.verify("m")
    assert [fault.file for fault in faults] == [LABELS_FILE, INT8_FILE, MODEL_FILE]
    assert faults[0] == Fault(LABELS_FILE, "no such file", f"sha256 {digests[LABELS_FILE]}")
    assert (faults[1].got[:7], len(faults[1].got), faults[1].expected) == (
        "sha256 ",
        len(f"sha256 {wrong}"),
        f"sha256 {digests[INT8_FILE]}",
    )
    assert faults[2] == Fault(MODEL_FILE, "5 bytes", "1000 bytes")


def test_verify_says_when_the_manifest_itself_is_no_use(store: ModelStore) -> None:
    damage(store, "m", MANIFEST_FILE, b"{}")
    with pytest.raises(IntegrityError) as caught:
        store.verify("m")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{store.models_dir / 'm' / MANIFEST_FILE}: manifest.json:1: created: missing"
    assert caught.value.hint == "`mecha models pull m` makes it whole again."


def test_a_file_is_read_as_the_manifest_has_it_or_not_at_all(store: ModelStore) -> None:
    model = publish(store, "m", "v1")
    with pytest.raises(NotFoundError) as absent:
        store.read("m", INT8_FILE)
    assert str(absent.value) == 'model "m" has no model-int8.onnx'
    model.fp32_path.write_bytes(content("v2"))
    with pytest.raises(IntegrityError) as wrong:
        store.read("m", MODEL_FILE)
    assert str(wrong.value) == f"{model.fp32_path}: the content is not what manifest.json says"
    assert wrong.value.hint == ("`mecha models verify m` tells more; `mecha models pull m` makes it whole again.")


def test_documents_are_written_by_alias_indented_and_in_a_stable_order(store: ModelStore) -> None:
    model = publish(store, "m", "v1")
    text = (model.path / MANIFEST_FILE).read_text()
    assert text.startswith('{\n  "schema": 1,\n  "name": "m",\n  "created": ')
    assert text.endswith("}\n")
    assert Manifest.model_validate_json(text) == model.manifest
    assert serialised(model.manifest).decode() == text
    spec_text = (model.path / SPEC_FILE).read_text()
    assert list(json.loads(spec_text)) == [
        "schema", "name", "task", "family", "input", "preprocessing", "classes", "source", "licence", "int8",
    ]  # fmt: skip
    assert ModelSpec.model_validate_json(spec_text) == model.spec
