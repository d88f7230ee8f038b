"""The daemon in numbers, for Prometheus."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mecha import __version__
from mecha.daemon.state import MODEL_STATES
from mecha.project import cache_dir, cache_quota_bytes
from mecha.runtime.power import SYS, heat
from mecha.runtime.surroundings import STATES
from mecha.store.cached import tree_bytes

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon
    from mecha.daemon.detect_api import DetectCounts
    from mecha.daemon.events import Subscription

BUCKETS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
_NODE_STATES = ("waiting", *STATES)
_CACHE_EVERY_S = 30.0
_DOWNLOAD = "download"


class Metrics:
    """Counts what happens, from its making on, and reads the rest when it is asked.

    Args:
        detecting: what became of pictures that were sent.
        sys_root: where Linux tells of temperatures.
    """

    def __init__(self, daemon: "Daemon", detecting: "DetectCounts | None" = None, *, sys_root: Path = SYS) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counted = _Counted(daemon, self._registry)
        self._registry.register(_Now(daemon, detecting, sys_root))

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return everything, and its Content-Type: in the format that an Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Counted:
    """What only events tell."""

    def __init__(self, daemon: "Daemon", registry: CollectorRegistry) -> None:
        self._state = daemon.state
        self._inferences = Histogram(
            "mecha_inference_seconds",
            "Time that a frame took in a node.",
            ("node", "model", "precision"),
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._frames = Counter(
            "mecha_node_frames", "Frames that a node worked on, or published.", ("node",), registry=registry
        )
        self._dropped = Counter(
            "mecha_node_dropped_frames", "Frames that never reached a node.", ("node",), registry=registry
        )
        self._pulled = Counter("mecha_pull_bytes", "Bytes that pulls brought.", ("model",), registry=registry)
        self._models: dict[str, str] = {}
        self._before: dict[tuple[str, str], int] = {}
        # Made last: events come at once.
        self._subscription: Subscription | None = None
        self._subscription = daemon.events.subscribe(on_put=self._take)

    def _take(self) -> None:
        # In the thread that publishes, one event after the other.
        if self._subscription is None:
            return
        for event in self._subscription.take():
            self._count(event.data)

    def _count(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind == "inference":
            model = self._model_of(event["node"])
            self._inferences.labels(event["node"], model, event["precision"]).observe(event["ms"] / 1e3)
        elif kind == "stats":
            for key, counter in (("frames", self._frames), ("dropped", self._dropped)):
                counter.labels(event["node"]).inc(self._more(event["node"], key, event[key], from_zero=True))
        elif kind == "state" and event["state"] == "starting":
            # The figures of a new process begin at 0.
            self._before |= {(event["node"], key): 0 for key in ("frames", "dropped")}
        elif kind == "model":
            self._models.clear()
            self._pull(event)

    def _pull(self, event: Mapping[str, Any]) -> None:
        name = event["name"]
        if event["stage"] == _DOWNLOAD:
            # What was there already when a download goes on is not brought again.
            self._pulled.labels(name).inc(self._more(name, _DOWNLOAD, event["completed"], from_zero=False))
        else:
            self._before.pop((name, _DOWNLOAD), None)

    def _more(self, name: str, key: str, value: int, *, from_zero: bool) -> int:
        """Return by how much a figure has grown; one that is smaller than before has begun again."""
        before = self._before.get((name, key), 0 if from_zero else value)
        self._before[name, key] = value
        return value - before if value >= before else value if from_zero else 0

    def _model_of(self, node: str) -> str:
        if node not in self._models:
            wanted = {name: model.name for model in self._state.models() for name in model.wanted_by}
            self._models = wanted | {node: wanted.get(node, "")}
        return self._models[node]


class _Now(Collector):
    """What can be read at any time."""

    def __init__(self, daemon: "Daemon", detecting: "DetectCounts | None", sys_root: Path) -> None:
        self._daemon = daemon
        self._detecting = detecting
        self._sys_root = sys_root
        self._cache = _Kept(lambda: float(tree_bytes(cache_dir(daemon.environ))), _CACHE_EVERY_S)

    def describe(self) -> Iterable[Metric]:
        """Give nothing: what there is depends on the device."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give all."""
        yield InfoMetricFamily("mecha", "This daemon.", {"version": __version__})
        yield from self._faults()
        yield from self._of_models()
        yield from self._of_nodes()
        yield from self._of_cache()
        yield from self._of_device()
        if self._detecting is not None:
            yield from _of_pictures(self._detecting)

    def _faults(self) -> Iterator[Metric]:
        state = self._daemon.state
        yield _gauge("mecha_ready", "Every model that is needed can be used, and every node works.",
                     self._daemon.ready.ok)  # fmt: skip
        yield _gauge("mecha_catalog_fault", "A file has a fault: catalog, lock, settings or config.",
                     bool(state.catalog_fault))  # fmt: skip
        yield _gauge("mecha_mirror_fault", "The Hub, or its mirror, could not be reached.", bool(state.mirror_fault))

    def _of_models(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "mecha_model_state", "1 for the state that a model is in.", labels=("model", "state")
        )
        tries = GaugeMetricFamily("mecha_model_failed_tries", "Tries that failed in a row.", labels=("model",))
        for model in self._daemon.state.models():
            for state in MODEL_STATES:
                states.add_metric((model.name, state), float(state == model.state))
            tries.add_metric((model.name,), model.tries)
        yield from (states, tries)

    def _of_nodes(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("mecha_node_state", "1 for the state that a node is in.", labels=("node", "state"))
        restarts = CounterMetricFamily(
            "mecha_node_restarts", "Processes that came after another one.", labels=("node",)
        )
        swaps = CounterMetricFamily("mecha_node_swaps", "Times that another precision, model or option came to run.",
                                    labels=("node",))  # fmt: skip
        memory = GaugeMetricFamily("mecha_node_memory_bytes", "Resident memory.", labels=("node",))
        stale = GaugeMetricFamily("mecha_node_stale", "What it gives is made of old frames.", labels=("node",))
        rate = GaugeMetricFamily("mecha_node_frames_per_second", "Of its first input and output.",
                                 labels=("node", "direction"))  # fmt: skip
        for node in self._daemon.state.nodes():
            for state in _NODE_STATES:
                states.add_metric((node.name, state), float(state == node.state))
            restarts.add_metric((node.name,), node.restarts)
            swaps.add_metric((node.name,), node.swaps)
            stats = node.stats or {}
            if stats.get("rss_mb") is not None:
                memory.add_metric((node.name,), stats["rss_mb"] * 1e6)
            if "stale" in stats:
                stale.add_metric((node.name,), float(stats["stale"]))
            for direction in ("in", "out"):
                if stats.get(f"fps_{direction}") is not None:
                    rate.add_metric((node.name, direction), stats[f"fps_{direction}"])
        yield from (states, restarts, swaps, memory, stale, rate)

    def _of_cache(self) -> Iterator[Metric]:
        yield _gauge("mecha_cache_bytes", "What the cache of the user takes.", self._cache.value())
        quota_bytes = cache_quota_bytes(self._daemon.project.settings, self._daemon.environ)
        if quota_bytes is not None:
            yield _gauge("mecha_cache_quota_bytes", "What the cache of the user may take.", quota_bytes)

    def _of_device(self) -> Iterator[Metric]:
        told = heat(self._sys_root)
        if told.temperature_c is not None:
            warm = GaugeMetricFamily("mecha_temperature_celsius", "Of the part that is nearest to being too hot.",
                                     labels=("part",))  # fmt: skip
            warm.add_metric((told.part,), told.temperature_c)
            yield warm
        if told.throttled is not None:
            yield _gauge("mecha_throttled", "The device is slowed down.", bool(told.throttled))
        if told.throttle_count is not None:
            slowed = CounterMetricFamily("mecha_throttle_events", "Times that the CPU was slowed down for its heat.")
            slowed.add_metric((), told.throttle_count)
            yield slowed


def _of_pictures(counts: "DetectCounts") -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "mecha_detect_requests", "Pictures that were sent, by the answer.", labels=("status",)
    )
    for status, count in sorted(counts.by_status.items()):
        answers.add_metric((str(status),), count)
    yield answers
    yield _gauge("mecha_detect_waiting", "Pictures that wait, or are worked on.", counts.waiting)
    yield _gauge("mecha_detect_models_loaded", "Models that are loaded for pictures.", counts.loaded)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


class _Kept:
    """A figure that is dear to find out, and good for a while."""

    def __init__(self, find: Callable[[], float], for_s: float) -> None:
        self._find = find
        self._for_s = for_s
        self._lock = threading.Lock()
        self._known: tuple[float, float] | None = None

    def value(self) -> float:
        with self._lock:
            now_s = time.monotonic()
            if self._known is None or now_s - self._known[0] > self._for_s:
                self._known = (now_s, self._find())
            return self._known[1]
