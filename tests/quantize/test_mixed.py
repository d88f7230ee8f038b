from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecha.quantize import mixed
from mecha.quantize.built import Built, CurvePoint
from mecha.quantize.mixed import Costs, blocks_around, keep_best_integer, leave_worst_float
from mecha.quantize.options import StaticOptions
from mecha.quantize.plan import Planner
from mecha.quantize.probe import Errors, Recipe
from mecha.quantize.static import build_static
from tests.graph.networks import image, run, yolov8_network
from tests.quantize.frames_of_noise import PatchFrames, spec_of
from tests.quantize.probing import with_a_hot_channel

BLOCKS = tuple(frozenset({name}) for name in "abcd")


class Harm:
    """Stands for a probe: each Conv that is integer adds its share to the error."""

    def __init__(self, harm: Mapping[str, float]) -> None:
        self.harm = harm
        self.asked: list[tuple[str, ...]] = []

    def error(self, recipe: Recipe) -> float:
        self.asked.append(recipe.leave_float)
        return sum(share for name, share in self.harm.items() if name not in recipe.leave_float)

    def errors(self, recipes: Sequence[Recipe]) -> list[Errors]:
        return [Errors(error, error) for error in map(self.error, recipes)]


def costs_of(fp32: Mapping[str, float], int8: float = 1.0) -> Costs:
    return Costs(fp32, dict.fromkeys(fp32, int8))


def search(harm: Harm, costs: Costs, **limits: Any) -> tuple[Recipe, tuple[CurvePoint, ...]]:
    chosen = {"target": 0.01, "largest_cost": 1.0, **limits}
    return leave_worst_float(harm, Recipe({}), BLOCKS, costs, **chosen)  # type: ignore[arg-type]  # asked for errors only


def test_errors_fall_from_the_first_point_where_all_is_integer_until_they_are_near_enough() -> None:
    harm = Harm({"a": 0.02, "b": 0.014, "c": 0.002, "d": 0.001})
    recipe, curve = search(harm, costs_of(dict.fromkeys("abcd", 2.0)))
    assert [point.left_float for point in curve] == [(), ("a",), ("b",)]
    np.testing.assert_allclose([point.error for point in curve], [0.037, 0.017, 0.003])
    assert [point.cost_ms for point in curve] == [0.0, 1.0, 2.0]
    assert recipe.leave_float == ("a", "b")


def test_what_is_near_enough_already_is_left_alone() -> None:
    harm = Harm({"a": 0.009})
    recipe, curve = search(harm, costs_of(dict.fromkeys("abcd", 2.0)))
    assert (recipe.leave_float, len(curve), harm.asked) == ((), 1, [()])


def test_the_block_that_takes_away_most_error_in_a_millisecond_goes_first() -> None:
    harm = Harm({"a": 0.02, "b": 0.015})
    cheap, _ = search(harm, costs_of({"a": 2.0, "b": 2.0, "c": 2.0, "d": 2.0}), target=0.016)
    assert cheap.leave_float == ("a",)
    dear, _ = search(harm, costs_of({"a": 900.0, "b": 2.0, "c": 2.0, "d": 2.0}), target=0.021)
    assert dear.leave_float == ("b",)


class Lucky(Harm):
    """Stands for a probe whose objects are off by chance; everywhere, each integer Conv adds its share."""

    def __init__(self, harm: Mapping[str, float], judged: Mapping[tuple[str, ...], float]) -> None:
        super().__init__(harm)
        self.judged = judged

    def errors(self, recipes: Sequence[Recipe]) -> list[Errors]:
        return [Errors(self.judged[recipe.leave_float], self.error(recipe)) for recipe in recipes]


@pytest.mark.parametrize(("after", "left"), [(0.029, ("a",)), (0.031, ())])
def test_near_what_is_asked_for_objects_may_go_astray_by_chance(after: float, left: tuple[str, ...]) -> None:
    judged = {(): 0.02, ("a",): after, ("b",): 0.1, ("c",): 0.1, ("d",): 0.1}
    judged |= {tuple(sorted({"a", name})): 0.1 for name in "bcd"}
    lucky = Lucky({"a": 0.02, "b": 0.001}, judged)

    recipe, _ = search(lucky, costs_of(dict.fromkeys("abcd", 2.0)), target=0.01)

    assert recipe.leave_float == left


def test_no_more_is_spent_than_allowed_unless_int8_is_far_off_and_saves_little() -> None:
    costs = costs_of(dict.fromkeys("abcd", 2.0))  # 4 ms are saved
    near = Harm({"a": 0.02, "b": 0.02})
    assert search(near, costs, largest_cost=0.3)[0].leave_float == ("a",)
    assert search(near, costs, largest_cost=0.2)[0].leave_float == ()
    far = Harm({"a": 0.2, "b": 0.2})
    assert search(far, costs, largest_cost=0.2)[0].leave_float == ()
    little = costs_of(dict.fromkeys("abcd", 1.4))  # 1.6 ms are saved of 5.6
    assert search(near, little, largest_cost=0.2)[0].leave_float == ()
    assert search(far, little, largest_cost=0.2)[0].leave_float == ("a", "b")


def test_a_block_that_hardly_helps_stays_integer() -> None:
    harm = Harm({"a": 0.0005, "b": 0.0005, "rest": 0.03})
    assert search(harm, costs_of(dict.fromkeys("abcd", 2.0)))[0].leave_float == ()


