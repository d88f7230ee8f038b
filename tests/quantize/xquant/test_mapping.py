from pathlib import Path

import onnx
import pytest

from mecha.errors import ConfigError
from mecha.graph.reading import load_model
from mecha.quantize.options import RangeChoice
from mecha.quantize.xquant.config import read_config
from mecha.quantize.xquant.mapping import Mapped, mapped
from mecha.quantize.xquant.parts import Parts
from tests.graph import networks
from tests.quantize.xquant.project import Project, two_outputs


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def mapped_of(project: Project, **quantization: object) -> Mapped:
    project.config["quantization_parameters"] = quantization
    file = read_config(project.written())
    return mapped(file, Parts(load_model(project.model), file))


def refusal(project: Project, **quantization: object) -> str:
    with pytest.raises(ConfigError) as caught:
        mapped_of(project, **quantization)
    return str(caught.value).replace(f"{project.root}/", "")


def made_by(model: onnx.ModelProto, op_type: str) -> list[str]:
    return [node.output[0] for node in model.graph.node if node.op_type == op_type]


def reshapes(project: Project) -> tuple[str, str]:
    """The tensors that carry boxes and scores of both levels into the decode tail."""
    boxes, scores = (
        node.output[0]
        for node in load_model(project.model).graph.node
        if node.op_type == "Concat"
        and all(name in made_by(load_model(project.model), "Reshape") for name in node.input)
    )
    return boxes, scores


def test_a_configuration_without_wishes_is_the_usual_build(project: Project) -> None:
    wanted = mapped_of(project)
    assert (wanted.options.range, wanted.options.rounding, wanted.options.bias_correction) == ("auto", True, True)
    assert wanted.options.exclude_nodes == wanted.options.truncate == ()
    assert not wanted.dynamic
    assert wanted.notes == (
        "precision_level: 0; the first and last Convs, what follows the last ones, and blocks that measuring shows to "
        "do most harm stay float",
        "finetune_level: 1; weights are rounded by reconstruction and biases corrected, without labels",
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("default", 'default is mecha\'s range "auto", chosen by the error that it causes'),
        ("kl", 'kl is mecha\'s range "entropy"'),
        ("minmax", 'minmax is mecha\'s range "minmax"'),
        ("percentile", 'percentile is mecha\'s range "percentile"'),
        ("mse", 'mse is mecha\'s range "mse"'),
    ],
)
def test_every_calibration_type_is_one_of_our_ranges(project: Project, theirs: str, ours: str) -> None:
    project.config["calibration_parameters"]["calibration_type"] = theirs
    wanted = mapped_of(project)
    assert f'"{wanted.options.range}"' in ours
    assert wanted.notes[0] == f"calibration_type: {ours}"


def test_what_mecha_does_differently_is_said_in_a_line_each(project: Project) -> None:
    project.config["model_parameters"]["skip_onnxsim"] = True
    project.config["calibration_parameters"] |= {
        "calibration_device": "cuda",
        "calibration_batch_size": 8,
        "calibration_step": 4,
        "calibration_type": "mse",
    }
    project.entry["dtype"] = "uint8"
    wanted = mapped_of(project, finetune_level=0, max_percentile=0.999, precision_level=2)
    assert wanted.notes == (
        "skip_onnxsim: mecha writes the graph as it is, and folds arithmetic on shapes to calibrate only",
        "calibration_device: cuda is not used; mecha calibrates on the CPU",
        "calibration_batch_size: files are looked at one by one, which finds the same ranges",
        "dtype: uint8 is not used; inputs are float32",
        "calibration_step: 4 is unusual; 10 to 1000 files are",
        'calibration_type: mse is mecha\'s range "mse"',
        "max_percentile: not used by calibration_type mse",
        "precision_level: 2; the first and last Convs, what follows the last ones, and blocks that measuring shows to "
        "do most harm stay float; so do Softmax, Sigmoid, and Mul, Add, Sub and Div of two computed tensors",
        "finetune_level: 0; weights are rounded to the nearest integers, biases are not corrected",
    )
    assert (wanted.options.rounding, wanted.options.bias_correction) == (False, False)


def test_level_two_leaves_gates_and_sums_float(project: Project) -> None:
    excluded = mapped_of(project, precision_level=2).options.exclude_nodes
    kinds = {node.name: node.op_type for node in load_model(project.model).graph.node}
    assert {kinds[name] for name in excluded} == {"Sigmoid", "Softmax", "Mul", "Add", "Sub"}


def test_level_three_is_dynamic(project: Project) -> None:
    wanted = mapped_of(project, precision_level=3)
    assert wanted.dynamic
    assert wanted.notes == (
        "precision_level: 3 is dynamic INT8; what says how ranges are found, or what stays float, is not used",
    )


def test_ignored_types_and_names_stay_float(project: Project) -> None:
    model = load_model(project.model)
    conv = next(node.name for node in model.graph.node if node.op_type == "Conv")
    pools = [node.name for node in model.graph.node if node.op_type == "MaxPool"]
    wanted = mapped_of(project, ignore_op_types=["MaxPool", "MaxPol"], ignore_op_names=[conv])
    assert wanted.options.exclude_nodes == tuple(sorted([conv, *pools]))
    assert wanted.notes[0] == 'ignore_op_types: the model has no "MaxPol"; did you mean "MaxPool"?'


