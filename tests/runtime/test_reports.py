"""What nodes report of themselves: events, lines of their log, and figures."""

import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from mecha.runtime.bus.local import LocalBus
from mecha.runtime.events import Events, Swap, prefixed
from mecha.runtime.node import NodeContext, Rate
from mecha.runtime.timing import Gaps, Timings, percentile
from tests.runtime.echo import Echo, EchoConfig


def test_inference_is_an_event_each_time_and_a_line_once_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipe = io.BytesIO()
    log = logging.getLogger("object-detector")
    context = NodeContext("object-detector", tmp_path, LocalBus(), Events("n", pipe), log, threading.Event())
    node = Echo(context, EchoConfig())

    for frame in range(4):
        node.report_inference(35.14, "FP32", frame)
    node.report_swap(Swap("FP32", "INT8", 35.14, 18.2))
    for frame in range(4, 8):
        node.report_inference(18.21, "INT8", frame)

    assert [record.getMessage() for record in caplog.records] == [
        "Inference: 35.1 ms (FP32)",
        "FP32 35.1 ms -> INT8 18.2 ms",
        "Inference: 18.2 ms (INT8)",
    ]
    lines = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [line["frame"] for line in lines if line["event"] == "inference"] == list(range(8))
    assert lines[0] == {"event": "inference", "node": "n", "ms": 35.14, "precision": "FP32", "frame": 0}
    assert lines[4] == {
        "event": "swap",
        "node": "n",
        "from": "FP32",
        "to": "INT8",
        "before_ms": 35.14,
        "after_ms": 18.2,
    }


def test_a_rate_lets_one_through_in_its_period_and_every_change() -> None:
    now = [0.0]
    rate = Rate(1.0, clock=lambda: now[0])
    due = []
    for moment, about in [(0, "a"), (0.5, "a"), (0.6, "b"), (0.7, "a"), (1.6, "a"), (1.7, "a"), (2.7, "a")]:
        now[0] = moment
        due.append(rate.due(about))

    assert due == [True, False, True, True, False, True, True]


def test_every_line_of_a_text_has_the_prefix() -> None:
    assert prefixed("ERROR", "camera", "one\n\ntwo\n") == "[ERROR] camera: one\n[ERROR] camera:\n[ERROR] camera: two"
    assert prefixed("INFO", "camera", "") == "[INFO] camera:"


def test_events_that_nobody_reads_any_more_harm_nobody() -> None:
    class Closed(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    events = Events("n", Closed())

    events.error("one")
    events.error("two")


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [([], None, None), ([3.0], 3.0, 3.0), ([2.0, 1.0], 1.0, 2.0), ([float(n) for n in range(1, 101)], 50.0, 95.0)],
)
def test_percentiles_are_values_that_occurred(values: list[float], p50: float | None, p95: float | None) -> None:
    assert (percentile(values, 0.5), percentile(values, 0.95)) == (p50, p95)
    timings = Timings()
    for value in values:
        timings.add(value)
    assert (timings.p50_ms, timings.p95_ms) == (p50, p95)


def test_missing_frames_are_counted_and_a_restarted_camera_is_not_a_gap() -> None:
    gaps = Gaps()

    missed = [gaps.missed("a", seq) for seq in (5, 6, 9, 0, 1, 4)]

    assert missed == [0, 0, 2, 0, 0, 2]
    assert gaps.missed("b", 100) == 0
