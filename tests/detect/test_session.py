import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mecha.detect.session import Session, default_threads, threads_for
from mecha.errors import IntegrityError, NotFoundError, UnsupportedModelError


def one_node(op_type: str, *, domain: str = "", opset: int = 13) -> bytes:
    value = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "height", 4]) for name in ("image", "out")
    }
    node = helper.make_node(op_type, ["image"], ["out"], domain=domain)
    graph = helper.make_graph([node], "graph", [value["image"]], [value["out"]])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def test_it_says_what_it_takes_and_gives() -> None:
    session = Session(one_node("Relu"), threads=1)
    assert [str(tensor) for tensor in session.inputs] == ["image [1, 3, height, 4] float32"]
    assert [str(tensor) for tensor in session.outputs] == ["out [1, 3, height, 4] float32"]


def test_it_runs_bytes_and_files_alike(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(one_node("Relu"))
    tensor = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 3, 2, 4)
    for source in (tmp_path / "a.onnx", one_node("Relu")):
        (out,) = Session(source, threads=1).run(tensor)
        np.testing.assert_array_equal(out, np.maximum(tensor, 0))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Session(tmp_path / "a.onnx", threads=1)
    assert str(caught.value) == f"{tmp_path / 'a.onnx'}: no such file; expected an ONNX model"


@pytest.mark.parametrize("data", [b"hello world", one_node("Relu")[:60], b""])
def test_bytes_that_are_no_model_are_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        Session(data, threads=1, where="model-int8.onnx")
    assert str(caught.value) == (
        "model-int8.onnx: onnxruntime cannot parse it; expected an ONNX model; "
        "the file is cut short, damaged or no ONNX"
    )
    assert caught.value.hint == "Fetch the file again."


def test_an_operator_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        Session(one_node("Foo", domain="my.domain"), threads=1, where="model.onnx")
    assert str(caught.value) == (
        "model.onnx: onnxruntime cannot load it: Fatal error: my.domain:Foo(-1) is not a registered function/op"
    )
    assert caught.value.hint == (
        "The model needs an operator or opset that the installed onnxruntime does not have on this CPU."
    )


def test_an_opset_from_the_future_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"^model: onnxruntime cannot load it: ONNX Runtime only .*opset"):
        Session(one_node("Relu", opset=99), threads=1)


def test_a_tensor_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        Session(one_node("Relu"), threads=1, where="model.onnx").run(np.zeros((1, 3, 2, 5), dtype=np.float32))
    assert str(caught.value).startswith(
        "model.onnx: onnxruntime cannot run it on an input of shape [1, 3, 2, 5]: Got invalid dimensions for input"
    )


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 2), (4, 3), (6, 4), (64, 4)])
def test_one_core_is_left_to_everything_else(cores: int, threads: int) -> None:
    assert threads_for(cores) == threads


def test_the_default_is_between_1_and_4() -> None:
    assert 1 <= default_threads() <= 4


def test_onnxruntime_says_nothing_itself(tmp_path: Path) -> None:
    # In a process of its own, because the native library writes to the real stderr.
    (tmp_path / "bad.onnx").write_bytes(one_node("Relu", opset=99))
    program = (
        "import sys, pathlib\n"
        "from mecha.detect.session import Session\n"
        "from mecha.errors import UnsupportedModelError\n"
        "try:\n"
        "    Session(pathlib.Path(sys.argv[1]), threads=1)\n"
        "except UnsupportedModelError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "bad.onnx")], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
