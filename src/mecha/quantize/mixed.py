"""Mixed precision: the fewest milliseconds left float that bring INT8 near enough to FP32."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mecha.graph.index import GraphIndex
from mecha.quantize.built import CurvePoint
from mecha.quantize.plan import Plan
from mecha.quantize.probe import Probe, Recipe

# Only so many blocks are measured in a round: those with the tensors that lose most first, and where none of them
# helps, the next. All rounds together measure so many builds.
BLOCKS_TRIED = 12
BUILDS_TRIED = 96
# Another block must take away this share of the error that is left; less will do where INT8 is far off.
LEAST_GAIN = 0.05
LEAST_GAIN_FAR_OFF = 0.02
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
    error = probe.error(recipe)
    chosen = set(recipe.leave_float)
    curve = [CurvePoint((), error, costs.of(chosen))]
    waiting, upcoming = blocks[:BLOCKS_TRIED], blocks[BLOCKS_TRIED:]
    allowed = costs.allowed(largest_cost)
    left = BUILDS_TRIED
    while error > target:
        far_off = error > FAR_OFF * target and not costs.worth_having
        waiting = [block for block in waiting if block - chosen]
        affordable = [block for block in waiting if far_off or costs.of(chosen | block) <= allowed][:left]
        left -= len(affordable)
        tried = [(probe.error(_with(recipe, chosen | block)), block) for block in affordable]
        least = LEAST_GAIN_FAR_OFF if far_off else LEAST_GAIN
        better = [(found, block) for found, block in tried if found < error * (1 - least)]
        if not better and upcoming and left:
            waiting, upcoming = upcoming[:BLOCKS_TRIED], upcoming[BLOCKS_TRIED:]
            continue
        if not better:
            break
        error, best = max(better, key=lambda item: _worth(error, item[0], costs.of(item[1] - chosen), target))
        curve.append(CurvePoint(tuple(sorted(best - chosen)), error, costs.of(chosen | best)))
        chosen |= best
        waiting = [block for _, block in tried]
    return _with(recipe, chosen), tuple(curve)


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


def _worth(before: float, after: float, cost: float, target: float) -> float:
    """Error taken away in a millisecond; what goes below the target is worth nothing more."""
    return (before - max(after, target)) / cost


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
