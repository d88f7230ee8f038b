"""What a node did and how long it took."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_KEPT = 10_000
"""Five and a half minutes at 30 frames per second; the percentiles of a long run are those of its last part."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed, None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of a stage: the median, and what 95 of 100 frames do not exceed."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class NodeStats:
    """One node in numbers.

    Attributes:
        frames: frames that were processed, or published by a node without inputs.
        dropped: frames that never reached the node's `step`, counted by their sequence numbers.
        restarts: how often the process was started again; the supervisor counts them.
        state: see `mecha.runtime.surroundings.STATES`; the supervisor knows it.
        p50_ms: milliseconds a frame took, None before the first; p95_ms: the same.
        rss_mb: resident memory of the process, 10^6 bytes.
        fps_in: messages a second that came on its first input, those that newer ones replaced included; None for a node
            without inputs.
        fps_out: messages a second that it published on its first output; None for a node without outputs.
        cpu_percent: of one core.
        precision: of the last inference, None before the first.
        stages: "pre", "session", "post" of the last frames, None where no model tells them.
        stale: what it gives is made of old input, as of a camera that is gone.
        seen: the number of the last frame that is accounted for, by the topic it came on.
        degraded: what it does less than it is asked to, as in "skip 2"; empty when all is well.
    """

    frames: int = 0
    dropped: int = 0
    restarts: int = 0
    state: str = ""
    p50_ms: float | None = None
    p95_ms: float | None = None
    rss_mb: float | None = None
    fps_in: float | None = None
    fps_out: float | None = None
    cpu_percent: float | None = None
    precision: str | None = None
    stages: Mapping[str, Spread] | None = None
    stale: bool = False
    degraded: str = ""
    seen: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> "NodeStats":
        """Return what a "stats" event says."""
        stages = event["stages"]
        return cls(
            **{key: event[key] for key in _PLAIN},
            stages=stages and {name: Spread(spread["p50"], spread["p95"]) for name, spread in stages.items()},
        )

    def to_event(self) -> dict[str, Any]:
        """Return the keys of a "stats" event."""
        stages = None
        if self.stages is not None:
            stages = {
                name: {"p50": round(spread.p50_ms, 3), "p95": round(spread.p95_ms, 3)}
                for name, spread in self.stages.items()
            }
        return {**{key: _rounded(getattr(self, key)) for key in _PLAIN}, "stages": stages}


_PLAIN = (
    "frames",
    "dropped",
    "p50_ms",
    "p95_ms",
    "rss_mb",
    "fps_in",
    "fps_out",
    "cpu_percent",
    "precision",
    "stale",
    "degraded",
    "seen",
)  # fmt: skip


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

    @property
    def spread(self) -> Spread | None:
        """Both, None before the first frame."""
        ordered = sorted(self._values)
        p50_ms, p95_ms = percentile(ordered, 0.5), percentile(ordered, 0.95)
        return None if p50_ms is None or p95_ms is None else Spread(p50_ms, p95_ms)


class Gaps:
    """Counts frames that are missing from a stream, whoever lost them.

    Args:
        seen: the last frame of streams that are known already.
    """

    def __init__(self, seen: Mapping[str, int] | None = None) -> None:
        self._last: dict[str, int] = dict(seen or {})

    def missed(self, stream: str, seq: int) -> int:
        """Return how many frames are missing between the last one of `stream` and `seq`.

        A number that is not higher than the last one means that the camera was started again.
        """
        last = self._last.get(stream)
        self._last[stream] = seq
        return 0 if last is None or seq <= last else seq - last - 1


def _rounded(value: Any) -> Any:  # noqa: ANN401 - what is no fraction stays as it is
    return round(value, 3) if isinstance(value, float) else value
