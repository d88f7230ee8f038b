from pathlib import Path

import pytest

from mecha.errors import ConfigError, NotFoundError
from mecha.quantize.xquant.config import read_config

MODEL = '"model_parameters": {"onnx_model": "m.onnx"}'


def write(folder: Path, text: str) -> Path:
    path = folder / "c.json"
    path.write_text(text)
    return path


def fault(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(write(folder, text))
    return str(caught.value).replace(str(folder), "")


def test_a_configuration_is_read_with_comments_and_trailing_commas(tmp_path: Path) -> None:
    text = """{
      // the model
      "model_parameters": {"onnx_model": "a//b.onnx", "working_dir": "", "output_prefix": null,},
      "calibration_parameters": {
        "calibration_step": 32, # enough
        "input_parametres": [{"mean_value": [0, 0, 0], "color_format": "rgb", "preprocess_file": "",},],
      },
      "quantization_parameters": {"truncate_var_names": ["x",], /* no more */ "precision_level": 1},
    }"""
    file = read_config(write(tmp_path, text))
    model, calibration = file.config.model_parameters, file.config.calibration_parameters
    assert (model.onnx_model, model.working_dir, model.output_prefix) == ("a//b.onnx", None, None)
    assert calibration.calibration_step == 32
    assert calibration.inputs_key == "input_parametres"
    assert calibration.inputs[0].mean_value == (0.0, 0.0, 0.0)
    assert calibration.inputs[0].preprocess_file is None
    assert file.config.quantization_parameters.truncate_var_names == ("x",)
    assert file.unknown == ()


def test_both_spellings_of_the_inputs_are_read(tmp_path: Path) -> None:
    for key in ("input_parametres", "input_parameters"):
        text = f'{{{MODEL}, "calibration_parameters": {{"{key}": [{{"data_list_path": "l.txt"}}]}}}}'
        calibration = read_config(write(tmp_path, text)).config.calibration_parameters
        assert (calibration.inputs_key, calibration.inputs[0].data_list_path) == (key, "l.txt")


def test_unknown_keys_are_named_with_the_nearest_known_one_and_passed_over(tmp_path: Path) -> None:
    text = f"""{{
      {MODEL},
      "calibration_parameters": {{"calib_step": 3,
        "input_parametres": [{{"std_vlaue": [1]}}]}},
      "quantization_parameters": {{"custom_setting": [{{"output_names": ["x"], "level": 1}}]}},
      "xyz": 1
    }}"""
    file = read_config(write(tmp_path, text))
    assert [line.replace(str(tmp_path), "") for line in file.unknown] == [
        '/c.json:3: calibration_parameters.calib_step: unknown key, passed over; did you mean "calibration_step"?',
        "/c.json:4: calibration_parameters.input_parametres[0].std_vlaue: unknown key, passed over; did you mean "
        '"std_value"?',
        "/c.json:5: quantization_parameters.custom_setting[0].level: unknown key, passed over",
        "/c.json:6: xyz: unknown key, passed over",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "/c.json: the file is empty; expected JSON"),
        ('{"model_parameters":\n {"onnx_model" "x"}}', "/c.json:2:16: not JSON: expecting ':' delimiter"),
        ("[]", "/c.json:1: got a list; expected a table of keys"),
        ("{}", "/c.json:1: model_parameters: missing"),
        (
            '{"model_parameters": {\n"onnx_model": 3}}',
            "/c.json:2: model_parameters.onnx_model: got 3; expected the path of an ONNX file",
        ),
    ],
)
def test_what_is_no_configuration_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert fault(tmp_path, text) == message


def test_all_wrong_types_are_told_at_once_with_key_path_and_line(tmp_path: Path) -> None:
    text = f"""{{{MODEL},
      "calibration_parameters": {{"calibration_step": "x", "calibration_type": "kll",
        "input_parameters": [{{"mean_value": 0, "color_format": "RGB", "input_shape": [1, "x"]}}]}},
      "quantization_parameters": {{"truncate_var_names": "x",
        "precision_level": 4, "finetune_level": 7, "custom_setting": 3, "max_percentile": 99.9}}}}"""
    assert fault(tmp_path, text).splitlines() == [
        '/c.json:2: calibration_parameters.calibration_step: got "x"; expected a whole number',
        '/c.json:2: calibration_parameters.calibration_type: got "kll"; expected default, kl, minmax, percentile or '
        "mse",
        '/c.json:3: calibration_parameters.input_parameters[0].color_format: got "RGB"; expected bgr or rgb',
        '/c.json:3: calibration_parameters.input_parameters[0].input_shape[1]: got "x"; expected a whole number',
        "/c.json:3: calibration_parameters.input_parameters[0].mean_value: got 0; expected a list of numbers",
        '/c.json:4: quantization_parameters.truncate_var_names: got "x"; expected a list of names',
        "/c.json:5: quantization_parameters.custom_setting: got 3; expected a list",
        "/c.json:5: quantization_parameters.finetune_level: got 7; expected 0, 1, 2 or 3",
        "/c.json:5: quantization_parameters.max_percentile: got 99.9; expected a share from 0.99 to 1",
        "/c.json:5: quantization_parameters.precision_level: got 4; expected 0, 1, 2 or 3; 4, which is FP16, and "
        "beyond are no INT8",
    ]


def test_two_keys_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    text = f"""{{{MODEL},
      "calibration_parameters": {{"calibration_type": "kl"}},
      "quantization_parameters": {{"calibration_type": "mse"}}}}"""
    assert fault(tmp_path, text) == (
        "/c.json:3: quantization_parameters.calibration_type: says something else than "
        "calibration_parameters.calibration_type; expected one of both"
    )


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_config(tmp_path / "none.json")
    assert str(caught.value) == f"{tmp_path / 'none.json'}: no such file"
