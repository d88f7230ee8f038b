"""A topic that was misspelled is told of, one that comes from elsewhere is not."""

import os
from pathlib import Path

import pytest

from mecha.project import find_project
from mecha.runtime.dev import DevOptions, run_dev
from mecha.runtime.near_misses import near_misses
from tests.runtime.projects import COUNTER, TICKER, configure, make_project

CAMERA = ((), ("/camera/rgb", "/camera/state"))
DETECTOR = (("/camera/rgb", "/vision/object/control"), ("/vision/object/detections",))


@pytest.mark.parametrize(
    ("topic", "near"),
    [
        ("/vision/object/detection", "/vision/object/detections"),
        ("/vison/object/detections", "/vision/object/detections"),
        ("/camera/rbg", "/camera/rgb"),
        ("/camera/depth", None),
        ("/vision/object/tracks", None),
        ("/odometry", None),
        ("/camera/rgb", None),
    ],
)
def test_a_topic_that_is_almost_one_that_is_written_is_a_near_miss(topic: str, near: str | None) -> None:
    found = list(near_misses({"camera": CAMERA, "object-detector": DETECTOR, "mine": ((topic,), ())}))

    expected = [("mine", f"reads {topic}, which no node here writes; did you mean {near}?")]
    assert found == (expected if near else [])


def test_a_run_tells_of_a_near_miss_once(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER.replace("/camera/rgb", "/camera/rbg"))
    configure(root, "ticker", frames=3)
    lines: list[str] = []

    summary = run_dev(find_project(root, os.environ), (), DevOptions(), lines.append, lambda event: None)

    assert summary.exit_code == 0
    told = [line for line in lines if "no node here writes" in line]
    assert told == ["[WARNING] counter: reads /camera/rbg, which no node here writes; did you mean /camera/rgb?"]
