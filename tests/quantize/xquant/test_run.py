from pathlib import Path

import numpy as np
import pytest

from mecha.errors import ConfigError, IntegrityError, NotFoundError, QuantizationError
from mecha.graph.reading import load_model
from mecha.quantize.fusion import float_convs
from mecha.quantize.qdq import stored_convs
from mecha.quantize.xquant.run import Quantized, quantize_config
from tests.graph import networks
from tests.graph.networks import image, run
from tests.graph.other_inputs import narrow_network
from tests.quantize.xquant.project import Project, noise_over_signal

HEADINGS = ["", "", "Op", "Var", "SNR", "MSE", "Cosine", "Q.MinMax", "F.MinMax", "F.Hist", ""]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def quantized(project: Project) -> Quantized:
    return quantize_config(project.written(), root=project.root, threads=1)


def table(report: Path) -> list[list[str]]:
    lines = report.read_text().splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]


def test_int8_and_its_report_are_written_into_the_working_folder(project: Project) -> None:
    done = quantized(project)
    assert done.model == project.root / "out" / "small.q.onnx"
    assert done.report == project.root / "out" / "small.q_report.md"
    assert (done.samples, done.skipped, done.unknown) == (4, 0, ())
    fp32, int8 = load_model(project.model), load_model(done.model)
    assert int8.graph.input == fp32.graph.input
    assert int8.graph.output == fp32.graph.output
    assert float_convs(done.model.read_bytes()) == ()
    assert noise_over_signal(run(fp32, image())[0], run(int8, image())[0]) < 0.01
    assert [row.tensor for row in done.outputs] == [fp32.graph.output[0].name]
    assert done.built.notes == ()


def test_the_report_has_the_columns_of_xquant(project: Project) -> None:
    report = quantized(project).report
    assert report is not None
    heading, _, *rows = table(report)
    assert heading == HEADINGS
    assert report.read_text().startswith("|")
    assert [row[1] for row in rows] == [str(number) for number in range(len(rows))]
    snr = [float(row[4]) for row in rows]
    assert snr == sorted(snr, reverse=True)
    weights = [row for row in rows if row[3].endswith("[Constant]`")]
    assert weights
    assert all("[Conv]" in row[2] for row in weights)
    assert {len(row[9].split(",")) for row in rows} <= {1, 32}
    assert all(len(row[7].split(",")) == len(row[8].split(",")) == 2 for row in rows)


def test_the_folder_of_the_model_takes_the_results_where_none_is_named(project: Project) -> None:
    project.config["model_parameters"] = {"onnx_model": "net/small.onnx", "output_prefix": "mine"}
    project.config["quantization_parameters"]["analysis_enable"] = False
    done = quantized(project)
    assert done.model == project.root / "net" / "mine.onnx"
    assert done.report is None
    assert done.outputs == ()
    assert not list(project.root.rglob("*.md"))


def test_what_is_ignored_or_truncated_is_not_stored_in_integers(project: Project) -> None:
    convs = [node for node in load_model(project.model).graph.node if node.op_type == "Conv"]
    whole = stored_convs(load_model(quantized(project).model).graph.node)
    ignored = next(conv for conv in convs if conv.name in whole)
    project.config["quantization_parameters"] = {"ignore_op_names": [ignored.name]}
    assert ignored.name not in stored_convs(load_model(quantized(project).model).graph.node)


def test_dynamic_int8_needs_nothing_to_calibrate_on(project: Project) -> None:
    project.config["quantization_parameters"]["precision_level"] = 3
    done = quantized(project)
    assert (done.built.method, done.samples) == ("dynamic_int8", 0)
    assert done.report is not None
    del project.config["calibration_parameters"]
    done = quantized(project)
    assert done.report is None
    assert np.isfinite(run(load_model(done.model), image())[0]).all()


def test_grey_pictures_and_dynamic_models_are_calibrated_too(tmp_path: Path) -> None:
    grey = Project(tmp_path / "grey", narrow_network(1))
    grey.entry |= {"mean_value": [0], "std_value": [255]}
    assert quantized(grey).outputs[0].snr < 0.01
    dynamic = Project(tmp_path / "dynamic", networks.yolov8_network(size=None))
    done = quantized(dynamic)
    assert done.outputs[0].snr < 0.01
    assert load_model(done.model).graph.input == load_model(dynamic.model).graph.input


def test_a_model_that_is_not_there_is_named_with_where_it_was_looked_for(project: Project) -> None:
    project.config["model_parameters"]["onnx_model"] = "small.onnx"
    config = project.written()
    beside = project.root / "net" / "config.json"
    beside.write_text(config.read_text())
    with pytest.raises(NotFoundError) as caught:
        quantize_config(beside, root=project.root)
    assert str(caught.value) == f"{project.root / 'small.onnx'}: no such file; expected an ONNX model"
    assert caught.value.hint == (
        f"Relative paths start where the command runs; it is there from {beside.parent}: run the command in that "
        "folder."
    )
    with pytest.raises(NotFoundError) as caught:
        quantize_config(config, root=project.root)
    assert caught.value.hint == "Relative paths start where the command runs."


def test_a_model_that_is_quantized_or_none_is_refused(project: Project) -> None:
    int8 = quantized(project).model
    project.model.write_bytes(int8.read_bytes())
    with pytest.raises(QuantizationError) as caught:
        quantized(project)
    assert str(caught.value) == (
        "small.onnx: got a model with QuantizeLinear nodes; expected FP32, this one is quantized already"
    )
    project.model.write_bytes(b"<!doctype html>")
    with pytest.raises(IntegrityError) as other:
        quantized(project)
    assert str(other.value) == f"{project.model}: got a web page; expected an ONNX model"


def test_the_model_is_never_written_over(project: Project) -> None:
    project.config["model_parameters"] = {"onnx_model": "net/small.onnx", "output_prefix": "small"}
    with pytest.raises(ConfigError) as caught:
        quantized(project)
    line = project.line_of("output_prefix")
    assert str(caught.value) == (
        f'{project.root / "config.json"}:{line}: model_parameters.output_prefix: got "small"; expected a name other '
        "than that of the model itself"
    )
