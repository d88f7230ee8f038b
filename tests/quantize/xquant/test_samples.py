import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.detect.images import read_image, write_image
from mecha.errors import ConfigError, MechaError, NotFoundError, QuantizationError, UnsupportedModelError
from mecha.graph.reading import load_model
from mecha.quantize.xquant.config import read_config
from mecha.quantize.xquant.samples import Samples, find_samples
from mecha.quantize.xquant.slot import find_slot
from tests.graph import networks
from tests.graph.other_inputs import narrow_network, two_inputs
from tests.quantize.xquant.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def samples_of(project: Project) -> Samples:
    file = read_config(project.written())
    slot, entry = find_slot(load_model(project.model), file, where="net/small.onnx")
    return find_samples(file, entry, slot, project.root)


def tensors_of(project: Project) -> list[NDArray[np.float32]]:
    return list(samples_of(project).tensors())


def refusal(project: Project, kind: type[MechaError]) -> str:
    with pytest.raises(kind) as caught:
        tensors_of(project)
    assert type(caught.value) is kind
    return str(caught.value).replace(f"{project.root}/", "")


def test_pictures_are_stretched_and_normalised_in_the_order_of_the_list(project: Project) -> None:
    project.entry |= {"mean_value": [10, 20, 30], "std_value": [1, 2, 4]}
    tensors = tensors_of(project)
    assert [tensor.shape for tensor in tensors] == [(1, 3, 64, 64)] * 4
    assert {tensor.dtype for tensor in tensors} == {np.dtype(np.float32)}
    for tensor, photo in zip(tensors, project.photos, strict=True):
        mean_rgb = read_image(photo).mean(axis=(0, 1))[::-1]
        expected = (mean_rgb - [10, 20, 30]) / [1, 2, 4]
        np.testing.assert_allclose(tensor.mean(axis=(0, 2, 3)), expected, atol=0.3)


def test_channels_are_in_bgr_order_unless_rgb_is_asked_for(project: Project) -> None:
    rgb = tensors_of(project)[0]
    del project.entry["color_format"]
    np.testing.assert_array_equal(tensors_of(project)[0], rgb[:, ::-1])


def test_one_mean_serves_all_channels(project: Project) -> None:
    three = tensors_of(project)[0]
    project.entry |= {"mean_value": [0], "std_value": [255]}
    np.testing.assert_array_equal(tensors_of(project)[0], three)


def test_presets_crop_or_pad(project: Project) -> None:
    # White with a black border, 96 x 128: a crop to the middle sees no border, padding adds grey.
    picture = np.full((96, 128, 3), 255, dtype=np.uint8)
    picture[:4], picture[-4:], picture[:, :12], picture[:, -12:] = 0, 0, 0, 0
    write_image(project.photos[0], picture)
    for preset in ("PT_IMAGENET", "IMAGENET"):
        project.entry["preprocess_file"] = preset
        assert tensors_of(project)[0].min() == 1
    project.entry["preprocess_file"] = "YOLO_LETTERBOX"
    tensor = tensors_of(project)[0]
    np.testing.assert_allclose(tensor[0, :, :8], 114 / 255, rtol=1e-6)
    np.testing.assert_allclose(tensor[0, :, -8:], 114 / 255, rtol=1e-6)
    assert tensor[0, :, 8:56, 10:54].max() == 1


def test_a_model_of_one_channel_gets_grey(tmp_path: Path) -> None:
    project = Project(tmp_path, narrow_network(1))
    project.entry |= {"mean_value": [0], "std_value": [255]}
    assert tensors_of(project)[0].shape == (1, 1, 64, 64)


def test_a_dynamic_model_is_calibrated_in_the_shape_that_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path, networks.yolov8_network(size=None))
    assert tensors_of(project)[0].shape == (1, 3, 64, 64)  # of its metadata
    project.entry["input_shape"] = [4, 3, 32, 96]
    assert tensors_of(project)[0].shape == (1, 3, 32, 96)


def test_no_more_files_than_steps_are_looked_at(project: Project) -> None:
    project.config["calibration_parameters"]["calibration_step"] = 2
    assert samples_of(project).files == tuple(project.photos[:2])


