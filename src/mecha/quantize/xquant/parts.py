"""Parts of a graph that a configuration names by tensors, operators or types."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.graph.index import GraphIndex, inputs_of
from mecha.positions import KeyPath
from mecha.quantize.xquant.config import ConfigFile
from mecha.words import did_you_mean

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_VIEWER = "A viewer such as Netron shows the names in an ONNX file."
_PATH = ("quantization_parameters",)
# What these tools compute in floats at level 2.
_SENSITIVE_OPS = frozenset({"Softmax", "Sigmoid"})
_PAIRING_OPS = frozenset({"Mul", "Add", "Sub", "Div"})


@dataclass(frozen=True, slots=True)
class Truncation:
    """Where integers end.

    Attributes:
        names: tensors; what follows them is float.
        around: Convs on branches that neither lead to the tensors nor follow them.
        outputs: of the model, that such branches reach.
    """

    names: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Parts:
    """Answers what names of a configuration stand for in one graph.

    Args:
        model: as it will be quantized.
        file: the configuration, for messages.
    """

    def __init__(self, model: "ModelProto", file: ConfigFile) -> None:
        self._model, self._file = model, file
        self._index = GraphIndex.of(model)
        stored = self._index.initializers
        self._inputs = tuple(value.name for value in model.graph.input if value.name not in stored)

    def truncation(self) -> "Truncation":
        """Return where `truncate_var_names` lets integers end.

        As in xquant, the tensors must split the graph into what leads to them and what comes together with that which
        follows them.

        Raises:
            ConfigError: there is no such tensor, or an output has nothing to do with any of them.
        """
        key = (*_PATH, "truncate_var_names")
        names = self._file.config.quantization_parameters.truncate_var_names or ()
        self._check(key, names, self._index.producers, "a tensor that a node of the model makes")
        if not names:
            return Truncation()
        before = self._before(names)
        behind = self._joined(names, before)
        makers = {name: self._index.producers[name].name for name in self._index.outputs}
        loose = [name for name in self._index.outputs if makers[name] not in before | behind]
        if loose:
            raise self._file.error(
                key,
                f"does not split the model: output {loose[0]} is still reached past them, and shares nothing with what "
                "follows them; expected tensors before every output",
                hint=_VIEWER,
            )
        past = self._reached(self._inputs, frozenset(names))
        return Truncation(
            names=tuple(dict.fromkeys(names)),
            around=tuple(
                node.name
                for node in self._model.graph.node
                if node.op_type == "Conv" and node.name not in before and past.issuperset(node.output)
            ),
            outputs=tuple(name for name in self._index.outputs if name in past),
        )

    def ignored(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the nodes that are not to be quantized, and a sentence for each type that the model does not have.

        Raises:
            ConfigError: there is no such node.
        """
        parameters = self._file.config.quantization_parameters
        nodes = self._model.graph.node
        names, types = parameters.ignore_op_names or (), parameters.ignore_op_types or ()
        self._check((*_PATH, "ignore_op_names"), names, [node.name for node in nodes], "a node of the model")
        present = {node.op_type for node in nodes}
        absent = tuple(
            f'ignore_op_types: the model has no "{name}"{did_you_mean(name, present)}'
            for name in types
            if name not in present
        )
        chosen = [node.name for node in nodes if node.name in names or node.op_type in types]
        return tuple(chosen), absent

    def sensitive(self) -> tuple[str, ...]:
        """Return the nodes that are float at level 2: gates, and what joins two computed tensors."""
        return tuple(
            node.name
            for node in self._model.graph.node
            if node.op_type in _SENSITIVE_OPS
            or (node.op_type in _PAIRING_OPS and not any(name in self._index.constants for name in node.input))
        )

    def between(self, at: int) -> tuple["NodeProto", ...]:
        """Return the nodes between the tensors of one custom setting, in graph order.

        Args:
            at: its position; where it names no input tensors, everything before its output tensors counts.

        Raises:
            ConfigError: there is no such tensor, or nothing between them.
        """
        setting = (self._file.config.quantization_parameters.custom_setting or ())[at]
        path = (*_PATH, "custom_setting", at)
        known = {*self._index.producers, *self._inputs, *self._index.initializers}
        self._check((*path, "input_names"), setting.input_names, known, "a tensor of the model")
        self._check((*path, "output_names"), setting.output_names, self._index.producers, "a tensor that a node makes")
        if not setting.output_names:
            raise self._file.error((*path, "output_names"), "missing; expected the tensors at the end of the part")
        ends = frozenset(setting.input_names)
        found: set[str] = set()
        stack = [name for name in setting.output_names if name not in ends]
        seen: set[str] = set()
        while stack:
            name = stack.pop()
            node = self._index.producers.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            found.add(node.name)
            stack.extend(source for source in inputs_of(node) if source not in ends)
        # What merely comes together with the part before its end, and is fed by nothing it names, is not in it.
        if ends - self._index.constants:
            behind = self._nodes_behind(ends)
            found &= behind
        nodes = tuple(node for node in self._model.graph.node if node.name in found)
        if not nodes:
            raise self._file.error(
                (*path, "output_names"), "got tensors that input_names do not lead to; expected a part of the graph"
            )
        return nodes

    def _check(self, path: KeyPath, names: Sequence[str], known: Iterable[str], what: str) -> None:
        for at, name in enumerate(names):
            if name not in known:
                text = f'got "{name}"; expected {what}{did_you_mean(name, known)}'
                raise self._file.error((*path, at), text, hint=_VIEWER)

    def _reached(self, tensors: Iterable[str], without: frozenset[str]) -> set[str]:
        """Return the tensors that depend on some, on ways that do not pass others."""
        reached = set(tensors) - without
        for node in self._model.graph.node:
            if reached.intersection(inputs_of(node)) and node.op_type != "Shape":
                reached.update(name for name in node.output if name and name not in without)
        return reached

    def _before(self, tensors: Iterable[str]) -> set[str]:
        """Return the names of the nodes that tensors depend on."""
        found: set[str] = set()
        stack = list(tensors)
        while stack:
            node = self._index.producers.get(stack.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                stack.extend(inputs_of(node))
        return found

    def _joined(self, tensors: Iterable[str], without: set[str]) -> set[str]:
        """Return the names of the nodes that follow tensors, and of those that follow from or lead to these."""
        found: set[str] = set()
        stack = [node for name in tensors for node in self._index.consumers.get(name, ())]
        while stack:
            node = stack.pop()
            if node.name in found or node.name in without:
                continue
            found.add(node.name)
            stack += [reader for name in node.output for reader in self._index.consumers.get(name, ())]
            stack += [self._index.producers[name] for name in inputs_of(node) if name in self._index.producers]
        return found

    def _nodes_behind(self, tensors: Iterable[str]) -> set[str]:
        reached = set(tensors)
        found: set[str] = set()
        for node in self._model.graph.node:
            if reached.intersection(inputs_of(node)):
                found.add(node.name)
                reached.update(node.output)
        return found
