"""What an entry of the catalog can say, and the sentence for each thing it cannot."""

import string
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mecha.catalog.catalog import parse_catalog
from mecha.catalog.labels import COCO_LABELS
from mecha.catalog.names import is_model_name
from mecha.catalog.schema import CalibrationConfig, Family, Method, ModelCatalogEntry, QuantizeConfig
from mecha.errors import ConfigError

ENTRY = """\
[[models]]
name = "yolov8n"
repo = "deepghs/yolos"
filename = "yolov8n/model.onnx"
preprocessing_preset = "yolo"
"""


def entry(more: str) -> ModelCatalogEntry:
    (parsed,) = parse_catalog(ENTRY + more, where="model_catalog.toml")
    return parsed


def fault(more: str) -> str:
    with pytest.raises(ConfigError) as caught:
        entry(more)
    return str(caught.value).removeprefix("model_catalog.toml:")


def test_an_entry_needs_four_keys_and_has_defaults_for_the_rest() -> None:
    assert entry("") == ModelCatalogEntry(
        name="yolov8n",
        description="",
        task="object-detection",
        repo="deepghs/yolos",
        filename="yolov8n/model.onnx",
        preprocessing_preset="yolo",
        quantize=QuantizeConfig(enabled=False),
    )


def test_a_quantize_table_enables_int8_and_escalates_unless_told_otherwise() -> None:
    assert entry("[models.quantize]\n").quantize == QuantizeConfig(
        enabled=True,
        method="auto",
        escalate=True,
        range="auto",
        max_accuracy_drop=0.01,
        exclude_nodes=(),
        truncate=(),
        scheme="uniform",
        z_threshold=None,
        equalization=True,
        rounding=True,
        bias_correction=True,
        mixed_precision=True,
        target="auto",
        calibration=None,
    )


def test_every_optional_key_is_read() -> None:
    parsed = entry(
        f"""
revision = "refs/pr/1"
sha256 = "{"AB" * 32}"
size_bytes = 12
license = "AGPL-3.0"
input_size = 320
family = "yolov8"
labels = ["cone", "ball"]
[models.quantize]
method = "static_int8"
escalate = false
range = "mse"
max_accuracy_drop = 0
scheme = "power_of_two"
exclude_nodes = ["/a"]
truncate = ["b"]
z_threshold = 4
equalization = false
rounding = false
bias_correction = false
mixed_precision = false
target = "x86_64-vnni"
[models.quantize.calibration]
repo = "a/b"
repo_type = "model"
files = ["x/1.jpg"]
samples = 4
"""
    )
    assert parsed.sha256 == "ab" * 32
    assert (parsed.revision, parsed.size_bytes, parsed.input_size, parsed.family) == ("refs/pr/1", 12, 320, "yolov8")
    assert parsed.label_names == ("cone", "ball")
    quantize = parsed.quantize
    assert (quantize.z_threshold, quantize.target) == (4.0, "x86_64-vnni")
    assert not any((quantize.equalization, quantize.rounding, quantize.bias_correction, quantize.mixed_precision))
    assert quantize.calibration == CalibrationConfig(repo="a/b", repo_type="model", files=("x/1.jpg",), samples=4)


def test_labels_are_a_list_or_coco_or_a_file_in_the_repo() -> None:
    assert (entry("").label_names, entry("").label_file) == (None, None)
    coco = entry('labels = "coco"')
    assert (coco.label_names, coco.label_file) == (COCO_LABELS, None)
    file = entry('labels = "yolov8n/labels.txt"')
    assert (file.label_names, file.label_file) == (None, "yolov8n/labels.txt")


