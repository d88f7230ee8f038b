"""What a class must be to be run as a node: told when its program is loaded, before anything of it runs."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from mecha.errors import ConfigError
from mecha.runtime.bus import checked_topic
from mecha.runtime.config import NodeConfig
from mecha.runtime.node import Node
from mecha.words import written

# With what each method is called, besides self.
_METHODS = {
    "__init__": ("context", "config"),
    "setup": (),
    "configure": ("previous",),
    "step": ("message",),
    "close": (),
}
_EXAMPLE = '{"/camera/rgb": FrameMessage}'


def checked_node(node_class: type[Node[Any]], program: Path) -> type[Node[Any]]:
    """Return a class that can be run as a node.

    Raises:
        ConfigError: it cannot, with every fault.
    """
    faults = [
        *_config_faults(node_class),
        *_topic_faults("inputs", node_class.inputs),
        *_topic_faults("outputs", node_class.outputs),
        *_method_faults(node_class),
    ]
    if faults:
        raise ConfigError("\n".join(f"{program}: {node_class.__name__}.{fault}" for fault in faults))
    return node_class


def _config_faults(node_class: type[Node[Any]]) -> list[str]:
    model: Any = node_class.config_model
    if not (isinstance(model, type) and issubclass(model, NodeConfig)):
        return [f"config_model: got {_named(model)}; expected a class that derives from mecha.NodeConfig"]
    # Only types are checked by `Node[AlarmConfig]`; what reads config.json is config_model.
    bases = getattr(node_class, "__orig_bases__", ())
    meant = [one for base in bases for one in get_args(base) if isinstance(one, type) and issubclass(one, NodeConfig)]
    if meant and not issubclass(model, meant[0]):
        return [
            f"config_model: got {model.__name__}; "
            f"expected {meant[0].__name__}, as the class derives from Node[{meant[0].__name__}]"
        ]
    return []


def _topic_faults(which: str, topics: Any) -> list[str]:  # noqa: ANN401 - whatever somebody wrote there
    if not isinstance(topics, Mapping):
        return [f"{which}: got {_named(topics)}; expected topics and the types of their messages, as in {_EXAMPLE}"]
    faults = []
    for topic, kind in topics.items():
        try:
            checked_topic(topic if isinstance(topic, str) else written(topic))
        except ConfigError as error:
            faults.append(f"{which}: {error}")
        needed = ("newest_wins", "encode", "decode")
        missing = [name for name in needed if not hasattr(kind, name)] if isinstance(kind, type) else list(needed)
        if missing:
            faults.append(
                f"{which}: {topic}: got {_named(kind)}; "
                f"expected a type of messages, as FrameMessage, with {', '.join(missing)}"
            )
    return faults


def _method_faults(node_class: type[Node[Any]]) -> list[str]:
    faults = []
    if node_class.inputs and node_class.step is Node.step:
        faults.append("step: got none; expected step(self, message), as the node has inputs")
    for name, arguments in _METHODS.items():
        method = getattr(node_class, name)
        expected = f"{name}({', '.join(('self', *arguments))})"
        if not inspect.isfunction(method):
            faults.append(f"{name}: got {_named(method)}; expected a method {expected}")
        elif inspect.iscoroutinefunction(method):
            faults.append(f"{name}: got an async method; expected {expected} without async")
        elif not _takes(method, len(arguments) + 1):
            faults.append(f"{name}: got {name}({', '.join(inspect.signature(method).parameters)}); expected {expected}")
    return faults


def _takes(method: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(method).bind(*range(count))
    except TypeError:
        return False
    return True


def _named(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return written(value) if isinstance(value, str | int | float | list | tuple | Mapping | None) else repr(value)
