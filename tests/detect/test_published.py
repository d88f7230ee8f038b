from pathlib import Path

import pytest

from mecha.detect.detector import Detector, WantedPrecision
from mecha.errors import NotFoundError
from mecha.store.manifest import Verdict
from mecha.store.models import ModelStore
from tests.detect.blob_detector import RED, scene
from tests.detect.published_blobs import int8_blobs, publish_blobs

FRAME = scene((8, 8, 8, RED))


@pytest.fixture(scope="module")
def int8() -> bytes:
    return int8_blobs()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    (tmp_path / "model_catalog.toml").touch()
    monkeypatch.chdir(tmp_path)
    return ModelStore(tmp_path / "models")


@pytest.mark.parametrize(
    ("wanted", "verdict", "precision"),
    [
        ("auto", "faster", "INT8"),
        ("auto", "slower", "FP32"),
        ("int8", "slower", "INT8"),
        ("fp32", "faster", "FP32"),
    ],
)
def test_the_precision_is_what_is_wanted_and_auto_is_what_the_gate_found(
    project: ModelStore, int8: bytes, wanted: WantedPrecision, verdict: Verdict, precision: str
) -> None:
    published = publish_blobs(project, int8=int8, verdict=verdict)
    detector = Detector("blobs", precision=wanted)
    assert detector.precision == precision
    assert detector.notice == ""
    file = "model-int8.onnx" if precision == "INT8" else "model.onnx"
    assert detector.digest == published.manifest.files[file].sha256
    assert detector(FRAME).label(0) == "red"


def test_a_model_is_found_by_name_by_folder_and_by_file(project: ModelStore, int8: bytes) -> None:
    published = publish_blobs(project, int8=int8)
    for model in ("blobs", published.path, published.fp32_path, "models/blobs", "models/blobs/model.onnx"):
        detector = Detector(model)
        assert detector.spec == published.spec
        assert detector.precision == "INT8"


def test_a_name_that_was_not_pulled_is_refused(project: ModelStore) -> None:
    with pytest.raises(NotFoundError, match='model "blobs" is not pulled'):
        Detector("blobs")


def test_int8_that_was_not_built_runs_fp32_and_says_how_to_get_it(project: ModelStore) -> None:
    publish_blobs(project)
    detector = Detector("blobs", precision="int8")
    assert detector.precision == "FP32"
    assert detector.notice == "INT8 of blobs is not there; running FP32. `mecha models quantize blobs` makes INT8."
    assert Detector("blobs", precision="auto").notice == ""


@pytest.mark.parametrize("wanted", ["auto", "int8"])
def test_int8_that_does_not_load_runs_fp32_and_says_why(project: ModelStore, wanted: WantedPrecision) -> None:
    published = publish_blobs(project, int8=b"not a model")
    detector = Detector("blobs", precision=wanted)
    assert detector.precision == "FP32"
    assert detector.notice.startswith(f"INT8 of blobs cannot be used: {published.path / 'model-int8.onnx'}: ")
    assert detector.notice.endswith("; running FP32. `mecha models quantize blobs` makes INT8.")
    assert detector(FRAME).label(0) == "red"
