import numpy as np
import pytest

from mecha.quantize.histogram import Counter
from mecha.quantize.probe import Recipe
from mecha.quantize.range_choice import METHODS, TENSORS_TRIED, WHOLE_METHODS, choose_method, choose_single, lost_share
from mecha.quantize.ranges import Range, Scheme, activation_step
from tests.graph.networks import yolov8_network
from tests.quantize.probing import bench_of

TENSORS = ("x", "y", "z")
HIGH = {method: float(number) for number, method in enumerate(METHODS, start=1)}


def range_by(_: str, method: str) -> Range:
    return Range(0.0, HIGH[method])


class Wanted:
    """Stands for a probe: the error is how far each range is from the one its tensor needs, and what always is."""

    def __init__(self, **methods: str) -> None:
        self.methods = methods
        self.always = 0.001
        self.asked = 0

    def error(self, recipe: Recipe) -> float:
        self.asked += 1
        return self.always + sum(abs(recipe.ranges[name].high - HIGH[wanted]) for name, wanted in self.methods.items())


FIRST = Recipe({name: range_by(name, METHODS[0]) for name in TENSORS})


@pytest.mark.parametrize("best", [METHODS[0], *WHOLE_METHODS])
def test_the_method_with_the_least_error_is_taken_for_all_tensors(best: str) -> None:
    probe = Wanted(**dict.fromkeys(TENSORS, best))
    found, gains = choose_method(probe, FIRST, range_by, TENSORS)  # type: ignore[arg-type]  # asked for errors only
    assert found.ranges == {name: range_by(name, best) for name in TENSORS}
    assert [(gain.technique, gain.kept) for gain in gains] == [(f"range {one}", one == best) for one in WHOLE_METHODS]
    assert probe.asked == 1 + len(WHOLE_METHODS)


def test_single_tensors_get_a_method_of_their_own() -> None:
    wanted = {"x": "mae", "y": WHOLE_METHODS[-1], "z": METHODS[0]}
    found, gain = choose_single(Wanted(**wanted), FIRST, range_by, TENSORS)  # type: ignore[arg-type]  # asked for errors only
    assert found.ranges == {name: range_by(name, method) for name, method in wanted.items()}
    assert (gain.technique, gain.kept) == ("range of single tensors", True)


def test_no_more_tensors_are_tried_than_lose_most() -> None:
    worst = tuple(f"t{number}" for number in range(TENSORS_TRIED + 3))
    recipe = Recipe({name: range_by(name, METHODS[0]) for name in worst})
    probe = Wanted(**dict.fromkeys(worst, "entropy"))
    found, _ = choose_single(probe, recipe, range_by, worst)  # type: ignore[arg-type]  # asked for errors only
    assert found.ranges[worst[TENSORS_TRIED - 1]] == range_by("", "entropy")
    assert found.ranges[worst[TENSORS_TRIED]] != range_by("", "entropy")


def test_what_gains_next_to_nothing_changes_nothing() -> None:
    probe = Wanted()
    found, gains = choose_method(probe, FIRST, range_by, TENSORS)  # type: ignore[arg-type]  # asked for errors only
    single, gain = choose_single(probe, found, range_by, TENSORS)  # type: ignore[arg-type]  # asked for errors only
    assert single.ranges == FIRST.ranges
    assert not any(one.kept for one in (*gains, gain))


def test_the_chosen_method_of_a_network_is_never_worse_than_the_first() -> None:
    bench = bench_of(yolov8_network(seed=5))
    found, gains = choose_method(bench.probe, bench.recipe, bench.range_by, bench.observed.tensors)
    first = bench.probe.error(bench.recipe)
    assert [gain.before for gain in gains] == pytest.approx([first] * len(WHOLE_METHODS))
    kept = [gain.after for gain in gains if gain.kept]
    assert len(kept) <= 1
    assert all(after < first for after in kept)
    assert bench.probe.error(found) == pytest.approx(kept[0] if kept else first)


@pytest.mark.parametrize("scheme", ["uniform", "symmetric", "power_of_two"])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.5), (0.0, 3.0), (-2.0, 0.0), (-9.0, 9.0)])
def test_the_share_that_is_lost_is_that_of_storing_each_value(scheme: Scheme, low: float, high: float) -> None:
    rng = np.random.default_rng(12)
    values = rng.normal(0.3, 1.0, 40_000).astype(np.float32)
    counter = Counter(float(values.min()), float(values.max()))
    counter.add(values)
    step = activation_step(Range(low, high), dtype="uint8", scheme=scheme)
    integers = np.clip(np.rint(values / step.scale) + step.zero_point, 0, 255)
    stored = (integers - step.zero_point) * step.scale
    wanted = float(np.square(stored - values).mean() / values.var())
    assert lost_share(counter.histogram(), Range(low, high), scheme=scheme) == pytest.approx(wanted, rel=0.05)


def test_a_tensor_of_one_value_loses_nothing() -> None:
    counter = Counter(2.0, 2.0)
    counter.add(np.full(10, 2.0, dtype=np.float32))
    assert lost_share(counter.histogram(), Range(0.0, 2.0), scheme="uniform") == 0.0
