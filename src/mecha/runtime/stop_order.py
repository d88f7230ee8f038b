"""In which order the nodes of a run are stopped."""

from collections.abc import Iterable, Mapping


def stop_order(topics: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> tuple[tuple[str, ...], ...]:
    """Return nodes in the groups in which they are stopped: each after those it reads from.

    Args:
        topics: inputs and outputs by node. Nodes that read from each other in a circle are stopped together.
    """
    left = dict(topics)
    groups = []
    while left:
        written = {name: set(outputs) for name, (_, outputs) in left.items()}
        free = [
            name
            for name, (inputs, _) in left.items()
            if not any(set(inputs) & outputs for other, outputs in written.items() if other != name)
        ]
        group = tuple(free or left)
        groups.append(group)
        for name in group:
            del left[name]
    return tuple(groups)