def test_a_name_that_is_ignored_must_be_there(project: Project) -> None:
    assert refusal(project, ignore_op_names=["Conv.6x", "x"]) == (
        f'config.json:{project.line_of("Conv.6x")}: quantization_parameters.ignore_op_names[0]: got "Conv.6x"; '
        'expected a node of the model; did you mean "Conv.6"?'
    )


def test_what_follows_the_tensors_of_a_truncation_stays_float(project: Project) -> None:
    both = reshapes(project)
    wanted = mapped_of(project, truncate_var_names=both)
    assert wanted.options.truncate == both
    assert not [note for note in wanted.notes if note.startswith("truncate")]


def test_branches_past_a_truncation_are_named(project: Project) -> None:
    boxes, _ = reshapes(project)
    model = load_model(project.model)
    output = model.graph.output[0].name
    note = mapped_of(project, truncate_var_names=[boxes]).notes[0]
    assert note.startswith(
        f"truncate_var_names: {output} is still reachable past them; the 4 Convs on the way, from Conv."
    )
    assert note.endswith("are integer but for the last of each branch, where xquant leaves them float")


def test_a_truncation_that_an_output_has_nothing_to_do_with_is_refused(tmp_path: Path) -> None:
    project = Project(tmp_path, two_outputs())
    one, other = (value.name for value in load_model(project.model).graph.output)
    maker = next(node for node in load_model(project.model).graph.node if node.output[0] == one)
    text = refusal(project, truncate_var_names=[maker.input[0]])
    line = project.line_of("truncate_var_names")
    assert text == (
        f"config.json:{line}: quantization_parameters.truncate_var_names: does not split the model: output {other} is "
        "still reached past them, and shares nothing with what follows them; expected tensors before every output"
    )


def test_a_tensor_that_is_not_there_is_named_with_the_nearest(project: Project) -> None:
    boxes, _ = reshapes(project)
    text = refusal(project, truncate_var_names=[boxes, boxes + "x"])
    line = project.line_of(f'"{boxes}x"')
    assert text == (
        f'config.json:{line}: quantization_parameters.truncate_var_names[1]: got "{boxes}x"; expected a tensor that a '
        f'node of the model makes; did you mean "{boxes}"?'
    )


def part(project: Project) -> tuple[list[str], list[str]]:
    """Tensors around the first split block: what it reads, and what it makes."""
    model = load_model(project.model)
    splits = next(node for node in model.graph.node if node.op_type == "Split")
    return list(splits.output), made_by(model, "Concat")[:1]


def test_a_part_of_its_own_is_float_from_level_two_on(project: Project) -> None:
    inputs, outputs = part(project)
    setting = {"input_names": inputs, "output_names": outputs, "precision_level": 2}
    wanted = mapped_of(project, custom_setting=[setting])
    kinds = {node.name: node.op_type for node in load_model(project.model).graph.node}
    excluded = [kinds[name] for name in wanted.options.exclude_nodes]
    assert sorted(excluded) == ["Add", "Concat", "Conv", "Conv", "Mul", "Mul", "Sigmoid", "Sigmoid"]
    assert wanted.notes[-1] == f"custom_setting: the part that ends at {outputs[0]} stays float (precision_level 2)"


def test_a_part_of_its_own_has_its_own_ranges(project: Project) -> None:
    inputs, outputs = part(project)
    setting = {
        "input_names": inputs,
        "output_names": outputs,
        "calibration_type": "percentile",
        "max_percentile": 0.999,
    }
    wanted = mapped_of(project, custom_setting=[setting])
    assert wanted.options.exclude_nodes == ()
    assert set(outputs) < wanted.options.tensor_ranges.keys()
    assert inputs[0] not in wanted.options.tensor_ranges
    assert set(wanted.options.tensor_ranges.values()) == {RangeChoice("percentile", 99.9)}
    assert (
        wanted.notes[-1]
        == f'custom_setting: the ranges of the part that ends at {outputs[0]} are found by "percentile" 99.9'
    )


@pytest.mark.parametrize(
    ("setting", "key", "message"),
    [
        (
            {"output_names": ["imags"]},
            "imags",
            'custom_setting[0].output_names[0]: got "imags"; expected a tensor that a node makes',
        ),
        (
            {"input_names": ["imags"], "output_names": []},
            "imags",
            'custom_setting[0].input_names[0]: got "imags"; expected a tensor of the model; did you mean "images"?',
        ),
        (
            {"input_names": ["images"]},
            "custom_setting",
            "custom_setting[0].output_names: missing; expected the tensors at the end of the part",
        ),
    ],
)
def test_a_part_that_is_not_there_is_refused(
    project: Project, setting: dict[str, object], key: str, message: str
) -> None:
    text = refusal(project, custom_setting=[setting])
    place, _, rest = text.partition(": quantization_parameters.")
    assert rest == message
    assert int(place.partition(":")[2]) - project.line_of(key) in (0, 1)


def test_a_part_that_leads_nowhere_is_refused(project: Project) -> None:
    inputs, outputs = part(project)
    setting = {"input_names": outputs, "output_names": inputs[:1]}
    assert refusal(project, custom_setting=[setting]).endswith(
        ": quantization_parameters.custom_setting[0].output_names: got tensors that input_names do not lead to; "
        "expected a part of the graph"
    )


def test_the_names_of_an_export_without_node_names_are_ours(tmp_path: Path) -> None:
    project = Project(tmp_path, networks.yolov8_network(named=False))
    assert mapped_of(project, ignore_op_names=["Conv_0"]).options.exclude_nodes == ("Conv_0",)
