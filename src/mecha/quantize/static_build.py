"""The course of a static build: calibrate, round, choose ranges, leave float what must be, correct biases, write.

Each step is kept only where it brings INT8 nearer to FP32, as a judge says, on frames that it did not learn from.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mecha.errors import ConfigError, QuantizationError
from mecha.graph.cpu import CpuFeatures, cpu_features
from mecha.progress import Progress
from mecha.quantize.bias import corrected
from mecha.quantize.built import Built, CurvePoint, Gain
from mecha.quantize.calibrate import CalibrationCache, Inputs, Observed, Tensor, observe, range_of
from mecha.quantize.equalization import equalizing, find_pairs, with_initializers
from mecha.quantize.fusion import float_convs, requantized_convs
from mecha.quantize.judge import Judge
from mecha.quantize.mixed import FAR_OFF, Costs, blocks_around, keep_best_integer, leave_worst_float
from mecha.quantize.node_latency import conv_times
from mecha.quantize.observe import frames_apart
from mecha.quantize.options import StaticOptions, Target
from mecha.quantize.plan import Plan, Planner
from mecha.quantize.probe import Probe, Recipe, Writer
from mecha.quantize.qdq import Storage
from mecha.quantize.range_choice import FIRST_METHOD, choose_method, choose_single, lost_share
from mecha.quantize.ranges import RANGE_METHODS, SCHEMES, Range, Scheme
from mecha.quantize.reconstruction import nearest_rounded, reconstructed
from mecha.words import alternatives

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 13  # the first whose DequantizeLinear takes a scale for each channel
_UNIT = Range(0.0, 1.0)
# SiLU(-6) is -0.015, and what is below comes closer to zero still. Convs reach -100 there, and the integers spent on it
# are missing above: cutting it off halved the error at yolov8n's head.
_SILU_FLOOR = -6.0
# Kept in memory as input tensors: every other one judges, the others are learned from. Frames that show most are no
# better judges: builds that they praised lost weak objects.
_FRAMES_KEPT = 16
_JUDGES_APART = 2
_LATENCY_RUNS = 4
_NEAR_ENOUGH = 0.25


@dataclass(frozen=True, slots=True)
class CalibrationSource:
    """The input tensors of calibration.

    Attributes:
        inputs: input tensors (1, channels, height, width) float32, the same at each call.
        count: how many.
        key: of what calibration sees, from the sha256 of the model and the names of the tensors looked at.
    """

    inputs: Inputs
    count: int
    key: Callable[[str, Sequence[str]], str]

    def spread(self, most: int) -> list[Tensor]:
        """Return copies of at most so many, spread over all of them."""
        apart = max(self.count // most, 1)
        return [tensor.copy() for at, tensor in enumerate(self.inputs()) if at % apart == 0][:most]


class StaticBuild:
    """One static build of one model.

    Args:
        model: FP32, opset 13 or later; its inputs, outputs and metadata are those of the file.
        fixed: the same of one input size.
        source: what it is calibrated on.
        judge: of the fixed model's outputs.
        where: the model's name in messages.
        progress: as `build_static` says.
        threads: of all sessions.
        cache: of what calibration saw.
    """

    def __init__(
        self,
        model: "ModelProto",
        fixed: "ModelProto",
        source: CalibrationSource,
        judge: Judge,
        options: StaticOptions,
        *,
        where: str,
        progress: Progress,
        threads: int,
        cache: CalibrationCache | None = None,
    ) -> None:
        if options.range not in RANGE_METHODS:
            raise ConfigError(f'range: got "{options.range}"; expected {alternatives(RANGE_METHODS)}')
        if options.scheme not in SCHEMES:
            raise ConfigError(f'scheme: got "{options.scheme}"; expected {alternatives(SCHEMES)}')
        self._model, self._fixed = model, fixed
        self._source = source
        self._judge = judge
        self._options = options
        self._target = judge.near_enough(options.max_accuracy_drop)
        self._progress = progress
        self._threads = threads
        self._cache = cache
        self._gains: list[Gain] = []
        self._planner = Planner(model)
        self._writer = Writer(self._planner, self._plan, storage_for(cpu_features(), options.scheme, options.target))
        self._base = self._plan(())
        if not self._base.integer_nodes:
            raise QuantizationError(
                f"{where}: got no Conv between the first one and the decode tail; expected at least one to quantize"
            )
        kept = source.spread(_FRAMES_KEPT)
        self._judged = kept[::_JUDGES_APART]
        self._learned = [tensor for at, tensor in enumerate(kept) if at % _JUDGES_APART] or kept

    def run(self) -> tuple[bytes, Built]:
        """Return the file and what is to be said of it.

        Raises:
            QuantizationError: a tensor is not finite, there is no frame, or the result does not load.
        """
        options = self._options
        if options.equalization:
            self._equalize()
        observed = self._observe(self._fixed, histograms=True)
        first = FIRST_METHOD if options.range == "auto" else options.range
        recipe = Recipe(self._ranges(observed, first))
        probe = self._probe(self._fixed)
        if options.rounding:
            recipe = self._round(probe, recipe)

        def range_by(name: str, method: str) -> Range:
            return self._range(observed, name, method)

        worst = self._worst(observed, recipe)
        curve: tuple[CurvePoint, ...] = ()
        if options.mixed_precision:
            recipe, curve = self._mix(probe, recipe, worst)
        error = probe.error(recipe)
        if options.range == "auto" and error > FAR_OFF * self._target:
            recipe, gains = choose_method(probe, recipe, range_by, observed.tensors)
            recipe, gain = choose_single(probe, recipe, range_by, worst)
            self._gains += (*gains, gain)
        # Beyond that there is nothing to gain that the few frames could tell from chance.
        if options.bias_correction and error > _NEAR_ENOUGH * self._target:
            recipe = self._correct(probe, recipe)
        written = self._writer.write(self._model, recipe).SerializeToString()
        built = Built(
            "static_int8",
            self._plan(recipe.leave_float).float_convs,
            notes=self._notes(written),
            gains=tuple(self._gains),
            curve=curve,
        )
        return written, built

    def _plan(self, leave_float: tuple[str, ...]) -> Plan:
        options = self._options
        return self._planner.plan(
            exclude_nodes=options.exclude_nodes,
            truncate=options.truncate,
            leave_float=(*options.leave_float, *leave_float),
            absorb=options.scheme == "uniform",
        )

    def _probe(self, fixed: "ModelProto") -> Probe:
        return Probe(
            fixed,
            self._writer,
            self._judge,
            self._judged,
            threads=self._threads,
            on_probe=lambda tried: self._progress("search", tried, None),
        )

    def _observe(self, fixed: "ModelProto", *, histograms: bool) -> Observed:
        count = self._source.count
        done, total = 0, count + (len(range(0, count, frames_apart(count))) if histograms else 0)

        def on_frame() -> None:
            nonlocal done
            done += 1
            self._progress("quantize", done, total)

        tensors = self._base.observed
        sha256 = hashlib.sha256(fixed.SerializeToString(deterministic=True)).hexdigest()
        return observe(
            fixed,
            tensors,
            self._source.inputs,
            histograms=histograms,
            threads=self._threads,
            on_frame=on_frame,
            cache=self._cache,
            key=self._source.key(sha256, tensors),
        )

    def _ranges(self, observed: Observed, method: str) -> Mapping[str, Range]:
        """Return the range of every root tensor of the plan."""
        found = {name: self._range(observed, name, method) for name in observed.tensors}
        return found | dict.fromkeys(self._base.unit, _UNIT)

    def _range(self, observed: Observed, name: str, method: str) -> Range:
        chosen = self._options.tensor_ranges.get(name)
        return range_of(
            observed,
            name,
            method if chosen is None or chosen.method is None else chosen.method,
            percentile=self._options.percentile if chosen is None else chosen.percentile,
            scheme=self._options.scheme,
            z_threshold=self._options.z_threshold,
            floor=_SILU_FLOOR if name in self._base.gated else None,
        )

    def _worst(self, observed: Observed, recipe: Recipe) -> tuple[str, ...]:
        """Return the root tensors, the one that loses most of itself when it is stored as integers first."""
        lost = {
            name: lost_share(observed.histograms[name], recipe.ranges[name], scheme=self._options.scheme)
            for name in observed.tensors
        }
        return tuple(sorted(lost, key=lambda name: -lost[name]))

    def _equalize(self) -> None:
        pairs = find_pairs(self._fixed, self._base.integer_nodes)
        if not pairs:
            return
        arrays = equalizing(self._fixed, pairs, self._learned, threads=self._threads)
        fixed = with_initializers(self._fixed, arrays)
        before, after = (
            self._probe(model).error(Recipe(self._ranges(self._observe(model, histograms=False), FIRST_METHOD)))
            for model in (self._fixed, fixed)
        )
        if self._is_better("equalization", before, after):
            self._model, self._fixed = with_initializers(self._model, arrays), fixed

    def _round(self, probe: Probe, recipe: Recipe) -> Recipe:
        names = [node.name for node in self._fixed.graph.node if node.op_type == "Conv"]
        stored = self._base.integer_nodes.union(self._planner.tail.last_convs)
        convs = [name for name in names if name in stored]
        parameters = reconstructed(
            self._fixed,
            convs,
            lambda: self._learned,
            self._writer.storage,
            threads=self._threads,
            on_conv=lambda done: self._progress("round", done, len(convs)),
        )
        nearest = nearest_rounded(self._fixed, tuple(parameters), self._writer.storage)
        # With all activations float: beside theirs, the error of weights hardly shows.
        alone = replace(recipe, leave_float=tuple(name for name in convs if name in self._base.integer_nodes))
        before, after = (probe.error(replace(alone, parameters=given)) for given in (nearest, parameters))
        kept = self._is_better("weight rounding", before, after)
        return replace(recipe, parameters=parameters if kept else nearest)

    def _mix(self, probe: Probe, recipe: Recipe, worst: Sequence[str]) -> tuple[Recipe, tuple[CurvePoint, ...]]:
        integer_all = self._writer.write(probe.body, replace(recipe, leave_float=()))
        fp32, int8 = (
            conv_times(
                model.SerializeToString(),
                self._judged[:1],
                threads=self._threads,
                runs=_LATENCY_RUNS,
                reference=probe.body,
            )
            for model in (probe.body, integer_all)
        )
        integer = self._base.integer_nodes
        costs = Costs(*({name: ms for name, ms in times.items() if name in integer} for times in (fp32, int8)))
        convs = [node.name for node in probe.body.graph.node if node.op_type == "Conv"]
        blocks = blocks_around(self._planner.index, self._base, worst, convs)
        largest_cost = self._options.largest_cost
        found, curve = leave_worst_float(probe, recipe, blocks, costs, target=self._target, largest_cost=largest_cost)
        if curve[-1].error <= FAR_OFF * self._target or costs.worth_having:
            return found, curve
        kept = [name for name in convs if name in integer]
        return keep_best_integer(probe, recipe, kept, costs, target=self._target)

    def _correct(self, probe: Probe, recipe: Recipe) -> Recipe:
        before = probe.error(recipe)
        recipe, after = corrected(probe, recipe, before, self._learned[::2], threads=self._threads)
        self._gains.append(Gain("bias correction", before, after, kept=after < before))
        return recipe

    def _notes(self, written: bytes) -> tuple[str, ...]:
        activations = self._writer.storage.activations
        if activations != storage_for(cpu_features(), self._options.scheme).activations:
            # Here it would be blamed for what it is not made for.
            return (f"laid out for {self._options.target}; onnxruntime runs it in float on this CPU",)
        return _fusion_notes(written)

    def _is_better(self, technique: str, before: float, after: float) -> bool:
        kept = after < before
        self._gains.append(Gain(technique, before, after, kept=kept))
        return kept


def storage_for(cpu: CpuFeatures, scheme: Scheme, target: Target = "auto") -> Storage:
    """Return the layout of integers that a CPU multiplies fastest without error.

    x86 takes unsigned activations and signed weights (S8S8 was 4 times slower there); without VNNI it adds pairs of
    products in 16 bits, which 8-bit weights overflow. ARM's dot products take two signed operands.

    Args:
        cpu: of this device.
        target: another kind of CPU that the file is for.
    """
    arm = cpu.arch == "arm64" if target == "auto" else target == "arm64"
    saturates = cpu.saturates if target == "auto" else target == "x86_64"
    return Storage(activations="int8" if arm else "uint8", weight_bits=7 if saturates else 8, scheme=scheme)


def _fusion_notes(int8: bytes) -> tuple[str, ...]:
    """What onnxruntime made of the file, where it is not what the plan says."""
    notes = []
    if left := float_convs(int8):
        notes.append(f"onnxruntime runs {len(left)} Convs of the INT8 region in float: {', '.join(left[:5])}")
    if taken := requantized_convs(int8):
        notes.append(f"onnxruntime quantizes {len(taken)} Convs that were left float: {', '.join(taken[:5])}")
    return tuple(notes)
