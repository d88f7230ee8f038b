"""A bus across processes, and across machines where the settings say so. The only module that imports zenoh.

One process of a project hosts the bus: a Zenoh router, at an endpoint in the project's private folder. The others join
it as peers that listen in the same folder; the router tells them of each other, they connect directly, and frames pass
it by. Payloads travel through shared memory where the system lets it have enough. Measured with 1080p frames at 30 per
second between two processes of an otherwise idle machine, copy out of the bus included, while Zenoh still moved
payloads into shared memory by itself (see SharedPool; benchmarks/bus.py measures the whole way):

    direct, shared memory        1.4 ms median, 1.7 ms p95; publisher 7 %, subscriber 4 % of a core, router 0.2 %
    through the router           1.5 ms median, 11 ms p95;  router 3.8 %
    direct, no shared memory     8.3 ms median, 12 ms p95;  publisher 33 %, subscriber 12 %
    through it, no shared memory 11 ms median, 19 ms p95;   router 17 %
    TCP on loopback is within 10 % of Unix sockets in each row.
"""

import json
import time
from collections.abc import Sequence
from threading import Lock
from types import ModuleType
from typing import Any

from mecha.errors import BusyError, NetworkError
from mecha.runtime.bus import Handler, Sample, Use, checked_topic, is_topic
from mecha.runtime.bus.memory import shared_memory_bytes
from mecha.runtime.bus.pool import SharedPool

_JOIN_TIMEOUT_MS = 5000
_READ_OUT_S = 1.0
_EVERY_KEY = "**"
# What begins with "@" is not among the keys that "**" stands for.
_USES = "@mecha"
_WRITES, _READS = "writes", "reads"


class ZenohBus:
    """A session on the bus of a project. Make one by `host` or `join`."""

    def __init__(self, session: Any, zenoh: ModuleType, pool_bytes: int) -> None:  # noqa: ANN401 - a library without types
        self._session = session
        self._zenoh = zenoh
        self._pool = SharedPool(zenoh, pool_bytes)
        self._lock = Lock()
        self._publishers: dict[tuple[str, bool], Any] = {}
        self._begun: set[str] = set()
        self._subscriptions: list[_ZenohSubscription] = []
        self._tokens: dict[Use, Any] = {}
        self._closed = False

    @classmethod
    def host(cls, endpoint: str, *, listen: Sequence[str] = (), connect: Sequence[str] = ()) -> "ZenohBus":
        """Open the bus of a project.

        Args:
            endpoint: where the other processes join, as in "unixsock-stream//run/user/1000/mecha/1a2b/bus.sock".
            listen: further endpoints, for other machines.
            connect: buses of other machines; they are tried again until they answer.

        Raises:
            BusyError: an endpoint is taken.
            NetworkError: an endpoint is none.
        """
        return cls._open("router", [endpoint, *listen], list(connect))

    @classmethod
    def join(cls, endpoint: str, *, listen: str, timeout_ms: int = _JOIN_TIMEOUT_MS) -> "ZenohBus":
        """Join the bus of a project.

        Args:
            endpoint: where it is hosted.
            listen: where other members reach this one; must be this process's own.
            timeout_ms: how long the bus may take to answer.

        Raises:
            NetworkError: no bus answers at the endpoint.
            BusyError: the endpoint to listen at is taken.
        """
        return cls._open("peer", [listen], [endpoint], connect_timeout_ms=timeout_ms)

    @classmethod
    def _open(cls, mode: str, listen: list[str], connect: list[str], connect_timeout_ms: int = -1) -> "ZenohBus":
        import zenoh

        pool_bytes = shared_memory_bytes()
        try:
            config = _config(zenoh, mode, listen, connect, connect_timeout_ms, shared_memory=pool_bytes > 0)
            return cls(zenoh.open(config), zenoh, pool_bytes)
        except zenoh.ZError as error:
            raise _open_error(error, listen, connect) from error

    def publish(self, topic: str, payload: bytes, attachment: bytes = b"", *, droppable: bool = False) -> None:
        """Send a message; see `Bus.publish`."""
        # Shared memory is set up beside the first message, which goes through the socket and is lost there more easily
        # than any other: of a single picture it would be all there is.
        topic = checked_topic(topic)
        first = droppable and topic not in self._begun
        try:
            publisher = self._publisher(topic, droppable=droppable and not first)
            if droppable:
                self._begun.add(topic)
            held = self._pool.holding(payload)
            publisher.put(payload if held is None else held, attachment=attachment or None)
        except self._zenoh.ZError as error:
            if not self._closed:
                raise NetworkError(f"bus: {topic}: cannot publish: {error}") from error

    def subscribe(self, topic: str, handler: Handler) -> "_ZenohSubscription":
        """Give every sample of a topic to `handler`; see `Bus.subscribe`."""
        return self._subscribed(_key_of(checked_topic(topic)), handler)

    def subscribe_all(self, handler: Handler) -> "_ZenohSubscription":
        """Give every sample of every topic to `handler`; see `Bus.subscribe_all`."""
        return self._subscribed(_EVERY_KEY, handler)

    def is_heard(self, topic: str) -> bool:
        """Tell whether somebody subscribes to a topic now."""
        topic = checked_topic(topic)
        try:
            return bool(self._publisher(topic, droppable=False).matching_status.matching)
        except self._zenoh.ZError as error:
            if not self._closed:
                raise NetworkError(f"bus: {topic}: cannot tell who listens: {error}") from error
            return False

    def announce(self, use: Use) -> None:
        """Let `uses` tell of a use; see `Bus.announce`."""
        key = f"{_USES}/{_WRITES if use.writes else _READS}/{use.node}/{use.message}{checked_topic(use.topic)}"
        with self._lock:
            if use not in self._tokens:
                self._tokens[use] = self._session.liveliness().declare_token(key)

    def uses(self, within_s: float = 1.0) -> tuple[Use, ...]:
        """Return what was announced; see `Bus.uses`."""
        found: dict[Use, bool] = {}

        def take(sample: Any) -> None:  # noqa: ANN401 - a library without types
            use = _use_of(str(sample.key_expr))
            if use is not None:
                found[use] = sample.kind == self._zenoh.SampleKind.PUT

        callback = self._zenoh.handlers.Callback(take, indirect=False)
        told = self._session.liveliness().declare_subscriber(f"{_USES}/**", callback, history=True)
        time.sleep(within_s)
        told.undeclare()
        return tuple(sorted(use for use, lasts in found.items() if lasts))

    def _subscribed(self, key: str, handler: Handler) -> "_ZenohSubscription":
        subscription = _ZenohSubscription(handler)
        # In Zenoh's own thread: a queue of its own in front of the handler would grow while Python is kept busy.
        callback = self._zenoh.handlers.Callback(subscription.hand_over, indirect=False)
        subscription.declared = self._session.declare_subscriber(key, callback)
        with self._lock:
            self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """Leave the bus. A session that is not closed keeps the process from ending."""
        with self._lock:
            self._closed = True
            subscriptions, self._subscriptions = self._subscriptions, []
            self._publishers.clear()
            self._tokens.clear()
        for subscription in subscriptions:
            subscription.close()
        self._pool.read_out(_READ_OUT_S)
        if not self._session.is_closed():
            self._session.close()

    def _publisher(self, topic: str, *, droppable: bool) -> Any:  # noqa: ANN401 - a library without types
        with self._lock:
            publisher = self._publishers.get((topic, droppable))
            if publisher is None:
                control = self._zenoh.CongestionControl
                publisher = self._session.declare_publisher(
                    _key_of(topic), congestion_control=control.DROP if droppable else control.BLOCK, express=True
                )
                self._publishers[topic, droppable] = publisher
            return publisher


