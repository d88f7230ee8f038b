import builtins
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.errors import ConfigError, IntegrityError, NotFoundError, UnsupportedModelError
from tests.detect.blob_detector import GREEN, NAMES, RED, blob_detector, blob_spec, scene


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector())
    return file


def test_it_finds_what_is_there_in_pixels_of_the_frame(blobs: Path) -> None:
    detector = Detector(blobs)
    # Twice the input's size, so that boxes must be scaled back.
    frame = scene((32, 48, 16, RED), (80, 80, 16, GREEN), size=(128, 128))
    found = detector(frame)
    assert [found.label(index) for index in range(len(found))] == ["red", "green"]
    np.testing.assert_allclose(found.boxes_xyxy, [[24, 40, 56, 72], [72, 72, 104, 104]], atol=0.5)
    assert (found.scores > 0.9).all()
    assert found.names == NAMES


def test_a_frame_without_objects_gives_no_detections(blobs: Path) -> None:
    found = Detector(blobs)(scene())
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.to_json() == []


def test_detections_are_the_strongest_first_and_no_more_than_asked(blobs: Path) -> None:
    frame = scene((8, 8, 8, (40, 40, 255)), (40, 8, 8, RED), (40, 40, 8, GREEN))
    found = Detector(blobs)(frame)
    assert len(found) == 3
    assert (np.diff(found.scores) <= 0).all()
    assert len(Detector(blobs, max_detections=2)(frame)) == 2


def test_other_thresholds_need_no_other_session(blobs: Path) -> None:
    detector = Detector(blobs)
    frame = scene((8, 8, 8, RED), (40, 40, 8, GREEN))
    strict = detector.with_thresholds(score_threshold=1.0, iou_threshold=0.45, max_detections=300)
    single = detector.with_thresholds(score_threshold=0.25, iou_threshold=0.45, max_detections=1)

    assert [len(each(frame)) for each in (detector, strict, single, detector)] == [2, 0, 1, 2]
    assert strict.digest == detector.digest
    with pytest.raises(ConfigError) as caught:
        detector.with_thresholds(score_threshold=2.0, iou_threshold=0.45, max_detections=300)
    assert str(caught.value) == "score_threshold: got 2.0; expected 0 to 1"


def test_boxes_stay_inside_the_frame(blobs: Path) -> None:
    found = Detector(blobs)(scene((0, 0, 8, RED)))
    assert found.boxes_xyxy[0].min() == 0


def test_a_result_says_what_ran_and_how_long_each_stage_took(blobs: Path) -> None:
    detector = Detector(blobs, precision="fp32")
    result = detector.run(scene((8, 8, 8, RED)))
    assert result.precision == detector.precision == "FP32"
    assert result.digest == detector.digest
    assert len(result.digest) == 64
    times = result.times
    assert min(times.pre_ms, times.session_ms, times.post_ms) > 0
    assert times.total_ms == times.pre_ms + times.session_ms + times.post_ms
    assert detector.session_ms(scene()) > 0


def test_a_result_says_that_the_model_gave_nan(tmp_path: Path) -> None:
    file = tmp_path / "blobs.onnx"
    found = []
    for bias in (-6.0, float("nan")):
        file.write_bytes(blob_detector(class_bias=bias))
        result = Detector(file).run(scene((8, 8, 8, RED)))
        found.append((result.nan, len(result.detections)))
    assert found == [(False, 1), (True, 0)]


def test_grey_alpha_and_16_bit_frames_of_any_size_are_accepted(blobs: Path) -> None:
    detector = Detector(blobs)
    for shape, dtype in (((1, 1), np.uint8), ((5, 700, 4), np.uint8), ((300, 2, 3), np.uint16)):
        assert len(detector(np.zeros(shape, dtype=dtype))) == 0


def test_an_array_that_is_no_image_leaves_the_detector_usable(blobs: Path) -> None:
    detector = Detector(blobs)
    with pytest.raises(IntegrityError):
        detector(np.zeros((0, 4, 3), dtype=np.uint8))
    assert len(detector(scene((8, 8, 8, RED)))) == 1


def test_a_dynamic_model_runs_at_the_size_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector(dynamic=True))
    assert Detector(file).input_size == (64, 64)
    detector = Detector(file, input_size=128)
    assert detector.input_size == (128, 128)
    assert detector.cut
    frame = scene((32, 48, 8, RED), size=(128, 128))
    np.testing.assert_allclose(detector(frame).boxes_xyxy, [[28, 44, 44, 60]], atol=0.5)


def test_a_dynamic_model_refuses_a_size_that_is_no_multiple_of_its_stride(tmp_path: Path) -> None:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector(dynamic=True))
    with pytest.raises(ConfigError) as caught:
        Detector(file, input_size=100)
    assert str(caught.value) == "blobs: input_size: got 100; expected a multiple of 16"
    assert caught.value.hint == "The nearest one is 96."


