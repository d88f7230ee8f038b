from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.detect.detections import StageTimes
from mecha.gate.device import cpu_name, describe_device
from mecha.gate.latency import Effort, Run, bench, compare, measure, ratio_bounds
from mecha.graph.cpu import cpu_features
from mecha.store.models import ModelStore
from tests.detect.published_blobs import int8_blobs, publish_blobs


class Scripted:
    """Runs that take the times given, over and over, and note in what order they were called."""

    def __init__(self, **milliseconds: list[float]) -> None:
        self.calls: list[str] = []
        self.runs: list[Run] = [self._run(name, times) for name, times in milliseconds.items()]

    def _run(self, name: str, times: list[float]) -> Run:
        def run() -> StageTimes:
            self.calls.append(name)
            index = self.calls.count(name) - 1
            return StageTimes(0.5, times[index % len(times)], 0.25)

        return run


def test_everything_is_run_in_turns_after_a_warm_up() -> None:
    script = Scripted(a=[1.0], b=[2.0])
    times = measure(script.runs, effort=Effort(least=3, most=3), settled=lambda _: False)
    assert "".join(script.calls) == "aabb" + "ababab"
    assert [[time.session_ms for time in row] for row in times] == [[1.0] * 3, [2.0] * 3]


def test_it_ends_when_the_outcome_is_clear_but_not_before_the_least_rounds() -> None:
    asked: list[int] = []

    def settled(times: list[list[StageTimes]]) -> bool:
        asked.append(len(times[0]))
        return len(times[0]) >= 6

    times = measure(Scripted(a=[1.0]).runs, effort=Effort(least=4, most=50), settled=settled)
    assert asked == [4, 5, 6]
    assert len(times[0]) == 6


def test_on_a_slow_device_it_ends_when_the_time_is_over() -> None:
    seconds = iter(range(0, 1000, 10))
    effort = Effort(least=50, most=100, time_limit_s=25, enough_when_slow=5)
    times = measure(Scripted(a=[1.0]).runs, effort=effort, settled=lambda _: False, clock=lambda: next(seconds))
    assert len(times[0]) == 5


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60))
def test_the_bounds_hold_the_median(ratios: list[float]) -> None:
    low, high = ratio_bounds(ratios, [1.0] * len(ratios))
    middle = sorted(ratios)[len(ratios) // 2]
    assert low <= middle
    assert high >= sorted(ratios)[(len(ratios) - 1) // 2]
    assert low in ratios
    assert high in ratios


def test_more_rounds_narrow_the_bounds() -> None:
    few = ratio_bounds([float(index) for index in range(1, 21)], [1.0] * 20)
    many = ratio_bounds([1 + index / 10 for index in range(200)], [1.0] * 200)
    assert few == (6.0, 15.0)
    assert many[1] - many[0] < few[1] - few[0]


def test_a_clear_difference_needs_the_least_rounds_only() -> None:
    script = Scripted(exported=[11.0], fp32=[10.0], int8=[5.0])
    record = compare(*script.runs, threads=2, threshold=1.05)
    assert (record.threads, record.runs) == (2, 15)
    assert (record.fp32_exported_ms, record.fp32_ms, record.int8_ms) == (11.0, 10.0, 5.0)


def test_a_close_race_is_run_longer() -> None:
    # The ratio is 1.0 and 1.1 in turns: the bounds keep 1.05 between them.
    script = Scripted(exported=[10.0], fp32=[10.0, 11.0], int8=[10.0])
    assert compare(*script.runs, threads=1, threshold=1.05, effort=Effort(most=40)).runs == 40


def test_a_spell_that_slows_both_does_not_move_the_result() -> None:
    # The medians apart are 7 ms and 8.5 ms: INT8 would look slower, though it is the quicker one in every round.
    script = Scripted(exported=[10.0], fp32=[7.0] * 8 + [15.0] * 7, int8=[4.5] * 7 + [8.5] + [8.5] * 7)
    record = compare(*script.runs, threads=1, threshold=1.05, effort=Effort(least=15, most=15))
    assert (record.fp32_ms, record.int8_ms) == (7.0, 4.5)


def test_single_slow_runs_do_not_move_the_result() -> None:
    script = Scripted(exported=[10.0], fp32=[10.0], int8=[5.0, 5.0, 5.0, 5.0, 500.0])
    assert compare(*script.runs, threads=1, threshold=1.05).int8_ms == 5.0


def test_a_bench_has_the_shape_that_scripts_rely_on(tmp_path: Path) -> None:
    published = publish_blobs(ModelStore(tmp_path), int8=int8_blobs(), verdict="slower")
    result = bench(published, threads=1, effort=Effort(least=3, most=3))
    spread = {"p50", "p95"}
    assert {key: result[key] for key in ("schema", "name", "input_size", "threads", "runs", "verdict")} == {
        "schema": 1,
        "name": "blobs",
        "input_size": [64, 64],
        "threads": 1,
        "runs": 3,
        "verdict": "slower",
    }
    assert set(result["device"]) == {"arch", "cpu", "cores", "features", "onnxruntime"}
    for side in ("fp32", "int8"):
        assert set(result[side]["session_ms"]) == set(result[side]["end_to_end_ms"]) == spread
        assert result[side]["end_to_end_ms"]["p50"] > result[side]["session_ms"]["p50"] > 0
    assert set(result["fp32"]["exported_session_ms"]) == spread
    assert "exported_session_ms" not in result["int8"]
    assert published.int8_path is not None
    assert result["fp32"]["size_bytes"] == published.fp32_path.stat().st_size
    assert result["int8"]["size_bytes"] == published.int8_path.stat().st_size
    ratio = result["fp32"]["session_ms"]["p50"] / result["int8"]["session_ms"]["p50"]
    assert result["speedup"]["session"] == pytest.approx(ratio, abs=0.001)
    assert set(result["speedup"]) == {"session", "end_to_end"}


def test_a_bench_without_int8_measures_fp32(tmp_path: Path) -> None:
    result = bench(publish_blobs(ModelStore(tmp_path)), threads=1, effort=Effort(least=3, most=3))
    assert result["fp32"]["session_ms"]["p50"] > 0
    assert (result["int8"], result["speedup"], result["verdict"]) == (None, None, None)


def test_the_device_is_described() -> None:
    device = describe_device()
    assert device["cpu"]
    assert int(device["cores"]) >= 1
    assert device["arch"] == cpu_features().arch


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel : 17\nmodel name : AMD EPYC\n", "AMD EPYC"),
        (
            "processor : 0\nBogoMIPS : 108.00\n\nModel : Raspberry Pi 5 Model B Rev 1.0\n",
            "Raspberry Pi 5 Model B Rev 1.0",
        ),
        ("processor : 0\nHardware : BCM2835\n", "BCM2835"),
    ],
)
def test_the_cpu_is_named_as_the_system_names_it(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_name(tmp_path / "cpuinfo") == name


def test_a_cpu_without_a_name_is_still_something(tmp_path: Path) -> None:
    assert cpu_name(tmp_path / "missing")
