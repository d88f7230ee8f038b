"""How long each node of a model takes on this device, and which node of the model as exported it stands for.

The time of a node is that of its fastest run. Whatever else the device does only adds time, and to long nodes more
often than to short ones: while other programs ran, medians gave FP32 of yolov8n 3.6 and 4.8 times the time of INT8, the
fastest runs 2.9 and 3.2, and the files themselves 2.3.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mecha.detect.session import CPU_PROVIDER, runtime_errors, session_options
from mecha.errors import QuantizationError
from mecha.graph.index import GraphIndex
from mecha.graph.reading import parse_model, read_bytes
from mecha.quantize.needs import require_onnx
from mecha.quantize.plan import activation_of

if TYPE_CHECKING:
    import onnxruntime
    from onnx import ModelProto, NodeProto

_WARM_UP_RUNS = 2
_EVENT = "_kernel_time"
# What onnxruntime puts after the name of a node, or of the tensor that it makes, when it replaces the node.
_ENDINGS = frozenset("_/ ")
_CONV_KINDS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger", "NhwcFusedConv"})


@dataclass(frozen=True, slots=True)
class _Optimized:
    """One node of the graph that onnxruntime made of a model.

    Attributes:
        ms: milliseconds of the fastest run.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ms: float


def node_times(model: bytes | Path, inputs: Sequence[NDArray[Any]], *, threads: int, runs: int = 8) -> dict[str, float]:
    """Return the milliseconds of each node, by the name it has after onnxruntime's optimizations.

    Args:
        model: an ONNX file or its bytes.
        inputs: at least one input tensor of the model's only input; taken in turns.
        threads: of the session.
        runs: timed runs; those that warm up come besides.

    Raises:
        IntegrityError: the bytes are no ONNX model.
        QuantizationError: onnxruntime cannot run it.
    """
    (nodes,) = _profiled([_read(model)], inputs, threads, runs)
    return {node.name: node.ms for node in nodes}


def owned_times(
    models: Sequence[bytes | Path],
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int,
    reference: "ModelProto",
    runs: int = 8,
) -> tuple[dict[str, float], ...]:
    """Return the milliseconds that each model spends on each node of the FP32 model that they were made from.

    The models run in turns, so that whatever slows the device slows them all. Fusion, layout and quantization leave
    names that begin with those of the reference. What has a name of its own, a change of layout or of precision, counts
    for the node whose result it takes.

    Args:
        models: FP32 or INT8; the other arguments as for `node_times`.
        reference: the FP32 model, its nodes named.
    """
    profiles = _profiled([_read(model) for model in models], inputs, threads, runs)
    return tuple(_times_by_owner(nodes, reference) for nodes in profiles)


def conv_times(
    model: bytes | Path,
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int,
    runs: int = 8,
    reference: "ModelProto | None" = None,
) -> dict[str, float]:
    """Return the milliseconds of each Conv with its activation, by the name of the Conv, in graph order.

    Args:
        model: FP32, or INT8 with pairs of QuantizeLinear and DequantizeLinear; the other arguments as for `node_times`.
        reference: the FP32 model where the names of the Convs are those of another file; `model` itself by default.
    """
    parsed = _read(model)
    known = without_pairs(parsed) if reference is None else reference
    (nodes,) = _profiled([parsed], inputs, threads, runs)
    times = _times_by_owner(nodes, known)
    index = GraphIndex.of(known)
    found = {}
    for node in known.graph.node:
        if node.op_type == "Conv":
            members = (node, *activation_of(index, node))
            found[node.name] = sum(times.get(member.name, 0.0) for member in members)
    return found


def without_pairs(model: "ModelProto") -> "ModelProto":
    """Return a copy in which readers of a DequantizeLinear read what went into its QuantizeLinear; constants stay."""
    import onnx

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    makers = {node.output[0]: node for node in plain.graph.node if node.op_type == "QuantizeLinear"}
    source: dict[str, str] = {}
    kept = []
    for node in plain.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            source[node.output[0]] = makers[node.input[0]].input[0]
        elif node.op_type != "QuantizeLinear":
            kept.append(node)
    del plain.graph.node[:]
    plain.graph.node.extend(kept)
    return plain


def _read(model: bytes | Path) -> "ModelProto":
    require_onnx()
    data, where = (read_bytes(model), str(model)) if isinstance(model, Path) else (model, "model")
    return parse_model(data, where=where)


