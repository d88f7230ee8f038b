"""What an upstream is asked: once for all who ask the same within seconds, also when it gave no answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from mecha.errors import NetworkError
from mecha.hub.source import RemoteFile, RepoType

Name = tuple[RepoType, str, str, str]
"""Of a file: repo type, repo, revision and path."""

# A fleet asks what "main" is in one instant; the upstream is asked once.
_ASKED_AGAIN_S = 10.0
# No answer at once is one that clients try again after half a second and two.
_FAULT_KEPT_S = 1.0


class NamedLocks:
    """A lock for each name that somebody holds or waits for, and none for the others."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, ...], tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def held(self, *name: str) -> Iterator[None]:
        """Hold the lock of a name."""
        with self._guard:
            lock, users = self._locks.get(name, (threading.Lock(), 0))
            self._locks[name] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = (lock, users - 1)


@dataclass(frozen=True, slots=True)
class _Known:
    said: RemoteFile | NetworkError
    until: float


class Questions:
    """What files are, as an upstream says. Safe to use from several threads.

    Args:
        resolve: asks the upstream.
        now: seconds of a clock that only goes on.
    """

    def __init__(self, resolve: Callable[[Name], RemoteFile], now: Callable[[], float] = time.monotonic) -> None:
        self._resolve, self._now = resolve, now
        self._known: dict[Name, _Known] = {}
        self._silent_until = now()
        self._locks = NamedLocks()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def silent(self) -> bool:
        """Whether the upstream let somebody wait in vain within the last seconds."""
        return self._now() < self._silent_until

    def ask(self, name: Name) -> RemoteFile:
        """Return what the upstream says, or said within seconds.

        Raises:
            NotFoundError: it has no such file.
            NetworkError: it gave no usable answer, to this question or to the same one a moment ago.
        """
        with self._locks.held(*name):
            known = self._known.get(name)
            if known is None or self._now() >= known.until:
                return self._asked(name)
        if isinstance(known.said, NetworkError):
            # Another one each time: several threads raise it.
            raise type(known.said)(str(known.said), hint=known.said.hint) from known.said
        return known.said

    def went_wrong(self, error: NetworkError) -> None:
        """Take word that the upstream gave no usable answer, to whatever question."""
        if timed_out(error):
            self._silent_until = self._now() + _ASKED_AGAIN_S

    def _asked(self, name: Name) -> RemoteFile:
        try:
            remote = self._resolve(name)
        except NetworkError as error:
            self.went_wrong(error)
            self._note(error, _ASKED_AGAIN_S if timed_out(error) else _FAULT_KEPT_S, name)
            raise
        repo_type, repo, _, path = name
        self._note(remote, _ASKED_AGAIN_S, name, (repo_type, repo, remote.commit, path))
        return remote

    def _note(self, said: RemoteFile | NetworkError, kept_s: float, *names: Name) -> None:
        now = self._now()
        with self._guard:
            for name in names:
                self._known.pop(name, None)
                self._known[name] = _Known(said, now + kept_s)
            # They lie in the order in which they came.
            while (oldest := next(iter(self._known))) not in names and self._known[oldest].until <= now:
                del self._known[oldest]


def timed_out(error: BaseException) -> bool:
    """Tell whether a server was silent for too long, and nothing else was wrong."""
    return any(isinstance(cause, httpx2.TimeoutException) for cause in causes(error))


def causes(error: BaseException) -> tuple[BaseException, ...]:
    """Return an error and those that it came from."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return tuple(found)
