from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Candidates
from mecha.quantize.judge import ObjectJudge, Outputs, TailJudge, judge_of
from tests.graph.networks import image, run, yolov8_network
from tests.quantize.frames_of_noise import spec_of


@dataclass
class Plain:
    """A decoder of outputs that are scores and boxes already."""

    overlapping: bool = True

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return outputs[0], outputs[1]

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        raise NotImplementedError

    def at(self, height: int, width: int) -> Self:
        return self


JUDGE = ObjectJudge(("scores", "boxes"), Plain())


def frame(scores: Sequence[float], box: Sequence[float] = (10, 10, 30, 50), anchors: int = 400) -> Outputs:
    """Anchors with a score of nearly nothing; the first have the given ones. Two classes."""
    values = np.full((anchors, 2), 0.001, dtype=np.float32)
    values[: len(scores), 0] = scores
    return [values, np.tile(np.array(box, dtype=np.float32), (anchors, 1))]


def test_the_same_outputs_have_no_error() -> None:
    assert JUDGE.against([frame([0.9, 0.4])])([frame([0.9, 0.4])]) == 0


def test_scores_count_by_their_power() -> None:
    error = JUDGE.against([frame([0.8])])([frame([0.6])])
    assert error == pytest.approx(0.04 / 0.64, rel=1e-3)


def test_objects_that_int8_invents_count() -> None:
    assert JUDGE.against([frame([0.8])])([frame([0.8, 0.4])]) == pytest.approx(0.16 / 0.64, rel=1e-2)


def test_boxes_count_in_sides_and_four_times() -> None:
    # 20 wide and 40 high: off by 1 pixel to the right, by 2 downwards.
    error = JUDGE.against([frame([0.8])])([frame([0.8], (11, 12, 31, 52))])
    assert error == pytest.approx(4 * 4 * 0.05**2, rel=1e-3)


def test_a_box_far_away_counts_no_more_than_one_that_is_lost() -> None:
    error = JUDGE.against([frame([0.8])])([frame([0.8], (1e6, 1e6, 2e6, 2e6))])
    assert error == pytest.approx(4 * 4, rel=1e-3)


def test_what_happens_to_the_background_does_not_matter() -> None:
    strong = [0.5] * 150
    wanted, got = frame(strong), frame(strong)
    got[1][150:] += 7
    got[0][150:] *= 3
    assert JUDGE.against([wanted])([got]) == 0


@pytest.mark.parametrize("stronger", [0.0, 0.3, -0.3])
def test_the_hundred_strongest_of_either_are_compared(stronger: float) -> None:
    rng = np.random.default_rng(3)
    wanted = rng.random((300, 4), dtype=np.float32)
    got = wanted + rng.normal(stronger, 0.05, wanted.shape).astype(np.float32)
    boxes = np.tile(np.array([0, 0, 10, 10], dtype=np.float32), (300, 1))
    either = np.union1d(np.argsort(wanted, axis=None)[-100:], np.argsort(got, axis=None)[-100:])
    ours, theirs = wanted.reshape(-1)[either], got.reshape(-1)[either]

    error = JUDGE.against([[wanted, boxes]])([[got, boxes]])

    assert error == pytest.approx(np.square(ours - theirs).sum() / np.square(ours).sum(), rel=1e-5)


def test_a_model_that_sees_nothing_has_a_finite_error() -> None:
    nothing = [np.zeros((50, 2), np.float32), np.zeros((50, 4), np.float32)]
    assert JUDGE.against([nothing])([nothing]) == 0


def test_the_tail_judge_takes_the_mean_of_each_channel_off_the_signal() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(1, 4, 8, 8)).astype(np.float32)
    noise = rng.normal(scale=0.1, size=wanted.shape).astype(np.float32)
    compare = TailJudge(("x",)).against([[wanted + 1000]])
    signal = np.square(wanted - wanted.mean(axis=(2, 3), keepdims=True)).sum()
    assert compare([[wanted + 1000 + noise]]) == pytest.approx(np.square(noise).sum() / signal, rel=1e-2)


def test_a_detector_is_judged_by_its_objects_and_any_other_graph_by_its_tail() -> None:
    model = yolov8_network()
    detector = judge_of(model, spec_of())
    assert isinstance(detector, ObjectJudge)
    assert detector.near_enough(0.01) == pytest.approx(0.003)
    unknown = judge_of(model, spec_of().model_copy(update={"family": None}))
    assert isinstance(unknown, TailJudge)
    assert unknown.near_enough(0.01) == 0.01
    assert len(run(model, image())) == 1