def test_a_model_that_saves_nothing_may_still_spend_a_little() -> None:
    costs = costs_of({"a": 1.04, "b": 1.0, "c": 1.0, "d": 1.0}, int8=1.0)
    harm = Harm({"a": 0.02})
    assert search(harm, costs, largest_cost=0.0)[0].leave_float == ("a",)


def test_what_is_float_already_counts_on() -> None:
    harm = Harm({"a": 0.2, "b": 0.02})
    costs = costs_of(dict.fromkeys("abcd", 2.0))
    recipe, curve = leave_worst_float(
        harm,  # type: ignore[arg-type]  # asked for errors only
        Recipe({}, leave_float=("a",)),
        BLOCKS,
        costs,
        target=0.01,
        largest_cost=1.0,
    )
    assert recipe.leave_float == ("a", "b")
    assert [(point.left_float, point.cost_ms) for point in curve] == [((), 1.0), (("b",), 2.0)]


def test_no_more_builds_are_measured_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "BUILDS_TRIED", 6)
    harm = Harm(dict.fromkeys("abcd", 0.02))
    search(harm, costs_of(dict.fromkeys("abcd", 2.0)), target=0.001)
    assert len(harm.asked) == 1 + 6


def test_the_next_blocks_are_measured_where_the_first_do_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "BLOCKS_TRIED", 2)
    harm = Harm({"d": 0.02, "a": 0.0001})
    assert search(harm, costs_of(dict.fromkeys("abcd", 2.0)))[0].leave_float == ("d",)


def keep(harm: Harm, costs: Costs, target: float, *, left: tuple[str, ...] = ()) -> tuple[Recipe, CurvePoint]:
    recipe, (point,) = keep_best_integer(
        harm,  # type: ignore[arg-type]  # asked for errors only
        Recipe({}, leave_float=left),
        "abcd",
        costs,
        target=target,
    )
    return recipe, point


def test_from_the_other_side_as_many_stay_integer_as_the_target_allows() -> None:
    harm = Harm({"a": 0.2, "b": 0.001, "c": 0.3, "d": 0.002})
    recipe, point = keep(harm, costs_of(dict.fromkeys("abcd", 2.0)), 0.01)
    assert recipe.leave_float == point.left_float == ("a", "c")
    assert point.error == pytest.approx(0.003)
    assert point.cost_ms == 2.0
    single = [set("abcd") - set(asked) for asked in harm.asked[:4]]
    assert single == [{"a"}, {"b"}, {"c"}, {"d"}]


def test_from_the_other_side_what_saves_most_for_its_harm_stays_integer() -> None:
    harm = Harm(dict.fromkeys("abcd", 0.01))
    recipe, _ = keep(harm, costs_of({"a": 2.0, "b": 9.0, "c": 3.0, "d": 4.0}), 0.021)
    assert recipe.leave_float == ("a", "c")


@pytest.mark.parametrize(("target", "left"), [(1.0, ()), (0.0, ("a", "b", "c", "d"))])
def test_from_the_other_side_all_or_nothing_may_be_integer(target: float, left: tuple[str, ...]) -> None:
    harm = Harm(dict.fromkeys("abcd", 0.01))
    assert keep(harm, costs_of(dict.fromkeys("abcd", 2.0)), target)[0].leave_float == left


def test_from_the_other_side_what_was_float_before_stays_so() -> None:
    harm = Harm({"a": 0.01})
    recipe, point = keep(harm, costs_of(dict.fromkeys("abcd", 2.0)), 0.1, left=("a",))
    assert recipe.leave_float == ("a",)
    assert (point.left_float, point.cost_ms) == ((), 1.0)


def test_a_block_is_what_makes_and_what_reads_a_tensor() -> None:
    model = yolov8_network()
    planner = Planner(model)
    plan = planner.plan()
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    output = {node.name: node.output[0] for node in model.graph.node}
    joined = next(node for node in model.graph.node if node.op_type == "Concat")
    maker = convs[3]
    (first, second, *windows) = blocks_around(planner.index, plan, (output[maker], joined.output[0]), convs)
    assert first == {maker, convs[4]}
    # A Concat of a split and a sum: the Convs behind all of them, and the one that reads it.
    assert second == {convs[2], convs[4], convs[5]}
    integer = [name for name in convs if name not in plan.float_convs]
    assert set().union(*windows) == set(integer)
    assert not any(block & set(plan.float_convs) for block in windows)
    assert max(len(block) for block in windows) == 8


def built_of(model_bytes: bytes, folder: Path, **options: Any) -> tuple[Built, float]:
    """What was built with defaults, and how far its output is from FP32."""
    fp32, target = folder / "model.onnx", folder / "int8.onnx"
    fp32.write_bytes(model_bytes)
    built = build_static(fp32, target, PatchFrames(8), spec_of(), options=StaticOptions(**options), threads=1)
    difference = run(model_bytes, image())[0] - run(target.read_bytes(), image())[0]
    return built, float(np.square(difference).mean())


def test_a_conv_that_ruins_int8_is_found_and_left_float(tmp_path: Path) -> None:
    model, convs = with_a_hot_channel(1)
    data = model.SerializeToString()
    built, mended = built_of(data, tmp_path)
    plain, ruined = built_of(data, tmp_path, mixed_precision=False)
    assert convs[1] in built.left_float
    assert convs[1] not in plain.left_float
    assert mended < ruined / 3
    assert (built.notes, plain.notes) == ((), ())
    assert built.curve[0].left_float == ()
    errors = [point.error for point in built.curve]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) > 1
    left = {name for point in built.curve for name in point.left_float}
    assert left == set(built.left_float) - set(plain.left_float)
    assert plain.curve == ()