def _profiled(
    models: "Sequence[ModelProto]", inputs: Sequence[NDArray[Any]], threads: int, runs: int
) -> tuple[tuple[_Optimized, ...], ...]:
    """Run models in turns under onnxruntime's profiler. Nodes must have names: it gives others from place to place."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        places = [Path(folder) / str(number) for number in range(len(models))]
        try:
            sessions = [_profiling(model, place, threads) for model, place in zip(models, places, strict=True)]
            for number in range(_WARM_UP_RUNS + runs):
                for session in sessions:
                    session.run([], {session.get_inputs()[0].name: inputs[number % len(inputs)]})
        except runtime_errors() as error:
            raise QuantizationError(f"onnxruntime cannot run the model: {str(error).splitlines()[0]}") from error
        profiles = [json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")) for session in sessions]
        del session, sessions  # they hold their files
        return tuple(
            _joined(_optimized(place), events, _WARM_UP_RUNS + runs)
            for place, events in zip(places, profiles, strict=True)
        )


def _profiling(model: "ModelProto", place: Path, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = session_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = f"{place}-profile"
    options.optimized_model_filepath = f"{place}.onnx"
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU_PROVIDER])


def _optimized(place: Path) -> "Sequence[NodeProto]":
    import onnx

    return tuple(onnx.load_model(f"{place}.onnx", load_external_data=False).graph.node)


def _joined(nodes: "Sequence[NodeProto]", events: Sequence[Mapping[str, Any]], runs: int) -> tuple[_Optimized, ...]:
    """Give each node of the optimized graph its times."""
    spent: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_EVENT):
            name = event["name"].removesuffix(_EVENT)
            spent.setdefault(name, []).append(event["dur"] / 1e3)
            kinds.setdefault(name, event["args"]["op_name"])
    named = {node.name for node in nodes}
    # A node that an operator was expanded into has no name in the file; both lists are in the order of execution.
    nameless: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if name not in named:
            nameless.setdefault(kind, []).append(name)
    found = []
    for node in nodes:
        waiting = nameless.get(node.op_type, [])
        name = node.name or (waiting.pop(0) if waiting else "")
        if name in spent:
            ms = _per_run(spent.pop(name), runs)
            found.append(_Optimized(name, node.op_type, tuple(node.input), tuple(node.output), ms))
    rest = (_Optimized(name, kinds[name], (), (), _per_run(times, runs)) for name, times in spent.items())
    return (*found, *rest)


def _per_run(times: Sequence[float], runs: int) -> float:
    """The fastest run; a node in a loop has several times a run."""
    each = max(len(times) // runs, 1)
    sums = [sum(times[start : start + each]) for start in range(0, len(times), each)]
    return min(sums[_WARM_UP_RUNS:] or sums)


def _times_by_owner(nodes: Sequence[_Optimized], reference: "ModelProto") -> dict[str, float]:
    owners = _owners(nodes, reference)
    times: dict[str, float] = {}
    for node in nodes:
        if node.name in owners:
            times[owners[node.name]] = times.get(owners[node.name], 0.0) + node.ms
    return times


def _owners(nodes: Sequence[_Optimized], reference: "ModelProto") -> dict[str, str]:
    """Return the node of the reference that each optimized node stands for; none where nothing leads to one."""
    known = {node.name: node.name for node in reference.graph.node}
    for node in reference.graph.node:
        known |= {name: node.name for name in node.output if name and name not in known}
    owners = {node.name: owner for node in nodes if (owner := _named_after(node.name, known))}
    _find_convs(nodes, owners, reference)
    makers = {name: node.name for node in nodes for name in node.outputs if name}
    readers: dict[str, str] = {}
    for node in reversed(nodes):
        readers |= {name: node.name for name in node.inputs if name}
    for node in nodes:
        if node.name not in owners:
            sources = (owners.get(makers.get(name, ""), "") for name in node.inputs)
            _set(owners, node.name, next(filter(None, sources), ""))
    for node in reversed(nodes):
        if node.name not in owners:
            takers = (owners.get(readers.get(name, ""), "") for name in node.outputs)
            _set(owners, node.name, next(filter(None, takers), ""))
    return owners


def _set(owners: dict[str, str], name: str, owner: str) -> None:
    if owner:
        owners[name] = owner


def _named_after(name: str, known: Mapping[str, str]) -> str:
    """Return the owner whose name, or whose tensor's name, is the longest that this name begins with."""
    for length in range(len(name), 0, -1):
        if name[:length] in known and (length == len(name) or name[length] in _ENDINGS or name[length - 1] in _ENDINGS):
            return known[name[:length]]
    return ""


def _find_convs(nodes: Sequence[_Optimized], owners: dict[str, str], reference: "ModelProto") -> None:
    """Give a Conv that was fused with what follows it, and named after that, back to the Conv it was, in place."""
    index = GraphIndex.of(reference)
    by_name = {node.name: node for node in reference.graph.node}
    taken = set(owners.values())
    for node in nodes:
        owner = by_name.get(owners.get(node.name, ""))
        if node.kind not in _CONV_KINDS or owner is None or owner.op_type == "Conv":
            continue
        before = [owner]
        while before and before[0].op_type != "Conv":
            last = before.pop(0)
            sources = (index.producers.get(name) for name in last.input)
            before += [source for source in sources if source is not None and source.name not in taken]
        if before:
            owners[node.name] = before[0].name
            taken.add(before[0].name)
