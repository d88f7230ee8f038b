"""Mixed precision: the fewest milliseconds left float that bring INT8 near enough to FP32."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mecha.graph.index import GraphIndex
from mecha.quantize.built import CurvePoint
from mecha.quantize.plan import Plan
from mecha.quantize.probe import Errors, Probe, Recipe

# Only so many blocks are measured at first: those with the tensors that lose most, and where none of them helps, the
# next. All steps together measure so many builds.
BLOCKS_TRIED = 12
BUILDS_TRIED = 48
# Another block must take away this share of the error that is left; less will do where INT8 is far off.
LEAST_GAIN = 0.05
LEAST_GAIN_FAR_OFF = 0.02
# A block must bring objects nearer, unless they are within so many times of what they should be: below that, what a few
# frames say of one block is chance. With 64 photos a lucky start kept every Conv of yolo11n integer: 0.02 of F1 less.
CHANCE = 3.0
# INT8 that is so many times farther from FP32 than it should be may cost what it must, where little is saved.
FAR_OFF = 5.0
# Where INT8 saves next to nothing, what stays float may still take this share of its time: it should at least be right.
LEAST_ALLOWED = 0.05
# INT8 that saves this share of its own time, and is 1.5 times as fast, is not given up for accuracy unasked: a build
# that turns out wrong is made again at any cost.
WORTH_HAVING = 0.5
_LARGEST_BLOCK = 8
_WINDOW = 8
_LEAST_COST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class Costs:
    """What a Conv with its activation takes in either precision, milliseconds, by name."""

    fp32_ms: Mapping[str, float]
    int8_ms: Mapping[str, float]

    @property
    def saved_ms(self) -> float:
        """By all Convs together."""
        return max(sum(self.fp32_ms.values()) - sum(self.int8_ms.values()), 0.0)

    @property
    def worth_having(self) -> bool:
        """INT8 is so much faster that accuracy may not cost all of it."""
        return self.saved_ms > WORTH_HAVING * sum(self.int8_ms.values())

    def allowed(self, share: float) -> float:
        """Return the milliseconds that may be spent, for a share of those saved."""
        return max(share * self.saved_ms, LEAST_ALLOWED * sum(self.int8_ms.values()))

    def of(self, convs: Iterable[str]) -> float:
        """Milliseconds that these cost when they are float; never nothing, so that fewer are better."""
        least = _LEAST_COST_SHARE * sum(self.int8_ms.values())
        return sum(max(self.fp32_ms.get(name, 0.0) - self.int8_ms.get(name, 0.0), least) for name in convs)


def leave_worst_float(
    probe: Probe, recipe: Recipe, blocks: Sequence[frozenset[str]], costs: Costs, *, target: float, largest_cost: float
) -> tuple[Recipe, tuple[CurvePoint, ...]]:
    """Leave float one block after the other, the one that takes away most error in a millisecond first.

    Args:
        recipe: what it leaves float already stays so, and counts among what is spent.
        blocks: sets of Convs that are left float together, the most promising first.
        target: error that is near enough.
        largest_cost: share of the time that INT8 saves which may be spent, unless the error is FAR_OFF and INT8 is not
            worth_having.

    Returns:
        The recipe, and a point for each step; the first is the recipe as it came.
    """
    search = _Search(probe, recipe, blocks, costs, target=target, largest_cost=largest_cost)
    curve = [CurvePoint((), search.errors.judged, costs.of(search.chosen))]
    while search.errors.judged > target:
        block = search.step()
        if block is None:
            break
        curve.append(CurvePoint(block, search.errors.judged, costs.of(search.chosen)))
    return _with(recipe, search.chosen), tuple(curve)


class _Search:
    """The course of `leave_worst_float`, whose arguments these are.

    What a block takes away is hardly more once others are float. So it is an upper bound for the steps after the one
    it was measured in, and only the block that looks best by it is measured again (Minoux, "Accelerated greedy
    algorithms for maximizing submodular set functions", 1978).

    Attributes:
        chosen: the Convs that are float.
        errors: with these float.
    """

    def __init__(
        self,
        probe: Probe,
        recipe: Recipe,
        blocks: Sequence[frozenset[str]],
        costs: Costs,
        *,
        target: float,
        largest_cost: float,
    ) -> None:
        self.errors = probe.errors([recipe])[0]
        self.chosen = set(recipe.leave_float)
        self._probe = probe
        self._recipe = recipe
        self._costs = costs
        self._target = target
        self._allowed_ms = costs.allowed(largest_cost)
        self._waiting, self._upcoming = list(blocks[:BLOCKS_TRIED]), list(blocks[BLOCKS_TRIED:])
        self._taken_away: dict[frozenset[str], float] = {}
        self._builds = 0

    def step(self) -> tuple[str, ...] | None:
        """Leave one more block float, and return its Convs that were not so before; None when nothing helps."""
        measured: dict[frozenset[str], Errors] = {}
        while True:
            promising = self._promising()
            block = max(promising, key=self._worth, default=None)
            if block is None and self._upcoming:
                self._waiting += self._upcoming[:BLOCKS_TRIED]
                del self._upcoming[:BLOCKS_TRIED]
            elif block is None:
                return None
            elif block in measured:
                added = tuple(sorted(block - self.chosen))
                self.errors = measured[block]
                self.chosen |= block
                return added
            elif self._builds == BUILDS_TRIED:
                return None
            else:
                fresh = [one for one in promising if one not in self._taken_away]
                measured |= self._measured(fresh[: BUILDS_TRIED - self._builds] or [block])

    def _measured(self, blocks: Sequence[frozenset[str]]) -> dict[frozenset[str], Errors]:
        """Return the errors with each of these blocks float besides what is, and note what each takes away."""
        self._builds += len(blocks)
        found = self._probe.errors([_with(self._recipe, self.chosen | block) for block in blocks])
        worst = max(self.errors.judged, CHANCE * self._target)
        for block, errors in zip(blocks, found, strict=True):
            helps = errors.judged < worst
            self._taken_away[block] = self.errors.both - errors.both if helps else 0.0
        return dict(zip(blocks, found, strict=True))

    def _promising(self) -> list[frozenset[str]]:
        """Return what may be worth its cost, for all that is known; one never measured may be worth anything."""
        far_off = self.errors.judged > FAR_OFF * self._target and not self._costs.worth_having
        least = (LEAST_GAIN_FAR_OFF if far_off else LEAST_GAIN) * self.errors.both
        return [
            block
            for block in self._waiting
            if block - self.chosen
            and self._taken_away.get(block, math.inf) > least
            and (far_off or self._costs.of(self.chosen | block) <= self._allowed_ms)
        ]

    def _worth(self, block: frozenset[str]) -> float:
        """Error taken away in a millisecond."""
        return self._taken_away.get(block, math.inf) / self._costs.of(block - self.chosen)


def keep_best_integer(
    probe: Probe, recipe: Recipe, convs: Sequence[str], costs: Costs, *, target: float
) -> tuple[Recipe, tuple[CurvePoint, ...]]:
    """Begin with every Conv float, and let as many be integer as the target allows, the most harmless first.

    For models whose error has no few blocks to blame: seen from all that is integer, each Conv's harm is hidden by that
    of the others. A Conv's harm is measured with it alone integer; how many may be so together, by halving.

    Args:
        recipe: what it leaves float stays so.
        convs: names of the Convs that may be integer, in graph order.
        target: error that is near enough, whatever it costs.

    Returns:
        The recipe, and its point of the curve.
    """
    free = [name for name in convs if name not in recipe.leave_float]
    harm = {name: probe.error(_with(recipe, frozenset(free) - {name})) for name in free}
    order = sorted(free, key=lambda name: harm[name] / costs.of([name]))
    fewest, most = 0, len(order)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if probe.error(_with(recipe, frozenset(order[middle:]))) <= target:
            fewest = middle
        else:
            most = middle - 1
    left = frozenset(order[fewest:])
    found = _with(recipe, left)
    point = CurvePoint(tuple(sorted(left)), probe.error(found), costs.of(found.leave_float))
    return found, (point,)


def _with(recipe: Recipe, convs: set[str] | frozenset[str]) -> Recipe:
    return replace(recipe, leave_float=tuple(sorted({*recipe.leave_float, *convs})))


def blocks_around(
    index: GraphIndex, plan: Plan, tensors: Sequence[str], convs: Sequence[str]
) -> tuple[frozenset[str], ...]:
    """Return what must be left float so that a tensor need not be stored: the Convs that make and that read it.

    Windows of neighbouring Convs follow: what comes of many small losses has no single tensor to blame.

    Args:
        tensors: root tensors of the plan, the worst first.
        convs: names of all Convs, in graph order.

    Returns:
        Sets of names of Convs that are integer now; each set once, those too large to be left float left out.
    """
    floats = set(plan.float_convs)
    found: dict[frozenset[str], None] = {}
    for tensor in tensors:
        around = frozenset((_makers(index, tensor) | _readers(index, tensor)) - floats)
        if 0 < len(around) <= _LARGEST_BLOCK:
            found.setdefault(around)
    integer = [name for name in convs if name not in floats]
    for start in range(0, len(integer), _WINDOW // 2):
        found.setdefault(frozenset(integer[start : start + _WINDOW]))
    return tuple(found)


def _makers(index: GraphIndex, tensor: str) -> set[str]:
    convs: set[str] = set()
    seen: set[str] = set()
    stack = [tensor]
    while stack:
        name = stack.pop()
        node = index.producers.get(name)
        if node is None or name in seen or name in index.constants:
            continue
        seen.add(name)
        if node.op_type == "Conv":
            convs.add(node.name)
        else:
            stack.extend(node.input)
    return convs


def _readers(index: GraphIndex, tensor: str) -> set[str]:
    convs: set[str] = set()
    seen: set[str] = set()
    stack = [tensor]
    while stack:
        for node in index.consumers.get(stack.pop(), ()):
            if node.op_type == "Conv":
                convs.add(node.name)
            elif node.name not in seen:
                seen.add(node.name)
                stack.extend(node.output)
    return convs
