import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mecha.quantize.calibration_cache import MOST_ENTRIES, CalibrationCache, calibration_key
from mecha.quantize.histogram import Counter
from mecha.quantize.observe import Observed, observe
from mecha.quantize.plan import Planner
from tests.graph.networks import yolov8_network
from tests.quantize.test_observe import Images

KEY = "ab" * 32
MODEL = yolov8_network()
TENSORS = Planner(MODEL).plan().observed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "calibration"


def some_observed(seed: int = 0) -> Observed:
    rng = np.random.default_rng(seed)
    counter = Counter(-3.0, 3.0)
    counter.add(rng.normal(size=1000).astype(np.float32))
    lows, highs = -rng.random((4, 2)), rng.random((4, 2))
    return Observed(("one", "two/ö"), lows, highs, {"one": counter.histogram(), "two/ö": counter.histogram()})


def assert_same(found: Observed | None, expected: Observed) -> None:
    assert found is not None
    assert found.tensors == expected.tensors
    np.testing.assert_array_equal(found.lows, expected.lows)
    np.testing.assert_array_equal(found.highs, expected.highs)
    assert list(found.histograms) == list(expected.histograms)
    for name, histogram in expected.histograms.items():
        kept = found.histograms[name]
        np.testing.assert_array_equal(kept.counts, histogram.counts)
        assert (kept.low, kept.high) == (histogram.low, histogram.high)


def look(inputs: Images, folder: Path, *, histograms: bool = True, key: str = KEY) -> Observed:
    cache = CalibrationCache(folder)
    return observe(
        MODEL, TENSORS, inputs, histograms=histograms, threads=1, on_frame=lambda: None, cache=cache, key=key
    )


@pytest.mark.parametrize("histograms", [True, False])
def test_what_is_kept_is_what_is_found(folder: Path, histograms: bool) -> None:
    kept = some_observed() if histograms else replace(some_observed(), histograms={})
    CalibrationCache(folder).keep(KEY, kept)
    assert_same(CalibrationCache(folder).find(KEY), kept)


def test_the_same_frames_are_looked_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(Images(), folder)
    # With a key that is known, no session is made and no frame is asked for.
    monkeypatch.setattr("mecha.quantize.observe.Session", None)
    again = Images()
    assert_same(look(again, folder), first)
    extremes_only = look(again, folder, histograms=False)
    assert (again.rounds, dict(extremes_only.histograms)) == (0, {})


def test_extremes_alone_do_not_answer_for_histograms(folder: Path) -> None:
    look(Images(), folder, histograms=False)
    again = Images()
    assert look(again, folder).histograms
    assert again.rounds == 2


def test_another_key_looks_again(folder: Path) -> None:
    look(Images(), folder)
    again = Images()
    look(again, folder, key="cd" * 32)
    assert again.rounds == 2


def test_an_entry_of_other_tensors_is_not_taken(folder: Path) -> None:
    CalibrationCache(folder).keep(KEY, some_observed())
    again = Images()
    assert look(again, folder).tensors == TENSORS
    assert again.rounds == 2


@pytest.mark.parametrize("damage", ["cut short", "changed", "empty", "other key"])
def test_an_entry_that_is_not_what_was_kept_is_not_read(folder: Path, damage: str) -> None:
    first = look(Images(), folder)
    file = folder / KEY
    data = file.read_bytes()
    key = KEY
    if damage == "other key":
        key = "0" * 64
        file.rename(folder / key)
    else:
        file.write_bytes({"cut short": data[:-1], "changed": data[:-1] + b"\1", "empty": b""}[damage])
    assert CalibrationCache(folder).find(key) is None
    again = Images()
    assert_same(look(again, folder, key=key), first)
    assert again.rounds == 2
    assert_same(CalibrationCache(folder).find(key), first)


def test_only_the_newest_entries_stay(folder: Path) -> None:
    cache = CalibrationCache(folder)
    for number in range(MOST_ENTRIES + 3):
        cache.keep(f"{number:064x}", some_observed())
        os.utime(folder / f"{number:064x}", ns=(number * 10**9, number * 10**9))
    assert len(list(folder.iterdir())) == MOST_ENTRIES
    assert cache.find(f"{0:064x}") is None
    assert cache.find(f"{MOST_ENTRIES + 2:064x}") is not None


def test_a_folder_that_cannot_be_written_means_no_cache(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    assert look(Images(), taken / "calibration").histograms
    assert CalibrationCache(taken / "calibration").find(KEY) is None


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="nothing is read-only to root"
)
def test_a_read_only_folder_means_no_cache(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    assert look(Images(), folder).histograms
    assert list(folder.iterdir()) == []


def test_the_key_holds_everything_that_the_result_depends_on() -> None:
    asked = {"preprocessing": "yolo", "height": 640, "width": 640, "tensors": ("a", "b")}
    key = calibration_key("model", "frames", **asked)  # type: ignore[arg-type]  # a table of arguments
    assert key == calibration_key("model", "frames", **asked)  # type: ignore[arg-type]  # the same table
    changes = (
        {"preprocessing": "yolox"},
        {"height": 320},
        {"width": 320},
        {"tensors": ("b", "a")},
        {"tensors": ("a",)},
    )
    others = {
        calibration_key("other", "frames", **asked),  # type: ignore[arg-type]  # the same table
        calibration_key("model", "other", **asked),  # type: ignore[arg-type]  # the same table
        *(calibration_key("model", "frames", **{**asked, **change}) for change in changes),  # type: ignore[arg-type]  # the same table
    }
    assert len(others | {key}) == 8
