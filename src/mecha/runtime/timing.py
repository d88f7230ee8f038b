"""What a node did and how long it took."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_KEPT = 10_000
"""Five and a half minutes at 30 frames per second; the percentiles of a long run are those of its last part."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed, None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass(frozen=True, slots=True)
class NodeStats:
    """One node in numbers.

    Attributes:
        frames: frames that were processed, or published by a node without inputs.
        dropped: frames that never reached the node's `step`, counted by their sequence numbers.
        restarts: how often the process was started again.
        p50_ms: milliseconds a frame took, None before the first; p95_ms: the same.
        rss_mb: resident memory of the process, 10^6 bytes.
    """

    frames: int = 0
    dropped: int = 0
    restarts: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    rss_mb: float | None = None


class Timings:
    """Milliseconds of the last frames."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._values: deque[float] = deque(maxlen=kept)

    def add(self, ms: float) -> None:
        """Note one frame."""
        self._values.append(ms)

    @property
    def p50_ms(self) -> float | None:
        """The median."""
        return percentile(self._values, 0.5)

    @property
    def p95_ms(self) -> float | None:
        """What 95 of 100 frames do not exceed."""
        return percentile(self._values, 0.95)


class Gaps:
    """Counts frames that are missing from a stream, whoever lost them."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def missed(self, stream: str, seq: int) -> int:
        """Return how many frames are missing between the last one of `stream` and `seq`.

        A number that is not higher than the last one means that the camera was started again.
        """
        last = self._last.get(stream)
        self._last[stream] = seq
        return 0 if last is None or seq <= last else seq - last - 1
