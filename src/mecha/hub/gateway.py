"""A gateway: what its folder lacks is fetched from another Hub, once for all who ask, and kept."""

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import httpx2

from mecha.errors import MechaError, NetworkError, NotFoundError
from mecha.hub.addresses import shown
from mecha.hub.download import download
from mecha.hub.gateway_flight import Flight, UnforeseenError
from mecha.hub.gateway_questions import Name, NamedLocks, Questions
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

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
# The web application has forty threads: questions that nobody answers leave it the others.
_QUESTIONS_AT_ONCE = 16
# What a client of the Hub asks with; each other key would be one more answer to keep.
_QUERY_KEYS = frozenset({"blobs", "cursor", "expand", "limit", "recursive", "securityStatus"})
_ONE_WRITER_TIMEOUT_S = 24 * 3600.0
_ANSWER_BYTES = 16 << 20
# Clients wait ten seconds for an answer, and try again themselves.
_ANSWER_TIMEOUT_S = 8.0


class Gateway:
    """The files of an upstream Hub, kept in a folder. Safe to use from several threads.

    Args:
        folder: the served folder.
        upstream: with the gateway's own token; no client's is ever passed on.
        keep_bytes: what whole files of the upstream may take, those that nobody asked for for longest go first; None
            keeps all.

    Attributes:
        asking: the threads in which whoever has many clients asks `entry`, `flight` and `answer`: the upstream may be
            silent. `kept`, `landed` and `kept_answer` need no such care.
    """

    def __init__(
        self, folder: Path, upstream: HuggingFaceSource, settings: HubSettings, *, keep_bytes: int | None = None
    ) -> None:
        self.upstream = upstream
        self._store = GatewayStore(folder / UPSTREAM_FOLDER)
        self._store.sweep()
        self._keep_bytes = keep_bytes
        self._settings = settings
        self.asking = ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="mecha-gateway-asks")
        self._questions = Questions(self._resolve)
        self._flights: dict[str, Flight] = {}
        self._watched: list[Flight] = []
        self._starting = NamedLocks()
        self._guard = threading.Lock()
        # What has just come is known to be watched before anybody makes room.
        self._room = threading.Lock()
        self._keep_within()

    def kept(self, repo_type: RepoType, repo: str, revision: str, path: str) -> Entry | None:
        """Return what a path is at a revision whose file is here, where the upstream need not be asked.

        That is so at a commit, and at any revision while the upstream is silent.
        """
        if _COMMIT.fullmatch(revision) or self._questions.silent:
            return self._kept((repo_type, repo, revision, path))
        return None

    def entry(self, repo_type: RepoType, repo: str, revision: str, path: str) -> Entry:
        """Return what a path is at a revision; the upstream is asked unless `kept` knows.

        Raises:
            NotFoundError: the upstream has no such file.
            NetworkError: the upstream cannot be asked, and the file is not here.
            DiskError: the entry cannot be kept.
        """
        kept = self.kept(repo_type, repo, revision, path)
        if kept is not None:
            return kept
        name = (repo_type, repo, revision, path)
        try:
            entry = entry_of(self._questions.ask(name))
        except NetworkError:
            kept = self._kept(name)
            if kept is not None:
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
            UnforeseenError: no thread can be started.
        """
        landed = self.landed(entry)
        if landed is not None:
            return landed
        with self._starting.held(entry.key):
            flying = self._flights.get(entry.key)
            if flying is not None:
                return flying
            remote = self._questions.ask((entry.repo_type, entry.repo, entry.commit, entry.path))
            flight = Flight(self._store.partial(entry.key), remote.size_bytes)
            thread = threading.Thread(target=self._fly, args=(flight, entry, remote), name="mecha-gateway", daemon=True)
            self._flights[entry.key] = flight
            try:
                thread.start()
            except RuntimeError as error:
                del self._flights[entry.key]
                raise _unforeseen(entry, error) from error
            return flight

    def landed(self, entry: Entry) -> Flight | None:
        """Return the file of an entry where it is here, None otherwise. The upstream is not asked."""
        blob = self._store.blob(entry)
        # Another process may make room at any moment.
        with suppress(FileNotFoundError):
            if blob is not None:
                landed = Flight(blob, None)
                landed.land(blob, blob.stat().st_size)
                return landed
        return None

    @contextmanager
    def watched(self, flight: Flight) -> Iterator[None]:
        """Keep the file of a flight from making room for others, until a client has opened it."""
        with self._guard:
            self._watched.append(flight)
        try:
            yield
        finally:
            with self._guard:
                self._watched.remove(flight)

    def kept_answer(self, path: str, *, revision: str, body: bytes | None = None) -> Stored | None:
        """Return what `answer` returns, where the upstream need not be asked: as in `kept`."""
        if _COMMIT.fullmatch(revision) or self._questions.silent:
            return self._store.answer(_question(path, body))
        return None

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
        kept = self.kept_answer(path, revision=revision, body=body)
        if kept is not None:
            return kept
        question = _question(path, body)
        kept = self._store.answer(question)
        try:
            answer = self._api(path, body)
        except NetworkError as error:
            self._questions.went_wrong(error)
            if kept is not None:
                return kept
            raise
        if answer != kept:
            self._store.put_answer(question, answer)
        return answer

    def _resolve(self, name: Name) -> RemoteFile:
        repo_type, repo, revision, path = name
        return self.upstream.resolve(repo, path, revision=revision, repo_type=repo_type)

    def _kept(self, name: Name) -> Entry | None:
        kept = self._store.entry(*name)
        return kept if kept is not None and self._store.blob(kept) is not None else None

    def _fly(self, flight: Flight, entry: Entry, remote: RemoteFile) -> None:
        lock = flight.partial.with_suffix(".lock")
        doing = f"download of {entry.path}"
        try:
            # Another gateway of this folder may be at it: what comes to it is sent on.
            with exclusive(lock, timeout_s=_ONE_WRITER_TIMEOUT_S, doing=doing, while_waiting=flight.look):
                landed = self.landed(entry)
                if landed is not None and landed.whole is not None:
                    flight.land(landed.whole, landed.size)
                else:
                    self._download(flight, entry, remote)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for the file are to be told
            fault = error if isinstance(error, MechaError) else _unforeseen(entry, error)
            # Where only making room went wrong, they have what they wait for.
            if flight.whole is None:
                flight.fault = fault
        finally:
            del self._flights[entry.key]

    def _download(self, flight: Flight, entry: Entry, remote: RemoteFile) -> None:
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
        self._store.put(replace(entry, content=done.sha256), entry.commit)
        with self._room:
            flight.land(self._store.adopt(flight.partial, done.sha256), done.size_bytes)
        self._keep_within(newest=done.sha256)

    def _keep_within(self, *, coming_bytes: int = 0, newest: str = "") -> None:
        if self._keep_bytes is None:
            return
        with self._room:
            with self._guard:
                watched = {flight.whole.name for flight in self._watched if flight.whole is not None}
            self._store.keep_within(self._keep_bytes, coming_bytes=coming_bytes, needed=watched | {newest})

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


def api_path(kind: str, owner: str, name: str, rest: tuple[str, ...] = (), query: str = "") -> str:
    """Return a path of the Hub's API; no part of it can lead out of its place, and no key is one that it has not."""
    parts = "/".join(quote(part, safe="") for part in ("api", kind, owner, name, *rest))
    asked = urlencode([(key, value) for key, value in parse_qsl(query) if key in _QUERY_KEYS])
    return f"/{parts}?{asked}" if asked else f"/{parts}"


def _question(path: str, body: bytes | None) -> str:
    return f"{path}\n{body.decode(errors='replace') if body is not None else ''}"


def _unforeseen(entry: Entry, error: Exception) -> UnforeseenError:
    """Log what nobody foresaw, and return it as a sentence for clients."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    fault = UnforeseenError(f"{entry.repo}/{entry.path}: this gateway failed where it should not: {what}")
    log.error("%s", fault)
    log.debug("where it failed", exc_info=error)
    return fault


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
