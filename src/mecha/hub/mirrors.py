"""Several mirrors of one Hub, asked in order: the first that has a file gives it, the next ones take over.

A mirror that cannot be reached, refuses (401, 403), has no such repo, revision or file, answers 5xx or a web page, or
sends wrong bytes is passed over. A fault of this device, a full disk or a wrong setting, ends the search: no other
mirror would change it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from mecha.errors import IntegrityError, MechaError, NetworkError, NotFoundError, OfflineError
from mecha.hub.addresses import origin
from mecha.hub.huggingface import DEFAULT_ENDPOINT, HuggingFaceSource
from mecha.hub.login import TOKEN_VARIABLES, find_login
from mecha.hub.pace import Retries, Widening
from mecha.hub.source import RemoteFile, RepoType, Source
from mecha.hub.transfer import Timeouts
from mecha.project import HubSettings

T = TypeVar("T")

PASSED_OVER: tuple[type[MechaError], ...] = (NetworkError, NotFoundError, IntegrityError)
"""Failures of one mirror that another one may not have."""

_ASKED_AGAIN = 3


@dataclass(frozen=True, slots=True)
class MirroredSource:
    """Several Hubs that hold the same repos; implements Source."""

    sources: tuple[HuggingFaceSource, ...]

    def resolve(self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model") -> RemoteFile:
        """Return where the first mirror that has it has a file.

        Raises:
            MechaError: no mirror has it; the message holds what each of them said.
        """
        what = f"{repo}/{filename}"
        return self._first(what, lambda hub: hub.resolve(repo, filename, revision=revision, repo_type=repo_type))

    def elsewhere(self, remote: RemoteFile) -> Iterator[RemoteFile]:
        """Give the same bytes at the mirrors after the one a file was found at; those that lack them are left out."""
        found = [index for index, hub in enumerate(self.sources) if remote.url.startswith(f"{hub.address}/")]
        for hub in self.sources[found[0] + 1 :] if found else ():
            for revision in (remote.commit, "main"):
                with suppress(NetworkError, NotFoundError):
                    other = hub.resolve(remote.repo, remote.filename, revision=revision, repo_type=remote.repo_type)
                    if _same_bytes(remote, other):
                        yield other
                        break

    def list_files(self, repo: str, *, revision: str = "main", repo_type: RepoType = "model") -> tuple[str, ...]:
        """Return the paths of all files in a repo, as the first mirror that answers has them; raises as `resolve`."""
        return self._first(repo, lambda hub: hub.list_files(repo, revision=revision, repo_type=repo_type))

    def licence(self, repo: str, *, revision: str = "main") -> str | None:
        """Return the licence the repo states at the first mirror that answers, or None; raises as `resolve`."""
        return self._first(repo, lambda hub: hub.licence(repo, revision=revision))

    def _first(self, what: str, ask: Callable[[HuggingFaceSource], T]) -> T:
        faults: list[MechaError] = []
        for hub in self.sources:
            try:
                return ask(hub)
            except OfflineError:
                raise
            except PASSED_OVER as error:
                faults.append(error)
        raise refused_by_all(what, faults)


def refused_by_all(what: str, faults: list[MechaError]) -> MechaError:
    """Return the one error for what each mirror said; "not found" only where all of them say so."""
    if len(faults) == 1:
        return faults[0]
    telling = next((fault for fault in faults if not isinstance(fault, NotFoundError)), faults[0])
    said = "; ".join(f"{number}. {fault}" for number, fault in enumerate(faults, start=1))
    return type(telling)(f"{what}: none of {len(faults)} mirrors gave it: {said}", hint=telling.hint)


def hub_source(environ: Mapping[str, str], settings: HubSettings, *, offline: bool = False) -> Source:
    """Return the Hub, or the mirrors, that an environment and settings ask for.

    HF_ENDPOINT is asked alone: who sets it may want no other server to hear of it.

    Raises:
        ConfigError: an endpoint is no address.
    """
    addresses = settings.addresses or (None,)
    first = HuggingFaceSource.from_environment(environ, endpoint=addresses[0], offline=offline)
    patient = replace(first, timeout_s=settings.answer_timeout_s, retries=_questions(settings, _ASKED_AGAIN))
    if environ.get("HF_ENDPOINT", "").strip() or len(addresses) == 1:
        return patient
    # Only the last is asked again and again: where there is another mirror, that one is the better second try.
    hurried = _questions(settings, 1)
    others = [
        _mirror(environ, address, replace(patient, retries=hurried)) for address in addresses[1:] if address is not None
    ]
    last = replace(others.pop(), retries=patient.retries)
    return MirroredSource((replace(patient, retries=hurried), *others, last))


def timeouts_of(settings: HubSettings) -> Timeouts:
    """Return when a silent line is given up."""
    return Timeouts(connect_s=settings.connect_timeout_s, stall_s=settings.stall_timeout_s)


def retries_of(settings: HubSettings) -> Retries:
    """Return how patiently a download is tried again."""
    return Retries(attempts=settings.tries, longest_wait_s=settings.longest_wait_s)


def widening_of(settings: HubSettings) -> Widening:
    """Return when a download takes more than one connection."""
    return Widening(connections=settings.connections)


def _questions(settings: HubSettings, attempts: int) -> Retries:
    longest = min(2.0, settings.longest_wait_s)
    return Retries(attempts=min(attempts, settings.tries), first_wait_s=0.5, longest_wait_s=longest)


def _mirror(environ: Mapping[str, str], address: str, like: HuggingFaceSource) -> HuggingFaceSource:
    """Return a further mirror. HF_TOKEN is the first one's; the login that was stored is the public Hub's."""
    own = {name: value for name, value in environ.items() if name not in TOKEN_VARIABLES}
    if origin(address) != origin(DEFAULT_ENDPOINT):
        own |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    login = find_login(own, address)
    return replace(like, endpoint=address, token=login.token, token_origin=login.origin or "the caller")


def _same_bytes(remote: RemoteFile, other: RemoteFile) -> bool:
    if remote.sha256 is not None:
        return other.sha256 == remote.sha256
    return (other.etag, other.size_bytes) == (remote.etag, remote.size_bytes)
