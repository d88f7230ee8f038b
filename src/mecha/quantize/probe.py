"""Runs recipes, and says how far each is from FP32: the measure by which a build is chosen."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.graph.cut import cut_at
from mecha.quantize.judge import Judge, Outputs, TailJudge
from mecha.quantize.parameters import ConvParameters
from mecha.quantize.plan import Plan, Planner
from mecha.quantize.qdq import Storage, write_pairs
from mecha.quantize.ranges import Range

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """All that decides about an INT8 file, besides the model and the form of its integers.

    Attributes:
        ranges: by root tensor of the plan with nothing left float besides.
        parameters: by Conv, what takes the place of its weights and bias.
        leave_float: names of Convs that stay float with their activations, besides those that always do.
    """

    ranges: Mapping[str, Range]
    parameters: Mapping[str, ConvParameters] = field(default_factory=dict)
    leave_float: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """Writes recipes as models.

    Attributes:
        planner: of a model that has the Convs and tensors of every model that is written.
        plan_of: what becomes integer with these Convs left float.
    """

    planner: Planner
    plan_of: Callable[[tuple[str, ...]], Plan]
    storage: Storage

    def write(self, model: "ModelProto", recipe: Recipe) -> "ModelProto":
        """Return the INT8 model of a recipe.

        A Conv that is left float keeps its rounded weights, stored as integers, where the recipe has some: they are as
        good as its own, and a quarter of the size.
        """
        return write_pairs(model, self.plan_of(recipe.leave_float), recipe.ranges, self.storage, recipe.parameters)


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a recipe is from FP32.

    Attributes:
        judged: as the judge defines it.
        everywhere: noise over signal at the tensors the judge reads, see `TailJudge`.
    """

    judged: float
    everywhere: float

    @property
    def both(self) -> float:
        """Their geometric mean.

        With one block float or integer, what few frames show of objects changes by chance as much as by that block. Of
        twenty blocks of yolov8n and of yolo11n, four built-in scenes ranked them by objects as 20 photos did with a
        correlation of -0.2 and 0.7, by noise everywhere with 0.3 and 0.0, and a video's frames with 0.0 and 0.3, 0.8
        and 0.4.
        """
        return math.sqrt(self.judged * self.everywhere)


class Probe:
    """FP32's outputs for a few frames, and how far a recipe's are from them.

    Args:
        model: FP32, of one input size.
        judge: compares the outputs; the model is cut at its tensors.
        inputs: input tensors (1, 3, height, width).
        threads: that run at a time, a frame or a recipe each.
        on_probe: called with the number of recipes tried so far, by one thread at a time.
    """

    def __init__(
        self,
        model: "ModelProto",
        writer: Writer,
        judge: Judge,
        inputs: Sequence[NDArray[np.float32]],
        *,
        threads: int,
        on_probe: Callable[[int], None],
    ) -> None:
        self.body = cut_at(model, judge.tensors)
        self.writer = writer
        self._inputs = inputs
        self._threads = threads
        self._on_probe = on_probe
        self._tried = 0
        self._telling = threading.Lock()
        expected = self._run(self.body, threads)
        self._judged = judge.against(expected)
        self._everywhere = TailJudge(judge.tensors).against(expected)

    def error(self, recipe: Recipe) -> float:
        """Return the error of a recipe, as the judge defines it."""
        return self._judged(self._seen(recipe))

    def errors(self, recipes: Sequence[Recipe]) -> list[Errors]:
        """Return the errors of each recipe by two measures; several are run side by side."""
        if len(recipes) == 1:
            return [self._errors(self._seen(recipes[0]))]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(lambda recipe: self._errors(self._seen(recipe, threads=1)), recipes))

    def _errors(self, seen: Sequence[Outputs]) -> Errors:
        return Errors(self._judged(seen), self._everywhere(seen))

    def _seen(self, recipe: Recipe, threads: int | None = None) -> list[Outputs]:
        seen = self._run(self.writer.write(self.body, recipe), threads or self._threads)
        with self._telling:
            self._tried += 1
            self._on_probe(self._tried)
        return seen

    def _run(self, model: "ModelProto", threads: int) -> list[Outputs]:
        # Threads that take a frame each wait for one another less than those that share one.
        session = Session(model.SerializeToString(), threads=1, where="INT8 model")
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(session.run, self._inputs))