class _ZenohSubscription:
    def __init__(self, handler: Handler) -> None:
        self.declared: Any = None
        self._handler = handler
        self._closed = False

    def hand_over(self, sample: Any) -> None:  # noqa: ANN401 - a library without types
        topic = f"/{sample.key_expr}"
        if self._closed or not is_topic(topic):
            return
        payload = sample.payload.to_bytes()
        shared = sample.payload.as_shm()
        # Zenoh takes a buffer back from a subscriber that was kept from running for long. What was copied from it after
        # that may be two frames in one.
        if shared is not None and not shared.is_valid():
            return
        attachment = sample.attachment
        self._handler(Sample(topic, payload, attachment.to_bytes() if attachment is not None else b""))

    def close(self) -> None:
        self._closed = True
        if self.declared is not None:
            self.declared.undeclare()
            self.declared = None


def _key_of(topic: str) -> str:
    """Return the Zenoh key of a topic: the same words without the first slash, which Zenoh does not allow."""
    return topic.removeprefix("/")


def _use_of(key: str) -> Use | None:
    """Return what a key of `announce` says, None for one of another program."""
    words = key.split("/", maxsplit=4)
    if len(words) <= 4 or words[1] not in {_WRITES, _READS}:  # noqa: PLR2004 - prefix, role, node, message, topic
        return None
    _, role, node, message, topic = words
    return Use(f"/{topic}", role == _WRITES, node, message)


def _config(
    zenoh: ModuleType,
    mode: str,
    listen: list[str],
    connect: list[str],
    connect_timeout_ms: int,
    *,
    shared_memory: bool,
) -> Any:  # noqa: ANN401 - a library without types
    """Return Zenoh's configuration: nobody is looked for, and nobody hears of us who is not on the bus already."""
    settings: dict[str, object] = {
        "mode": mode,
        "listen/endpoints": listen,
        "listen/exit_on_failure": True,
        "connect/endpoints": connect,
        "connect/exit_on_failure": connect_timeout_ms >= 0,
        "connect/timeout_ms": connect_timeout_ms,
        # Half a second of waiting for neighbours whom nobody calls.
        "scouting/delay": 0,
        "scouting/multicast/enabled": False,
        # Gossip runs over the connections of the bus only; by it peers find each other behind the router.
        "scouting/gossip/enabled": True,
        "transport/shared_memory/enabled": shared_memory,
        # What it moves into shared memory by itself it copies twice; see SharedPool.
        "transport/shared_memory/transport_optimization/enabled": False,
    }
    config = zenoh.Config()
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return config


def _open_error(error: Exception, listen: list[str], connect: list[str]) -> NetworkError | BusyError:
    text = str(error).split(" at /", maxsplit=1)[0].split('msg: "')[-1].splitlines()[0].strip().rstrip(".")
    if "Unable to acquire lock" in text or "Address already in use" in text or "AddrInUse" in text:
        return BusyError(
            f"bus: {', '.join(listen)}: taken by another process",
            hint="Stop the other process, or change bus.listen in configs/common/mecha.toml.",
        )
    if connect and "Unable to connect" in text:
        return NetworkError(
            f"bus: {', '.join(connect)}: nobody answers",
            hint="Is `mecha dev` running in this project?",
        )
    return NetworkError(
        f"bus: {', '.join([*connect, *listen])}: {text[:1].lower()}{text[1:]}",
        hint='An endpoint is written as in "tcp/192.168.1.5:7447"; see bus.listen and bus.connect in '
        "configs/common/mecha.toml.",
    )