def test_a_static_model_refuses_any_other_size(blobs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Detector(blobs, input_size=128)
    assert str(caught.value) == "blobs: input_size: got 128; expected 64x64, the only size this model takes"
    assert caught.value.hint == "Leave input_size out, or export the model with dynamic axes."
    assert Detector(blobs, input_size=64).input_size == (64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold: got 1.5; expected 0 to 1"),
        ({"iou_threshold": -0.1}, "iou_threshold: got -0.1; expected 0 to 1"),
        ({"max_detections": 0}, "max_detections: got 0; expected at least 1"),
        ({"threads": 0}, "threads: got 0; expected at least 1"),
        ({"precision": "FP16"}, 'precision: got "FP16"; expected auto, fp32 or int8'),
    ],
)
def test_an_option_out_of_range_is_refused(blobs: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Detector(blobs, **options)
    assert str(caught.value) == message


def test_a_single_file_is_described_by_itself(blobs: Path) -> None:
    spec = Detector(blobs).spec
    assert (spec.name, spec.family, spec.classes, spec.preprocessing) == ("blobs", "yolov8", NAMES, "yolo")
    assert (spec.input.height, spec.input.width, spec.input.dynamic, spec.input.stride) == (64, 64, False, 16)


def test_config_json_beside_a_file_describes_it(blobs: Path) -> None:
    spec = blob_spec().model_copy(update={"classes": ("rot", "grün")})
    (blobs.parent / "config.json").write_text(spec.model_dump_json(by_alias=True), encoding="utf-8")
    assert Detector(blobs).spec == spec


def test_a_config_json_with_a_fault_is_refused_with_its_line(blobs: Path) -> None:
    text = blob_spec().model_dump_json(by_alias=True, indent=1).replace('"family"', '"famly"')
    (blobs.parent / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r'config\.json:5: famly: unknown key; did you mean "family"\?'):
        Detector(blobs)


def test_int8_of_a_single_file_runs_fp32_and_says_how_to_get_int8(blobs: Path) -> None:
    detector = Detector(blobs, precision="int8")
    assert detector.precision == "FP32"
    assert detector.notice == (
        "INT8 of blobs is not there; running FP32. "
        "An entry in model_catalog.toml and `mecha models pull NAME` make INT8."
    )
    assert Detector(blobs).notice == ""


def test_a_missing_file_and_a_folder_without_a_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Detector(tmp_path / "a.onnx")
    assert str(caught.value) == f"{tmp_path / 'a.onnx'}: no such file; expected an ONNX model"
    with pytest.raises(NotFoundError) as caught:
        Detector(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds no manifest.json; expected the folder of a pulled model, or an ONNX file"
    )


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(IntegrityError):
        Detector(tmp_path / "a.onnx")


def test_a_model_file_that_is_read_with_its_description_reports_the_precision_it_was_given(blobs: Path) -> None:
    detector = Detector.from_file(blobs, blob_spec(), precision="INT8", threads=2)
    assert detector.precision == "INT8"
    assert detector.threads == 2


def test_a_family_that_cannot_be_decoded_is_refused(blobs: Path) -> None:
    spec = blob_spec().model_copy(update={"family": "segmenter"})
    with pytest.raises(UnsupportedModelError, match=r'^blobs: got family "segmenter"; expected one'):
        Detector.from_file(blobs, spec, precision="FP32")


def test_without_the_onnx_package_a_model_runs_whole(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def refuse_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx" or name.startswith("onnx."):
            raise ImportError("No module named 'onnx'")
        return real_import(name, *args, **kwargs)

    expected = Detector(blobs)(scene((8, 8, 8, RED)))
    monkeypatch.setenv("MECHA_CACHE_DIR", str(tmp_path / "no copy of an earlier start"))
    monkeypatch.setattr(builtins, "__import__", refuse_onnx)
    detector = Detector.from_file(blobs, blob_spec(), precision="FP32")
    assert not detector.cut
    assert detector.notice == (
        "blobs runs whole, which is slower, because the package onnx is missing: No module named 'onnx'"
    )
    np.testing.assert_allclose(detector(scene((8, 8, 8, RED))).boxes_xyxy, expected.boxes_xyxy, atol=0.01)


def test_the_public_names_are_loaded_when_they_are_used() -> None:
    program = (
        "import sys, mecha\n"
        "loaded = {'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)\n"
        "print(sorted(loaded), mecha.Detector.__name__, mecha.Detections.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] Detector Detections\n"


@pytest.mark.shared_data
def test_real_photos_show_what_is_on_them(shared_data: Path) -> None:
    detector = Detector(shared_data / "models" / "yolov8n.onnx")
    counts = {}
    for name in ("bus", "zidane"):
        found = detector(read_image(shared_data / "images" / f"{name}.jpg"))
        counts[name] = Counter(found.label(index) for index in range(len(found)))
    assert counts["bus"]["bus"] == 1
    assert counts["bus"]["person"] >= 4
    assert counts["zidane"]["person"] == 2


@pytest.mark.shared_data
def test_a_model_that_is_no_detector_is_refused(shared_data: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"expected .*detector"):
        Detector(shared_data / "models" / "deepsort_feature.onnx")