def test_arrays_and_bare_numbers_are_taken_as_they_are(project: Project) -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    for name, array in (("a.npy", values), ("b.npy", values[0])):
        np.save(project.root / "data" / name, array)
    (project.root / "data" / "c.raw").write_bytes(values.tobytes())
    project.entry["file_type"] = "npy"
    project.list.write_text("a.npy\nb.npy\n")
    for tensor in tensors_of(project):
        np.testing.assert_array_equal(tensor, values)
    project.entry["file_type"] = "raw"
    project.list.write_text("c.raw\n")
    np.testing.assert_array_equal(tensors_of(project)[0], values)


def test_arrays_of_objects_are_not_unpacked(project: Project) -> None:
    np.save(project.root / "data" / "a.npy", np.array([{"x": 1}]), allow_pickle=True)
    project.entry["file_type"] = "npy"
    project.list.write_text("a.npy\n")
    assert refusal(project, QuantizationError).startswith(
        "data/list.txt: got 1 of 1 file that cannot be read; expected at most half of the list; the first: data/a.npy: "
        "numpy cannot read it: "
    )


FUNCTION = '''
import beside
import numpy as np

class Tensor:
    """As torch has it: no array, but it gives one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(dtype) if dtype else self.array

def preprocess_impl(path_list, input_parametr):
    assert len(path_list) == 1 and isinstance(path_list[0], str)
    assert input_parametr["input_name"] == "images"
    assert input_parametr["color_format"] == "rgb"
    shape = input_parametr["input_shape"]
    return Tensor(np.full(shape, beside.VALUE * input_parametr["std_value"][0]))

def wrong_shape(path_list, input_parametr):
    return np.zeros((1, 3, 8, 8))

def raising(path_list, input_parametr):
    raise KeyError("mean")
'''


