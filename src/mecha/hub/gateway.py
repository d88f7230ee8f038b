"""A gateway: what its folder lacks is fetched from another Hub, once for all who ask, and kept."""

import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import httpx2

from mecha.errors import MechaError, NetworkError, NotFoundError
from mecha.hub.addresses import shown
from mecha.hub.download import download
from mecha.hub.gateway_store import Entry, GatewayStore, Stored, entry_of
from mecha.hub.huggingface import HuggingFaceSource, checked_endpoint
from mecha.hub.line_faults import line_fault, line_settings
from mecha.hub.login import find_login
from mecha.hub.mirrors import retries_of, timeouts_of, widening_of
from mecha.hub.pace import Retries
from mecha.hub.source import RemoteFile, RepoType
from mecha.project import HubSettings
from mecha.store.faults import require_space
from mecha.store.locks import exclusive

UPSTREAM_FOLDER = ".upstream"
"""In the served folder; a name that starts with a dot is not served itself."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
# A fleet asks what "main" is in one instant; the upstream is asked once.
_ASKED_AGAIN_S = 10.0
_ONE_WRITER_TIMEOUT_S = 24 * 3600.0
_ANSWER_BYTES = 16 << 20
# Clients wait ten seconds for an answer, and try again themselves.
_ANSWER_TIMEOUT_S = 8.0


class Flight:
    """A file on its way from the upstream, watched by any number of clients.

    Attributes:
        size: bytes that have come so far.
        total: of the whole file, None while it is not known.
        restarts: how often what had come was dropped; who has sent some of it must stop.
        whole: where the file is, once it is whole and verified.
        fault: why it will not become whole.
    """

    def __init__(self, partial: Path, total: int | None) -> None:
        self.partial, self.total = partial, total
        self.size, self.restarts = 0, 0
        self.whole: Path | None = None
        self.fault: MechaError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.whole is not None or self.fault is not None

    def may_send(self) -> int:
        """Return how many of the bytes may be sent on: the last one is held back until the digest is known."""
        if self.whole is not None:
            return self.total or 0
        return self.size if self.total is None else min(self.size, self.total - 1)

    def progress(self, _stage: str, completed: int, _total: int | None) -> None:
        """Take word from the download."""
        if completed < self.size:
            self.restarts += 1
        self.size = completed


@dataclass(frozen=True, slots=True)
class _Known:
    remote: RemoteFile
    asked_at: float


class Gateway:
    """The files of an upstream Hub, kept in a folder. Safe to use from several threads.

    Args:
        folder: the served folder.
        upstream: with the gateway's own token; no client's is ever passed on.
        keep_bytes: what whole files of the upstream may take, those that nobody asked for for longest go first; None
            keeps all.
    """

    def __init__(
        self, folder: Path, upstream: HuggingFaceSource, settings: HubSettings, *, keep_bytes: int | None = None
    ) -> None:
        self.upstream = upstream
        self._store = GatewayStore(folder / UPSTREAM_FOLDER)
        self._store.sweep()
        self._keep_bytes = keep_bytes
        self._keep_within()
        self._settings = settings
        self._known: dict[tuple[str, ...], _Known] = {}
        self._flights: dict[str, Flight] = {}
        self._asking: dict[tuple[str, ...], threading.Lock] = {}
        self._guard = threading.Lock()

    def entry(self, repo_type: RepoType, repo: str, revision: str, path: str) -> Entry:
        """Return what a path is at a revision; the upstream is asked unless a commit is named whose file is here.

        Raises:
            NotFoundError: the upstream has no such file.
            NetworkError: the upstream cannot be asked, and the file is not here.
            DiskError: the entry cannot be kept.
        """
        kept = self._store.entry(repo_type, repo, revision, path)
        if kept is not None and _COMMIT.fullmatch(revision) and self._store.blob(kept) is not None:
            return kept
        try:
            entry = entry_of(self._ask(repo_type, repo, revision, path))
        except NetworkError:
            if kept is not None and self._store.blob(kept) is not None:
                return kept
            raise
        at_commit = self._store.entry(repo_type, repo, entry.commit, path)
        if at_commit is not None and at_commit.content is not None:
            entry = replace(entry, content=at_commit.content)
        self._store.put(entry, revision)
        return entry

    def flight(self, entry: Entry) -> Flight:
        """Return the file of an entry, on its way or whole. The first who asks starts the download.

        Raises:
            NetworkError, NotFoundError: the upstream does not tell any more where it is.
        """
        blob = self._store.blob(entry)
        if blob is not None:
            landed = Flight(blob, blob.stat().st_size)
            landed.whole, landed.size = blob, blob.stat().st_size
            return landed
        with self._asking_for("bytes", entry.key):
            flying = self._flights.get(entry.key)
            if flying is not None and not flying.over:
                return flying
            remote = self._ask(entry.repo_type, entry.repo, entry.commit, entry.path)
            flight = Flight(self._store.partial(entry.key), remote.size_bytes)
            self._flights[entry.key] = flight
            threading.Thread(target=self._fly, args=(flight, entry, remote), name="mecha-gateway", daemon=True).start()
            return flight

    def answer(self, path: str, *, revision: str, body: bytes | None = None) -> Stored:
        """Return what the upstream's API answers at a path; what it said before when it cannot be asked.

        Args:
            path: with its query, as in /api/models/owner/name?blobs=true.
            revision: what the path asks about; what is said of a commit stays true.
            body: of a form that is posted, None for GET.

        Raises:
            NotFoundError: the upstream has no such repo, revision or path.
            NetworkError: it gave no usable answer, and none is kept.
            DiskError: the answer cannot be kept.
        """
        question = f"{path}\n{body.decode(errors='replace') if body is not None else ''}"
        kept = self._store.answer(question)
        if kept is not None and _COMMIT.fullmatch(revision):
            return kept
        try:
            answer = self._api(path, body)
        except NetworkError:
            if kept is not None:
                return kept
            raise
        if answer != kept:
            self._store.put_answer(question, answer)
        return answer

    def _ask(self, repo_type: RepoType, repo: str, revision: str, path: str) -> RemoteFile:
        """Ask the upstream, once for all who ask within seconds."""
        name = (repo_type, repo, revision, path)
        with self._asking_for(*name):
            known = self._known.get(name)
            if known is not None and time.monotonic() - known.asked_at < _ASKED_AGAIN_S:
                return known.remote
            remote = self.upstream.resolve(repo, path, revision=revision, repo_type=repo_type)
            now = _Known(remote, time.monotonic())
            self._known[name] = self._known[(repo_type, repo, remote.commit, path)] = now
            return remote

    def _fly(self, flight: Flight, entry: Entry, remote: RemoteFile) -> None:
        lock = flight.partial.with_suffix(".lock")
        try:
            with exclusive(lock, timeout_s=_ONE_WRITER_TIMEOUT_S, doing=f"download of {entry.path}"):
                whole = self._store.blob(entry) or self._download(flight, entry, remote)
            flight.total = flight.size = whole.stat().st_size
            flight.whole = whole
        except MechaError as error:
            flight.fault = error

    def _download(self, flight: Flight, entry: Entry, remote: RemoteFile) -> Path:
        self._keep_within(coming_bytes=remote.size_bytes or 0)
        if remote.size_bytes is not None:
            present = flight.partial.stat().st_size if flight.partial.exists() else 0
            what = f"{entry.repo}/{entry.path}"
            require_space(flight.partial.parent, remote.size_bytes, what=what, present_bytes=present)
        done = download(
            remote,
            flight.partial,
            progress=flight.progress,
            timeouts=timeouts_of(self._settings),
            retries=retries_of(self._settings),
            widening=widening_of(self._settings),
        )
        whole = self._store.adopt(flight.partial, done.sha256)
        self._store.put(replace(entry, content=done.sha256), entry.commit)
        self._keep_within(newest=done.sha256)
        return whole

    def _keep_within(self, *, coming_bytes: int = 0, newest: str = "") -> None:
        if self._keep_bytes is not None:
            self._store.keep_within(self._keep_bytes, coming_bytes=coming_bytes, newest=newest)

    def _api(self, path: str, body: bytes | None) -> Stored:
        address = f"{self.upstream.address}{path}"
        headers = {"Authorization": f"Bearer {self.upstream.token}"} if self.upstream.token else {}
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        try:
            with line_settings():
                client = httpx2.Client(timeout=self.upstream.timeout_s, follow_redirects=True)
            with client:
                # A client of this library takes the token off a redirect to another host.
                method = "GET" if body is None else "POST"
                response = client.request(method, address, headers={**headers, **form}, content=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise line_fault(error, address).error(shown(address)) from error
        if response.status_code in {404, 410}:
            raise NotFoundError(f"{shown(address)} answered 404 Not Found: {response.headers.get('x-error-code', '')}")
        if not response.is_success or len(response.content) > _ANSWER_BYTES:
            raise NetworkError(f"{shown(address)} answered {response.status_code} {response.reason_phrase}".rstrip())
        with suppress(ValueError):
            response.json()
            return Stored(response.text, response.headers.get("link", ""))
        raise NetworkError(f"{shown(address)} answered, but not as a Hub does")

    def _asking_for(self, *name: str) -> threading.Lock:
        with self._guard:
            return self._asking.setdefault(name, threading.Lock())


def api_path(kind: str, owner: str, name: str, rest: tuple[str, ...] = (), query: str = "") -> str:
    """Return a path of the Hub's API; no part of it can lead out of its place."""
    parts = "/".join(quote(part, safe="") for part in ("api", kind, owner, name, *rest))
    return f"/{parts}?{query}" if query else f"/{parts}"


def gateway(
    folder: Path, upstream: str, environ: Mapping[str, str], settings: HubSettings, *, keep_bytes: int | None = None
) -> Gateway:
    """Return the gateway to an upstream, with the token that this machine has for it.

    Args:
        keep_bytes: as in `Gateway`.

    Raises:
        ConfigError: the upstream is no address.
    """
    checked_endpoint(upstream, "--upstream")
    login = find_login(environ, upstream)
    source = HuggingFaceSource(
        upstream,
        login.token,
        timeout_s=min(settings.answer_timeout_s, _ANSWER_TIMEOUT_S),
        token_origin=login.origin or "the caller",
        retries=Retries(attempts=1),
    )
    return Gateway(folder, source, settings, keep_bytes=keep_bytes)
