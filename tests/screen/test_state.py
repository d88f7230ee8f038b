"""What the screen knows of the nodes, from their events."""

from mecha.cli.screen.state import ScreenState, Spread
from tests.screen.events import detector_stats, state, stats


def test_a_node_is_what_its_events_say() -> None:
    screen = ScreenState()
    screen.take(state("object-detector", "running", pid=7), 10.0)
    screen.take(detector_stats(dropped=3), 11.0)

    row = screen.nodes["object-detector"]
    assert (row.state, row.pid, row.precision, row.dropped, row.restarts) == ("running", 7, "INT8", 3, 0)
    assert (row.fps_in, row.fps_out, row.rss_mb, row.cpu_percent) == (30.0, 29.6, 312.0, 12.4)
    assert row.step == Spread(0.42, 1.75)
    assert row.stages["session"] == Spread(15.91, 19.14)
    assert row.note == ""
    assert screen.chosen == "object-detector"
    assert screen.began_s == 10.0


def test_figures_of_long_ago_are_not_those_of_now() -> None:
    screen = ScreenState()
    screen.take(state("camera", "running"), 0.0)
    row = screen.nodes["camera"]
    assert not row.is_fresh(0.0)
    screen.take(stats("camera"), 1.0)
    assert row.is_fresh(3.5)
    assert not row.is_fresh(4.5)
    screen.take(state("camera", "restarting"), 4.6)
    screen.take(stats("camera"), 4.7)
    assert not row.is_fresh(4.7)


def test_drops_add_up_over_the_processes_of_a_node() -> None:
    screen = ScreenState()
    screen.take(state("object-detector", "running", pid=1), 0.0)
    screen.take(detector_stats(dropped=3), 1.0)
    screen.take(state("object-detector", "restarting", pid=1, restarts=1, reason="exit code 1"), 2.0)
    screen.take(state("object-detector", "starting", pid=2, restarts=1), 3.0)

    row = screen.nodes["object-detector"]
    assert row.dropped == 3
    screen.take(detector_stats(dropped=2), 4.0)
    assert (row.dropped, row.restarts) == (5, 1)


def test_what_is_out_of_the_ordinary_is_noted() -> None:
    screen = ScreenState()
    screen.take(state("object-detector", "running"), 0.0)
    row = screen.nodes["object-detector"]
    screen.take(detector_stats(stale=True, degraded="skip 2"), 1.0)
    assert row.note == "stale, skip 2"
    screen.take({"event": "fault", "node": "object-detector", "fault": "slow-inference@5s:9s", "phase": "begin"}, 2.0)
    assert row.note == "slow-inference, stale, skip 2"
    screen.take({"event": "fault", "node": "object-detector", "fault": "slow-inference@5s:9s", "phase": "end"}, 3.0)
    screen.take({"event": "degrade", "node": "object-detector", "from": "skip 2", "to": "", "reason": "cool"}, 3.0)
    screen.take(detector_stats(), 4.0)
    assert row.note == ""
    screen.take(state("object-detector", "hung", reason="no sign of life for 15 s"), 5.0)
    assert row.note == "no sign of life for 15 s"


def test_a_fault_ends_with_the_process_that_had_it() -> None:
    screen = ScreenState()
    screen.take(state("camera", "running", pid=1), 0.0)
    screen.take({"event": "fault", "node": "camera", "fault": "node-crash@5s", "phase": "begin"}, 5.0)
    screen.take(state("camera", "restarting", pid=1, restarts=1, reason="signal SIGKILL"), 5.1)
    assert screen.nodes["camera"].note == "node-crash, signal SIGKILL"
    screen.take(state("camera", "starting", pid=2, restarts=1), 5.6)

    assert screen.nodes["camera"].note == ""


def test_the_precision_is_that_of_the_last_frame() -> None:
    screen = ScreenState()
    screen.take(detector_stats(precision="INT8"), 1.0)
    frame = {"event": "inference", "node": "object-detector", "ms": 35.1, "precision": "FP32", "frame": 9}
    screen.take(frame, 1.1)

    assert [row.precision for row in screen.detectors] == ["FP32"]


def test_events_that_nobody_knows_change_nothing() -> None:
    screen = ScreenState()
    screen.take({"event": "summary", "nodes": {}}, 1.0)
    screen.take({"event": "else", "node": "camera"}, 1.0)
    screen.take({"event": "stats", "node": "camera", "p50_ms": "?", "stages": [1]}, 1.0)

    assert list(screen.nodes) == ["camera"]
    assert screen.nodes["camera"].step == Spread()


def test_nodes_are_chosen_round_and_round() -> None:
    screen = ScreenState()
    screen.choose(1)
    assert screen.row is None
    for name in ("a", "b", "c"):
        screen.take(state(name, "running"), 0.0)

    chosen = []
    for step in (1, 1, 1, -1):
        screen.choose(step)
        chosen.append(screen.chosen)
    assert chosen == ["b", "c", "a", "c"]
