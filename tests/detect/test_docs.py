import re
from pathlib import Path

import pytest

import mecha
from mecha.arena.scene import ArenaCamera
from mecha.detect.images import write_image
from mecha.detect.locate import inspected_spec
from mecha.graph.inspect import inspect_model
from mecha.store.digests import folder_records
from mecha.store.manifest import Int8Record, Manifest, OriginRecord
from mecha.store.models import ModelStore
from mecha.store.published import MODEL_FILE, SPEC_FILE
from mecha.store.spec import serialised

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detector.md"
ARENA = Path(mecha.__file__).parent / "arena" / "arena-n.onnx"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the packaged model pulled and a photo in it."""
    (tmp_path / "model_catalog.toml").touch()
    store = ModelStore(tmp_path / "models")
    with store.staging("arena-n") as staged:
        (staged / SPEC_FILE).write_bytes(serialised(inspected_spec(ARENA, inspect_model(ARENA))))
        (staged / MODEL_FILE).write_bytes(ARENA.read_bytes())
        origin = OriginRecord(repo="a/b", filename="m.onnx", revision="1", requested_revision="main", etag="e")
        manifest = Manifest(
            name="arena-n",
            created="2026-01-01T00:00:00+00:00",
            origin=origin,
            files=folder_records(staged),
            int8=Int8Record(state="pending"),
        )
        store.publish("arena-n", staged, manifest)
    write_image(tmp_path / "photo.jpg", ArenaCamera(3).scene(5).frame_bgr)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), {})  # noqa: S102 - the page's own code
    printed = capsys.readouterr().out
    assert "FP32" in printed
    assert "('cone', 'ball', 'crate', 'tag') (320, 320)" in printed
    assert re.search(r"^ball 0\.\d+ \[", printed, re.MULTILINE)