def test_coco_has_eighty_classes_in_the_order_of_their_ids() -> None:
    assert len(set(COCO_LABELS)) == 80
    assert [COCO_LABELS[index] for index in (0, 2, 5, 27, 79)] == ["person", "car", "bus", "tie", "toothbrush"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ('sha256 = "abc"', '6: models[0].sha256: got "abc"; expected a sha256 of 64 hex digits'),
        ("size_bytes = 0", "6: models[0].size_bytes: got 0; expected bytes, a whole number above 0"),
        ("input_size = 16", "6: models[0].input_size: got 16; expected pixels, from 32 to 4096"),
        (
            'family = "yolo"',
            '6: models[0].family: got "yolo"; expected yolov8, yolov5, yolox, end_to_end, detr or nanodet',
        ),
        ('revision = "a b"', '6: models[0].revision: got "a b"; expected a branch, tag or commit'),
        ('task = "Detect!"', '6: models[0].task: got "Detect!"; expected a task, as in "object-detection"'),
        ('license = ""', '6: models[0].license: got ""; expected text that is not empty'),
        (
            'labels = "../labels.txt"',
            '6: models[0].labels: got "../labels.txt"; '
            'expected a list of names, "coco", or the path of a label file in the repo',
        ),
        ('labels = [""]', '6: models[0].labels[0]: got ""; expected text that is not empty'),
        (
            '[models.quantize]\nmethod = "int4"',
            '7: models[0].quantize.method: got "int4"; expected dynamic_int8, static_int8 or auto',
        ),
        (
            "[models.quantize]\nmax_accuracy_drop = 1.5",
            "7: models[0].quantize.max_accuracy_drop: got 1.5; expected a share from 0 to 1, as in 0.01",
        ),
        (
            '[models.quantize]\nscheme = "log"',
            '7: models[0].quantize.scheme: got "log"; expected uniform, symmetric or power_of_two',
        ),
        (
            '[models.quantize]\ntarget = "arm"',
            '7: models[0].quantize.target: got "arm"; expected auto, x86_64, x86_64-vnni or arm64',
        ),
        (
            "[models.quantize]\nz_threshold = 0",
            "7: models[0].quantize.z_threshold: got 0; expected standard deviations, a number above 0",
        ),
        ("[models.quantize]\nrounding = 1", "7: models[0].quantize.rounding: got 1; expected true or false"),
        ("[models.quantise]\nenabled = true", '6: models[0].quantise: unknown key; did you mean "quantize"?'),
        (
            "[models.quantize.calibration]\nsamples = 8",
            "6: models[0].quantize.calibration: got none; expected one of path, data, list and repo",
        ),
        (
            '[models.quantize.calibration]\npath = "a"\nlist = "b"',
            "6: models[0].quantize.calibration: got path and list; expected one of path, data, list and repo",
        ),
        (
            '[models.quantize.calibration]\nrepo = "a/b"',
            "6: models[0].quantize.calibration: got repo without files; expected files = [...], the photos in the repo",
        ),
        (
            '[models.quantize.calibration]\npath = "a"\nfiles = ["b"]',
            "6: models[0].quantize.calibration: got files with path; expected it with repo only",
        ),
        (
            '[models.quantize.calibration]\npath = "a"\nsamples = 0',
            "8: models[0].quantize.calibration.samples: got 0; expected a whole number from 1 to 4096",
        ),
        (
            '[models.quantize.calibration]\nrepo = "a/b"\nfiles = ["/etc/passwd"]',
            '8: models[0].quantize.calibration.files[0]: got "/etc/passwd"; expected the path of a file in the repo',
        ),
    ],
)
def test_what_an_entry_cannot_say_is_told_with_key_and_line(more: str, sentence: str) -> None:
    assert fault(more) == sentence


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("", "c:1: models[0]: got none; expected repo and filename, or path"),
        ('repo = "a/b"', "c:1: models[0]: got repo; expected repo and filename, or path"),
        ('filename = "m.onnx"', "c:1: models[0]: got filename; expected repo and filename, or path"),
        (
            'repo = "a/b"\npath = "m.onnx"',
            "c:1: models[0]: got repo and path; expected repo and filename, or path",
        ),
        (
            'path = "m.onnx"\nrevision = "main"',
            "c:1: models[0]: got revision with path; expected it with repo only",
        ),
        ('path = ""', 'c:3: models[0].path: got ""; expected text that is not empty'),
        (
            'repo = "a/b"\nfamily = "yolo"',
            "c:1: models[0]: got repo; expected repo and filename, or path\n"
            'c:4: models[0].family: got "yolo"; expected yolov8, yolov5, yolox, end_to_end, detr or nanodet',
        ),
    ],
)
def test_an_entry_says_in_one_way_where_its_model_is(keys: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_catalog(f'[[models]]\nname = "m"\n{keys}\n', where="c")
    assert str(caught.value) == sentence


def test_an_entry_made_by_a_program_says_where_its_model_is_too() -> None:
    with pytest.raises(ValueError, match="got none; expected repo and filename, or path"):
        ModelCatalogEntry(name="m")


@pytest.mark.parametrize("repo", ["a b", "a/b/c", "../b", "a/..", "a--b/c", "", "/a"])
def test_a_repo_is_an_owner_and_a_name(repo: str) -> None:
    text = ENTRY.replace("deepghs/yolos", repo)
    with pytest.raises(ConfigError) as caught:
        parse_catalog(text, where="c")
    assert str(caught.value) == f'c:3: models[0].repo: got "{repo}"; expected a repo of the Hub: owner/name'


@pytest.mark.parametrize("filename", ["../model.onnx", "/model.onnx", "a/../b", "a\\\\b", "", ".", "a//b"])
def test_a_filename_stays_in_its_repo(filename: str) -> None:
    text = ENTRY.replace("yolov8n/model.onnx", filename)
    with pytest.raises(ConfigError) as caught:
        parse_catalog(text, where="c")
    assert str(caught.value) == (
        f'c:4: models[0].filename: got "{filename}"; '
        'expected the path of a file in the repo, as in "yolov8n/model.onnx"'
    )


@pytest.mark.parametrize("name", ["yolov8n", "a", "dfine-n", "yolo11n.v2_1", "0", "x" * 64])
def test_plain_names_can_name_a_model(name: str) -> None:
    assert is_model_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a\\b", "A", "a b", "-a", "a.", "x" * 65, "nul", "con.x", "é", "a\n", "a\0"],
)
def test_names_that_are_no_folder_everywhere_cannot(name: str) -> None:
    assert not is_model_name(name)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=string.printable + "é\0\u202e", max_size=70))
