"""The Hub as a source of files: metadata through huggingface_hub, one short request at a time, nothing written."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub.errors import EntryNotFoundError

from mecha import __version__
from mecha.errors import ConfigError, MechaError, NotFoundError
from mecha.hub.addresses import shown
from mecha.hub.hub_faults import TRANSLATED, Question, hub_error, no_hub, offline_error
from mecha.hub.line_faults import line_fault, line_settings
from mecha.hub.login import Login, find_login, is_true
from mecha.hub.pace import Clock, Retries
from mecha.hub.source import RemoteFile, RepoType
from mecha.words import did_you_mean

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

DEFAULT_ENDPOINT = "https://huggingface.co"

_SHA256_DIGITS = 64
_FILES_SHOWN = 5
# A question is small: two more tries within seconds, and then the caller may still have the file in its cache.
_RETRIES = Retries(attempts=3, first_wait_s=0.5, longest_wait_s=2.0)
_PASSING_STATUS = frozenset({408, 425, 500, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """A Hugging Face Hub, or any server that speaks like one.

    Attributes:
        endpoint: `https://host[:port]`; None is the public Hub.
        token: shown to the endpoint's own host only.
        offline: every question raises OfflineError.
        timeout_s: how long an answer is waited for.
        token_origin: where the token came from, for messages.
    """

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    timeout_s: float = 10.0
    token_origin: str = "the caller"  # noqa: S105  # not a token, but where one came from
    retries: Retries = _RETRIES
    clock: Clock = field(default_factory=Clock, repr=False)

    def __post_init__(self) -> None:
        """Check the endpoint once, where its name is still known."""
        checked_endpoint(self.address, "endpoint")

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], endpoint: str | None = None, offline: bool = False
    ) -> "HuggingFaceSource":
        """Return the Hub that an environment asks for.

        Args:
            environ: HF_ENDPOINT, HF_TOKEN (or a stored login) and HF_HUB_OFFLINE are read from it now.
            endpoint: the endpoint of the settings; HF_ENDPOINT goes before it.
            offline: switches the network off, as HF_HUB_OFFLINE does.

        Raises:
            ConfigError: the endpoint is no address.
        """
        named = environ.get("HF_ENDPOINT", "").strip()
        if named:
            checked_endpoint(named, "HF_ENDPOINT")
        address = named or endpoint or DEFAULT_ENDPOINT
        login = find_login(environ, address)
        return cls(
            endpoint=address,
            token=login.token,
            offline=offline or is_true(environ.get("HF_HUB_OFFLINE")),
            token_origin=login.origin,
        )

    @property
    def address(self) -> str:
        """The endpoint without a slash at its end."""
        return (self.endpoint or DEFAULT_ENDPOINT).rstrip("/")

    def resolve(self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model") -> RemoteFile:
        """Return where a file is at a revision, and what its bytes must be.

        Raises:
            NotFoundError: no such repo, revision or file; the nearest file is named.
            AccessDeniedError: 401 or 403.
            OfflineError: the network is switched off.
            NetworkError: no answer, or not one of a Hub.
            ConfigError: the repo's name cannot be one.
        """
        question = self._question(repo, repo_type, revision, filename)
        try:
            return self._asked(question, lambda: self._metadata(question, filename))
        except NotFoundError as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
            raise self._with_files(error, question, filename) from error

    def elsewhere(self, remote: RemoteFile) -> Iterator[RemoteFile]:  # noqa: ARG002  # as a list of mirrors has it
        """Give nothing: one Hub has no mirrors."""
        return iter(())

    def list_files(self, repo: str, *, revision: str = "main", repo_type: RepoType = "model") -> tuple[str, ...]:
        """Return the paths of all files in a repo at a revision; raises as `resolve` does."""
        question = self._question(repo, repo_type, revision)
        info = self._asked(question, lambda: self._info(question))
        return tuple(sibling.rfilename for sibling in info.siblings or ())

    def licence(self, repo: str, *, revision: str = "main") -> str | None:
        """Return the licence that a model repo's card states, or None; raises as `resolve` does."""
        question = self._question(repo, "model", revision)
        card = self._asked(question, lambda: self._info(question)).card_data
        stated = card.get("license") if card is not None else None
        return ", ".join(map(str, stated)) if isinstance(stated, list) else stated or None

    def _question(self, repo: str, repo_type: RepoType, revision: str, filename: str | None = None) -> Question:
        login = Login(self.token, self.token_origin if self.token else "")
        return Question(shown(self.address), repo, repo_type, revision, login, filename)

    def _asked(self, question: Question, ask: Callable[[], T]) -> T:
        if self.offline:
            raise offline_error(question)
        _prepare_library()
        failures = 0
        while True:
            try:
                return ask()
            except TRANSLATED as error:
                failures += 1
                if failures >= self.retries.attempts or not _is_passing(error, self.address):
                    raise hub_error(error, question) from error
                self.clock.sleep(self.retries.wait_s(failures, self.clock.random()))
            except ValueError as error:
                # The library takes apart whatever address a redirect names.
                raise no_hub(question) from error

    def _metadata(self, question: Question, filename: str) -> RemoteFile:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in __all__

        def address(revision: str) -> str:
            return hf_hub_url(
                question.repo, filename, repo_type=question.repo_type, revision=revision, endpoint=self.address
            )

        headers = build_hf_headers(token=self.token or False, library_name="mecha", library_version=__version__)
        metadata = get_hf_file_metadata(
            address(question.revision),
            token=self.token or False,
            timeout=self.timeout_s,
            library_name="mecha",
            library_version=__version__,
            endpoint=self.address,
        )
        if metadata.commit_hash is None or metadata.etag is None:
            raise no_hub(question)
        return RemoteFile(
            repo=question.repo,
            filename=filename,
            repo_type=question.repo_type,
            commit=metadata.commit_hash,
            # Not the storage address that the Hub redirects to: that one is signed and runs out, and a download over a
            # slow line must be able to come back for a new one.
            url=address(metadata.commit_hash),
            etag=metadata.etag,
            size_bytes=metadata.size,
            sha256=metadata.etag if _is_sha256(metadata.etag) else None,
            headers=headers,
        )

    def _info(self, question: Question) -> "ModelInfo | DatasetInfo":
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.address, token=self.token or False, library_name="mecha", library_version=__version__)
        ask = api.dataset_info if question.repo_type == "dataset" else api.model_info
        try:
            return ask(question.repo, revision=question.revision, timeout=self.timeout_s)
        except (KeyError, TypeError, AttributeError) as error:
            # The library builds its value from whatever JSON came.
            raise no_hub(question) from error

    def _with_files(self, error: NotFoundError, question: Question, filename: str) -> NotFoundError:
        """Add what the repo does hold, as far as it can be learned."""
        try:
            files = self.list_files(question.repo, revision=question.revision, repo_type=question.repo_type)
        except MechaError:
            return error
        shown_files = ", ".join(files[:_FILES_SHOWN]) + (", …" if len(files) > _FILES_SHOWN else "")
        return NotFoundError(
            f"{error}{did_you_mean(filename, files)}",
            hint=f"The repo holds {len(files)} files: {shown_files}." if files else "The repo holds no files.",
        )


def _prepare_library() -> None:
    """Let huggingface_hub make its client, and keep it from what nobody asked it for.

    Unless told not to, it downloads a list from the Hub before its first request, stores that in its cache, and reports
    in its User-Agent which other libraries are installed.
    """
    from huggingface_hub import constants, get_session

    constants.HF_HUB_DISABLE_TELEMETRY = True
    with line_settings():
        get_session()


def _is_passing(error: Exception, endpoint: str) -> bool:
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in _PASSING_STATUS
    return isinstance(error, httpx2.HTTPError) and line_fault(error, endpoint).passing


def _is_sha256(etag: str) -> bool:
    return len(etag) == _SHA256_DIGITS and set(etag) <= set("0123456789abcdef")


def checked_endpoint(address: str, name: str) -> None:
    """Refuse what is no address of a Hub.

    Raises:
        ConfigError: it is none; `name` says where it stands.
    """
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f'{name}: got "{address}"; expected http://host[:port] or https://host[:port]',
            hint="Write it as in HF_ENDPOINT=http://192.168.1.10:8090.",
        )
