"""What an exception of huggingface_hub means: the library's classes on one side, our error tree on the other."""

import json
from dataclasses import dataclass
from http import HTTPStatus

import httpx2
from huggingface_hub import errors as hub

from mecha.errors import (
    AccessDeniedError,
    ConfigError,
    MechaError,
    NetworkError,
    NotFoundError,
    OfflineError,
)
from mecha.hub.line_faults import line_fault
from mecha.hub.login import Login
from mecha.hub.source import RepoType

TRANSLATED: tuple[type[Exception], ...] = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.CookieConflict,
    httpx2.StreamError,
    hub.EntryNotFoundError,
    hub.FileMetadataError,
    hub.HFValidationError,
    hub.HfUriError,
    hub.LocalTokenNotFoundError,
    hub.OfflineModeIsEnabled,
    hub.RevisionResolutionError,
    json.JSONDecodeError,
)
"""Base classes of all that can come out of the calls made here; `hub_error` knows every one."""

OF_OTHER_CALLS: tuple[type[Exception], ...] = (
    hub.CLIError,
    hub.CacheNotFound,
    hub.CachedRepoTreeNotFoundError,
    hub.CorruptedCacheException,
    hub.DDUFError,
    hub.DeviceCodeError,
    hub.DryRunError,
    hub.FileDuplicationError,
    hub.InferenceEndpointError,
    hub.NotASafetensorsRepoError,
    hub.OIDCError,
    hub.SafetensorsParsingError,
    hub.SandboxError,
    hub.StrictDataclassError,
    hub.XetDownloadError,
)
"""Base classes of parts of the library that are never called: its cache, uploads, inference, jobs and log-in flows."""