def test_no_name_that_passes_can_leave_its_folder(name: str) -> None:
    if is_model_name(name):
        assert set(name) <= set(string.ascii_lowercase + string.digits + "._-")
        assert name.strip(".") not in ("", "..")
        assert name[0] != "."


def test_methods_and_families_are_the_words_of_the_documentation() -> None:
    assert get_args(Method) == ("dynamic_int8", "static_int8", "auto")
    assert get_args(Family) == ("yolov8", "yolov5", "yolox", "end_to_end", "detr", "nanodet")


@pytest.mark.parametrize("sign", ["\\u001b[31m", "\\u0000", "\\n", "\\u202e"], ids=["escape", "nul", "line", "turn"])
@pytest.mark.parametrize("key", ["description", "license", "path", "labels"])
def test_no_text_of_an_entry_moves_the_cursor_of_a_terminal(key: str, sign: str) -> None:
    value = f'["a{sign}b"]' if key == "labels" else f'"a{sign}b"'
    source = "" if key == "path" else 'path = "m.onnx"\n'
    with pytest.raises(ConfigError, match="expected a text of one line, without control characters"):
        parse_catalog(f'[[models]]\nname = "m"\n{source}{key} = {value}\n', where="c")


@pytest.mark.parametrize("text", ["Käse \u3000 \U0001f468\u200d\U0001f469", "ロボット"])
def test_any_language_may_be_written(text: str) -> None:
    entry = parse_catalog(f'[[models]]\nname = "m"\npath = "m.onnx"\ndescription = "{text}"\n', where="c")[0]
    assert entry.description == text


@pytest.mark.parametrize("name", ["c:/m.onnx", "m.onnx:stream", "a\\u0000b", "a\\u001b[2Jb"])
def test_no_file_of_a_repo_names_a_drive_or_a_stream_or_a_control(name: str) -> None:
    with pytest.raises(ConfigError, match=r"models\[0\]\.filename: got "):
        parse_catalog(f'[[models]]\nname = "m"\nrepo = "a/b"\nfilename = "{name}"\n', where="c")
