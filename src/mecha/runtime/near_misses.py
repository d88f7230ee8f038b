"""Topics that were most likely misspelled: read by a node, written by none, and almost the name of one that is."""

from collections.abc import Iterable, Iterator, Mapping

_ALIKE = 0.85
"""One or two letters of a topic; /vision/object/control and /vision/object/detections are 0.77."""


def near_misses(topics: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> Iterator[tuple[str, str]]:
    """Give nodes, each with a sentence about a topic that it waits for in vain.

    What has no near name is not told of: a program in another language may write it.

    Args:
        topics: inputs and outputs by node.
    """
    from difflib import get_close_matches

    written = sorted({topic for _, outputs in topics.values() for topic in outputs})
    for node, (inputs, _) in topics.items():
        for topic in inputs:
            near = [] if topic in written else get_close_matches(topic, written, n=1, cutoff=_ALIKE)
            if near:
                yield node, f"reads {topic}, which no node here writes; did you mean {near[0]}?"
