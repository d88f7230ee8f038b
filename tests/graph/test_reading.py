import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.errors import IntegrityError, NotFoundError, UnsupportedModelError
from mecha.graph.reading import check_start, load_model, parse_model
from mecha.graph.without_onnx import signature_at
from tests.graph import unfit
from tests.graph.networks import image, run, yolov8_network

NO_MODEL_HINT = "Check the repo and file name; a server may answer with a page where a login is needed."


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
        (b"\n  <HTML>", "a web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
        (b"PK\x03\x04archive/data.pkl", "a PyTorch checkpoint or another archive"),
        (b'{"error": "Repository not found"}', "a JSON text"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as refusal:
        load_model(path)
    assert str(refusal.value) == f"{path}: got {found}; expected an ONNX model"
    assert refusal.value.hint == NO_MODEL_HINT
    with pytest.raises(IntegrityError):
        check_start(data[:64], where="model.onnx")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_model_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    whole = yolov8_network().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(IntegrityError, match="the file is cut short, damaged or no ONNX"):
        load_model(path)


@pytest.mark.parametrize("data", [b"\x00" * 4096, bytes(range(256)) * 16, b"GIF89a" + b"\x01" * 999, b"\x08\x07"])
def test_bytes_that_only_look_like_nothing_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as refusal:
        load_model(path)
    assert str(refusal.value).startswith(f"{path}: got {len(data)} bytes ")


def test_the_start_of_a_model_is_accepted() -> None:
    check_start(yolov8_network().SerializeToString()[:64], where="model.onnx")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as refusal:
        load_model(tmp_path / "model.onnx")
    assert str(refusal.value) == f"{tmp_path / 'model.onnx'}: no such file; expected an ONNX model"


def test_weights_in_other_files_are_refused_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(unfit.with_other_file("weights.data").SerializeToString())
    with pytest.raises(UnsupportedModelError) as refusal:
        load_model(path)
    assert str(refusal.value) == (
        f"{path}: got a graph whose weights are in weights.data; expected one file that holds graph and weights"
    )
    assert refusal.value.hint == (
        "Put both files into one folder and make them one: "
        "python -c \"import onnx; onnx.save_model(onnx.load_model('model.onnx'), 'whole.onnx')\""
    )


def test_what_is_said_about_weights_in_other_files_works(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(yolov8_network(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    with pytest.raises(UnsupportedModelError) as refusal:
        load_model(path)
    command = shlex.split(refusal.value.hint.split(": ", 1)[1])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(
        run(load_model(tmp_path / "whole.onnx"), image())[0], run(yolov8_network(), image())[0]
    )


def test_values_of_constant_nodes_in_other_files_are_found() -> None:
    model = yolov8_network()
    tensor = onnx.TensorProto(name="far", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="far.bin")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["far"], value=tensor))
    with pytest.raises(UnsupportedModelError, match=r"got a graph whose weights are in far\.bin;"):
        parse_model(model.SerializeToString(), where="m.onnx")


@pytest.mark.parametrize("read", [load_model, lambda path: signature_at(path, where=str(path))], ids=["read", "pull"])
def test_a_model_beyond_two_gigabytes_is_refused_unread(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: it takes no space
    with pytest.raises(UnsupportedModelError) as refusal:
        read(path)
    assert str(refusal.value) == f"{path}: got 2147483648 bytes; expected an ONNX model of at most 2 GB"
    assert refusal.value.hint == (
        "Export a smaller model; weights beyond 2 GB need files of their own, which mecha does not read."
    )


def test_nodes_without_a_name_get_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(yolov8_network(named=False).SerializeToString())
    names = [node.name for node in load_model(path).graph.node]
    assert names[0] == "Conv_0"
    assert len(set(names)) == len(names)