_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of a Hub, in the words that a message needs."""

    endpoint: str
    repo: str
    repo_type: RepoType
    revision: str
    login: Login
    filename: str | None = None

    @property
    def what(self) -> str:
        """The repo, or the file in it."""
        return f"{self.repo}/{self.filename}" if self.filename else self.repo


def hub_error(error: Exception, question: Question) -> MechaError:
    """Return the error to raise for an exception of one of the `TRANSLATED` classes."""
    match error:
        case hub.HfHubHTTPError():
            result: MechaError = _answered(error, question)
        case hub.EntryNotFoundError():
            result = _no_file(question)
        case hub.OfflineModeIsEnabled():
            result = offline_error(question)
        case hub.LocalTokenNotFoundError():
            result = AccessDeniedError(
                f"{question.what}: a token is needed and there is none", hint=_token_hint(question)
            )
        case hub.HFValidationError() | hub.HfUriError():
            result = ConfigError(
                f'repo: got "{question.repo}"; expected owner/name, of letters, digits, "-", "_" and "."',
                hint="Write it as it stands in the address of the repo's page.",
            )
        case hub.RevisionResolutionError():
            result = NetworkError(f"{question.what}: {question.endpoint} did not say what {question.revision!r} is")
        case hub.FileMetadataError() | json.JSONDecodeError():
            result = no_hub(question)
        case httpx2.HTTPError() | httpx2.InvalidURL():
            result = line_fault(error, question.endpoint).error(question.what)
        case _:
            result = NetworkError(f"{question.what}: {question.endpoint}: {error}")
    return result


def offline_error(question: Question) -> OfflineError:
    """Return the error for a question that may not be asked."""
    return OfflineError(
        f"{question.what}: {question.endpoint} is needed, and the network is switched off",
        hint="Leave out --offline and unset HF_HUB_OFFLINE, or pull once while there is a network.",
    )


def no_hub(question: Question) -> NetworkError:
    """Return the error for an answer that no Hub gives."""
    return NetworkError(
        f"{question.what}: {question.endpoint} answered, but not as a Hub does",
        hint="A captive portal or a proxy may answer in its place: open any page in a browser on this network. "
        "If HF_ENDPOINT or hub.endpoint is set, check that it names a Hub.",
    )


def _answered(error: hub.HfHubHTTPError, question: Question) -> MechaError:
    match error:
        case hub.GatedRepoError():
            result: MechaError = _gated(question)
        case hub.DisabledRepoError():
            result = AccessDeniedError(
                f"{question.what}: {question.endpoint} has disabled this repo", hint="Choose another repo."
            )
        case hub.RevisionNotFoundError():
            result = NotFoundError(
                f'{question.repo}: no revision "{question.revision}" on {question.endpoint}',
                hint="Name a branch, a tag or a commit of the repo, or none for the newest.",
            )
        case hub.RemoteEntryNotFoundError():
            result = _no_file(question)
        case _:
            result = _by_status(error, question)
    return result


def _by_status(error: hub.HfHubHTTPError, question: Question) -> MechaError:
    status = error.response.status_code
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthorized(question)
    if status == HTTPStatus.FORBIDDEN:
        return AccessDeniedError(
            f"{question.what}: {question.endpoint} answered 403 Forbidden {_with_token(question)}",
            hint="The token's owner has no access, or the token is not allowed to read this repo.",
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(
            f"{question.repo}: no such {question.repo_type} repo on {question.endpoint}",
            hint="Check owner and name; a private repo also answers like this to a token that may not see it.",
        )
    return _refused(error, question)


def _refused(error: hub.HfHubHTTPError, question: Question) -> NetworkError:
    status = error.response.status_code
    hint = "Try again; if HF_ENDPOINT or hub.endpoint is set, check that it names a Hub."
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        after = error.response.headers.get("retry-after")
        hint = f"Try again after {after} s." if after and after.isdigit() else "Try again later."
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        hint = "The fault is at the server: try again later."
    answered = f"{question.what}: {question.endpoint} answered {status} {error.response.reason_phrase}".rstrip()
    return NetworkError(f"{answered}{_reason(error)}", hint=hint)


def _reason(error: hub.HfHubHTTPError) -> str:
    """Return what a server says in words: a gateway tells there what its own upstream lacks."""
    said = error.response.headers.get("x-error-message", "").strip()
    return f": {said[:_LONGEST_REASON]}" if said and said.isprintable() else ""


def _unauthorized(question: Question) -> AccessDeniedError:
    if question.login.token is None:
        return AccessDeniedError(
            f"{question.repo}: {question.endpoint} answered 401 Unauthorized: "
            f"there is no such {question.repo_type} repo, or it is private and no token was sent",
            hint=f"Check owner and name. {_token_hint(question)}",
        )
    return AccessDeniedError(
        f"{question.repo}: {question.endpoint} answered 401 Unauthorized: it does not accept "
        f"the token from {question.login.origin}",
        hint="The token is wrong or has run out: make a new one, or unset it for what is public.",
    )


def _gated(question: Question) -> AccessDeniedError:
    page = f"{question.endpoint}/{'datasets/' if question.repo_type == 'dataset' else ''}{question.repo}"
    what = f"{question.repo}: its owners give access on request"
    if question.login.token is None:
        return AccessDeniedError(
            f"{what}, and no token was sent", hint=f"Ask for access at {page}, then set HF_TOKEN and try again."
        )
    return AccessDeniedError(
        f"{what}, and the owner of the token from {question.login.origin} has none yet",
        hint=f"Ask for access at {page}, then try again.",
    )


def _no_file(question: Question) -> NotFoundError:
    return NotFoundError(
        f'{question.repo}: no file "{question.filename}" at revision "{question.revision}" on {question.endpoint}',
        hint="Check the name against the list of files on the repo's page.",
    )


def _with_token(question: Question) -> str:
    return f"to the token from {question.login.origin}" if question.login.token else "to a request without a token"


def _token_hint(question: Question) -> str:
    return f"For a private repo, set HF_TOKEN to a token that {question.endpoint} knows."
