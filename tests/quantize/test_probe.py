from dataclasses import replace

import pytest

from mecha.quantize.judge import TailJudge
from mecha.quantize.probe import Probe
from tests.graph.networks import yolov8_network
from tests.quantize.probing import bench_of, images


@pytest.mark.parametrize("threads", [1, 2])
def test_recipes_that_are_measured_side_by_side_have_the_errors_that_each_has_alone(threads: int) -> None:
    model = yolov8_network()
    bench = bench_of(model)
    convs = [name for name in sorted(bench.planner.plan().integer_nodes) if "Conv" in name]
    recipes = [replace(bench.recipe, leave_float=tuple(convs[:count])) for count in range(5)]
    told: list[int] = []
    judge = TailJudge(bench.planner.tail.boundary)
    probe = Probe(model, bench.probe.writer, judge, images(2, start=50), threads=threads, on_probe=told.append)

    together = probe.errors(recipes)

    assert together == [probe.errors([recipe])[0] for recipe in recipes]
    assert [errors.judged for errors in together] == [probe.error(recipe) for recipe in recipes]
    assert told == list(range(1, 16))
