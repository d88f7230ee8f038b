from pathlib import Path

import pytest

from mecha.detect.detector import Detector
from mecha.detect.session import CPU_PROVIDER, Session, default_threads, tuned_device, usable_cores
from mecha.gate.tune import Duel, candidates, choose, settled, tune, tune_briefly, tune_record
from mecha.store.manifest import Manifest, TunedSession, TuneRecord
from mecha.store.models import ModelStore
from mecha.store.published import MANIFEST_FILE
from tests.detect.blob_detector import RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import publish_blobs


@pytest.mark.parametrize(
    ("cores", "default", "threads"),
    [(1, 1, [1]), (2, 1, [1, 2]), (4, 3, [3, 1, 2, 4]), (6, 4, [4, 1, 2, 6]), (64, 4, [4, 1, 2, 8])],
)
def test_numbers_of_threads_are_tried_up_to_the_cores_and_the_default_first(
    cores: int, default: int, threads: list[int]
) -> None:
    tried = candidates(cores, default, ())
    assert [session.threads for session in tried] == threads
    assert {session.provider for session in tried} == {CPU_PROVIDER}


def test_other_providers_are_tried_with_the_default_threads() -> None:
    last = candidates(4, 3, ["CUDAExecutionProvider"])[-1]
    assert (last.threads, last.provider) == (3, "CUDAExecutionProvider")


def duel(gain: float, rounds: int = 15, *, threads: int = 2, spread: float = 0.0) -> Duel:
    """A candidate that takes 20 ms; the default takes `gain` times as long, give or take `spread` in each round."""
    default = tuple(20.0 * gain * (1 + spread * (-1) ** number) for number in range(rounds))
    return Duel(TunedSession(threads=threads, ms=20.0), default, (20.0,) * rounds)


@pytest.mark.parametrize(
    ("duels", "threads"),
    [
        ([duel(1.5), duel(1.2, threads=3)], 2),
        ([duel(1.2), duel(1.5, threads=3)], 3),
        ([duel(1.05)], 1),
        ([duel(0.7)], 1),
        ([duel(1.2, spread=0.5)], 1),
        ([duel(1.2, rounds=3)], 2),
        ([], 1),
    ],
    ids=["the first", "the second", "too little", "slower", "unsteady", "few rounds", "nothing else"],
)
def test_only_what_is_clearly_faster_than_the_default_is_chosen(duels: list[Duel], threads: int) -> None:
    assert choose(TunedSession(threads=1, ms=25.0), duels).threads == threads


@pytest.mark.parametrize(("gain", "square"), [(1.05, True), (0.95, False), (0.6, False)])
def test_the_square_is_chosen_where_the_rectangle_is_not_faster(gain: float, square: bool) -> None:
    raced = duel(gain, threads=1)
    raced = Duel(raced.session.model_copy(update={"square": True}), raced.default_ms, raced.ms)
    assert choose(TunedSession(threads=1, ms=20.0), [raced]).square is square


def test_a_model_that_runs_at_rectangles_is_measured_at_its_square_too(tmp_path: Path) -> None:
    spec, file = blob_spec(128, dynamic=True), blob_detector(128, dynamic=True)
    (tuning,) = tune(publish_blobs(ModelStore(tmp_path), spec=spec, model=file))
    assert [session.square for session in tuning.tried if session.threads == default_threads()] == [False, True]
    assert tuning.tried[-1].ms


def test_a_detector_pads_to_the_square_where_that_was_found_faster(tmp_path: Path) -> None:
    device, version = tuned_device()
    spec = blob_spec(dynamic=True)
    store = ModelStore(tmp_path)
    folder = publish_blobs(store, spec=spec, model=blob_detector(dynamic=True)).path
    assert Detector(folder).stride == 16
    sessions = {"FP32": TunedSession(threads=1, square=True)}
    store.remember("blobs", TuneRecord(device=device, onnxruntime=version, sessions=sessions))
    assert Detector(folder).stride is None


