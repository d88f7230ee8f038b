"""The small decisions of the service: rates, methods, labels, sentences."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tests.graph import networks

from mecha.catalog.schema import ModelCatalogEntry, PreprocessingPreset, QuantizeConfig
from mecha.errors import ConfigError, UsageError
from mecha.service.inspection import inspected
from mecha.service.labels import class_names
from mecha.service.request import PullOptions, parse_method, parse_rate, wanted_file, wanted_int8
from mecha.store.lockfile import LockedFile

ENTRY = ModelCatalogEntry(name="m", repo="a/b", filename="m.onnx", preprocessing_preset="yolo")


@pytest.mark.parametrize(
    ("text", "rate"), [("500k", 512_000), ("2M", 2_097_152), ("1.5m", 1_572_864), ("100", 100), ("1G", 1_073_741_824)]
)
def test_a_rate_is_bytes_a_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-1k", "2T", "nan", "inf", "k"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected bytes per second"):
        parse_rate(text)


def test_a_method_is_one_of_three() -> None:
    assert parse_method("auto") == "auto"
    with pytest.raises(UsageError, match="expected dynamic_int8, static_int8 or auto"):
        parse_method("int4")


@pytest.mark.parametrize(
    ("quantize", "options", "method"),
    [
        (QuantizeConfig(enabled=False), PullOptions(), None),
        (QuantizeConfig(enabled=True, method="static_int8"), PullOptions(), "static_int8"),
        (QuantizeConfig(enabled=True), PullOptions(quantize=False), None),
        (QuantizeConfig(enabled=False), PullOptions(method="dynamic_int8"), "dynamic_int8"),
    ],
    ids=["off", "on", "switched off", "asked for"],
)
def test_int8_is_wanted_where_the_entry_or_the_user_says_so(
    quantize: QuantizeConfig, options: PullOptions, method: str | None
) -> None:
    wanted = wanted_int8(ENTRY.model_copy(update={"quantize": quantize}), options)
    assert (wanted.method if wanted else None) == method


def test_a_revision_asked_for_by_hand_is_not_held_to_the_pinned_digest() -> None:
    entry = ENTRY.model_copy(update={"revision": "v1", "sha256": "0" * 64})
    assert wanted_file(entry, PullOptions(), Path("/robot")).sha256 == "0" * 64
    asked = wanted_file(entry, PullOptions(revision="v2"), Path("/robot"))
    assert (asked.revision, asked.sha256) == ("v2", None)


def no_file(name: str) -> Path:
    raise AssertionError(f"{name} is not needed")


@pytest.mark.parametrize(
    ("labels", "metadata", "count", "names"),
    [
        (("x", "y"), ("a", "b"), 2, ("x", "y")),
        (None, ("a", "b"), 2, ("a", "b")),
        (None, None, 2, ("class_0", "class_1")),
        (None, None, None, ()),
    ],
    ids=["entry", "metadata", "numbers", "unknown"],
)
def test_class_names_come_from_the_first_that_has_them(
    labels: tuple[str, ...] | None, metadata: tuple[str, ...] | None, count: int | None, names: tuple[str, ...]
) -> None:
    entry = ENTRY.model_copy(update={"labels": labels})
    assert class_names(entry, metadata=metadata, count=count, fetch=no_file) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "m: label file l.txt: holds no name; expected one class name a line"),
        (b"\xff\xfe", "m: label file l.txt: not UTF-8 text at byte 0; expected one class name a line"),
        (b"one\n", "m: label file l.txt has 1 names, the model has 2 classes"),
    ],
    ids=["empty", "no text", "too few"],
)
def test_an_unusable_label_file_is_said(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "l.txt"
    file.write_bytes(content)
    entry = ENTRY.model_copy(update={"labels": "l.txt"})
    with pytest.raises(ConfigError) as caught:
        class_names(entry, metadata=None, count=2, fetch=lambda _: file)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "stated", "preset"),
    [
        (networks.yolov8_network, None, "yolo"),
        (networks.yolox_network, None, "yolox"),
        (networks.two_output_network, None, "detr"),
        (networks.nanodet_network, None, "nanodet"),
        (networks.yolox_network, "yolo", "yolo"),
    ],
)
def test_a_preset_that_the_entry_leaves_open_is_the_family_s(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], stated: PreprocessingPreset | None, preset: str
) -> None:
    onnx.save(make(), tmp_path / "m.onnx")
    entry = ENTRY.model_copy(update={"preprocessing_preset": stated, "labels": ("a", "b", "c")})
    locked = LockedFile(
        repo="a/b", filename="m.onnx", revision="1" * 40, requested="main", etag="", sha256="0" * 64, size_bytes=1
    )
    assert inspected(entry, tmp_path / "m.onnx", locked, no_file).spec.preprocessing == preset