@pytest.fixture
def functions(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    folder = project.root / "code"
    folder.mkdir()
    (folder / "beside.py").write_text("VALUE = 2\n")
    (folder / "own.py").write_text(FUNCTION)
    return project


def test_a_function_of_the_users_own_prepares_the_tensors(functions: Project) -> None:
    functions.entry["preprocess_file"] = "code/own.py:preprocess_impl"
    tensors = tensors_of(functions)
    assert len(tensors) == 4
    np.testing.assert_array_equal(tensors[0], np.full((1, 3, 64, 64), 510, dtype=np.float32))


@pytest.mark.parametrize(
    ("chosen", "kind", "message"),
    [
        (
            "code/none.py:f",
            NotFoundError,
            "code/none.py: no such file; expected Python with a function f(path_list, input_parametr)",
        ),
        (
            "code/own.py:preproces_impl",
            ConfigError,
            'code/own.py: got no function "preproces_impl"; did you mean "preprocess_impl"?',
        ),
        (
            "code/own.py:wrong_shape",
            QuantizationError,
            "code/own.py:wrong_shape: of data/Calib/0.png: got an array of shape [1, 3, 8, 8]; expected "
            "[1, 3, 64, 64], as input images",
        ),
        (
            "code/own.py:raising",
            QuantizationError,
            "code/own.py:raising: got an exception for data/Calib/0.png: KeyError: 'mean'",
        ),
        (
            "code/broken.py:f",
            QuantizationError,
            "code/broken.py: cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
    ],
)
def test_a_function_that_cannot_be_used_is_a_sentence(
    functions: Project, chosen: str, kind: type[MechaError], message: str
) -> None:
    (functions.root / "code" / "broken.py").write_text("import nothing_like_it\n")
    functions.entry["preprocess_file"] = chosen
    assert refusal(functions, kind) == message


def test_a_preset_that_is_none_names_those_there_are(project: Project) -> None:
    project.entry["preprocess_file"] = "IMAGENT"
    line = project.line_of("IMAGENT")
    assert refusal(project, ConfigError) == (
        f'config.json:{line}: calibration_parameters.input_parametres[0].preprocess_file: got "IMAGENT"; expected '
        "PT_IMAGENET, IMAGENET, YOLO_LETTERBOX, or a function in a Python file: file.py:function"
    )


def test_unreadable_photos_are_skipped_and_counted(project: Project) -> None:
    project.photos[1].write_bytes(b"no picture")
    project.photos[2].unlink()
    samples = samples_of(project)
    assert samples.files == (project.photos[0], project.photos[3])
    assert samples.skipped == 2


def test_more_than_half_unreadable_is_refused(project: Project) -> None:
    for photo in project.photos[:2]:
        photo.write_bytes(b"no picture")
    project.photos[2].unlink()
    assert refusal(project, QuantizationError) == (
        "data/list.txt: got 2 of 3 files that cannot be read and 1 more that are not there; expected at most half of "
        "the list; the first: data/Calib/0.png: got 10 bytes that cannot be decoded; expected a whole JPEG, PNG, BMP, "
        "WebP or TIFF"
    )


def test_a_list_that_is_missing_or_empty_is_refused(project: Project) -> None:
    project.list.write_text("\n")
    assert refusal(project, QuantizationError) == (
        "data/list.txt: got no line that names a photo; expected one path a line"
    )
    project.list.unlink()
    assert refusal(project, NotFoundError) == "data/list.txt: no such file; expected a list of calibration files"
    del project.entry["data_list_path"]
    line = project.line_of('"mean_value"') - 1
    assert refusal(project, ConfigError) == (
        f"config.json:{line}: calibration_parameters.input_parametres[0].data_list_path: missing; expected a text file "
        "with the path of one calibration file a line"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean_value", [1, 2], "got 2 numbers; expected 3, one a channel of input images [1, 3, 64, 64]"),
        ("std_value", [1, 2, 3, 4], "got 4 numbers; expected 3, one a channel of input images [1, 3, 64, 64]"),
        ("std_value", [255, 0, 255], "got 0; expected numbers to divide by"),
        ("input_name", "image", 'got "image"; expected the name of an input of the model; did you mean "images"?'),
        ("input_shape", [1, 3, 32, 32], "got [1, 3, 32, 32]; expected a shape of input images [1, 3, 64, 64] float32"),
    ],
)
def test_what_does_not_fit_the_input_is_said_with_its_key(
    project: Project, key: str, value: object, message: str
) -> None:
    project.entry[key] = value
    line = project.line_of(f'"{key}"')
    where = f"config.json:{line}: calibration_parameters.input_parametres[0].{key}"
    assert refusal(project, ConfigError) == f"{where}: {message}"


def test_two_entries_for_one_input_are_refused(project: Project) -> None:
    project.config["calibration_parameters"]["input_parametres"] = [project.entry] * 2
    line = project.line_of("input_parametres")
    assert refusal(project, ConfigError) == (
        f"config.json:{line}: calibration_parameters.input_parametres: got 2 entries; expected 1, for input images "
        "[1, 3, 64, 64] float32"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            two_inputs(),
            "net/small.onnx: got 2 inputs (images [1, 3, 64, 64] float32; offset [1, 8, 16, 16] float32); expected "
            "one: mecha calibrates models of one input",
        ),
        (
            narrow_network(2),
            "net/small.onnx: got input images [1, 2, 64, 64]; expected a picture [1, 3, height, width], or "
            "[1, 1, height, width] for grey",
        ),
        (
            narrow_network(3, batch=4),
            "net/small.onnx: got input images [4, 3, 64, 64] float32; expected a batch of 1, or of any size",
        ),
    ],
    ids=["two inputs", "two channels", "batch"],
)
def test_a_model_that_pictures_do_not_fit_is_refused(tmp_path: Path, model: onnx.ModelProto, message: str) -> None:
    assert refusal(Project(tmp_path, model), UnsupportedModelError) == message


def test_a_dynamic_model_without_a_shape_asks_for_one(tmp_path: Path) -> None:
    project = Project(tmp_path, networks.yolov8_network(size=None, metadata={}))
    line = project.line_of('"mean_value"') - 1
    assert refusal(project, ConfigError) == (
        f"config.json:{line}: calibration_parameters.input_parametres[0].input_shape: missing; expected the shape that "
        "input images [batch, 3, height, width] float32 is calibrated in"
    )