@pytest.mark.parametrize(
    ("gains", "enough"),
    [
        ([0.7], True),
        ([0.9], False),
        ([0.9, 0.95], False),
        ([0.9, 0.95, 0.97], True),
        ([1.5] * 6, False),
        ([1.5] * 7, True),
        ([1.05] * 7, True),
        ([1.05, 1.15] * 10, False),
    ],
    ids=["hopeless", "one", "two", "slower", "early", "quicker", "as quick", "at the margin"],
)
def test_a_duel_ends_when_more_rounds_would_change_nothing(gains: list[float], enough: bool) -> None:
    assert settled([20.0 * gain for gain in gains], [20.0] * len(gains)) is enough


def test_every_precision_is_measured(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    model = publish_blobs(store, int8=blob_detector())
    tunings = tune(model)
    assert [tuning.precision for tuning in tunings] == ["FP32", "INT8"]
    for tuning in tunings:
        assert tuning.chosen in tuning.tried
        assert tuning.tried[0].threads == default_threads()
        assert all(session.ms is not None and session.ms > 0 for session in tuning.tried)
    record = tune_record({tuning.precision: tuning.chosen for tuning in tunings})
    assert store.remember("blobs", record).manifest.tuned == record
    assert store.verify("blobs") == ()


def test_beside_other_work_only_more_threads_are_tried_and_nothing_where_there_are_none(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    model = publish_blobs(ModelStore(tmp_path))
    found = tune_briefly({"FP32": model.fp32_path}, model.spec, progress=lambda *step: steps.append(step))
    if usable_cores() == 1:
        assert (found, steps) == ({}, [])
        return
    assert set(found) == {"FP32"}
    assert found["FP32"].threads >= default_threads()
    assert {stage for stage, _, _ in steps} == {"tune"}
    assert steps[-1][1] == steps[-1][2]


def remembered(store: ModelStore, device: str, version: str) -> Path:
    publish_blobs(store)
    record = TuneRecord(device=device, onnxruntime=version, sessions={"FP32": TunedSession(threads=3)})
    return store.remember("blobs", record).path


def test_a_detector_uses_the_threads_that_were_found_unless_it_is_told_others(tmp_path: Path) -> None:
    folder = remembered(ModelStore(tmp_path), *tuned_device())
    assert Detector(folder).threads == 3
    assert Detector(folder, threads=2).threads == 2


def test_what_was_found_on_another_device_does_not_count(tmp_path: Path) -> None:
    device, version = tuned_device()
    assert Detector(remembered(ModelStore(tmp_path), "another CPU", version)).threads == default_threads()
    assert Detector(remembered(ModelStore(tmp_path), device, "0.0.1")).threads == default_threads()


def test_a_manifest_without_a_tune_is_read(tmp_path: Path) -> None:
    model = publish_blobs(ModelStore(tmp_path))
    text = (model.path / MANIFEST_FILE).read_text(encoding="utf-8")
    data = Manifest.model_validate_json(text).model_dump(mode="json", by_alias=True)
    del data["tuned"]
    assert Manifest.model_validate(data).tuned is None


def test_a_provider_that_is_not_there_leaves_the_cpu_and_says_so() -> None:
    session = Session(blob_detector(), threads=1, provider="CUDAExecutionProvider", where="blobs.onnx")
    assert session.provider == CPU_PROVIDER
    assert session.notice == "blobs.onnx cannot run on CUDAExecutionProvider here; running on the CPU."
    assert Session(blob_detector(), threads=1).notice == ""


def test_the_notice_of_a_provider_is_the_notice_of_the_detector(tmp_path: Path) -> None:
    model = publish_blobs(ModelStore(tmp_path))
    detector = Detector.from_file(model.fp32_path, model.spec, precision="FP32", provider="TensorrtExecutionProvider")
    assert detector.notice == (f"{model.fp32_path} cannot run on TensorrtExecutionProvider here; running on the CPU.")
    assert detector.provider == CPU_PROVIDER
    assert len(detector(scene((8, 8, 8, RED)))) == 1
