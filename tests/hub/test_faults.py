"""Whatever the HTTP library or the Hub's client raises becomes one of our errors, in a sentence."""

import errno
import inspect
import json
import socket
import ssl
from collections.abc import Callable

import httpx2
import huggingface_hub.errors as hub
import pytest

from mecha.errors import (
    AccessDeniedError,
    ConfigError,
    MechaError,
    NetworkError,
    NotFoundError,
    OfflineError,
)
from mecha.hub.hub_faults import OF_OTHER_CALLS, TRANSLATED, Question, hub_error
from mecha.hub.line_faults import line_fault, line_settings
from mecha.hub.login import Login

HUB = "https://hub.example"


def exceptions_of(module: object) -> list[type[Exception]]:
    """Return the exception classes a module defines, warnings left out."""
    classes = [value for _, value in inspect.getmembers(module, inspect.isclass)]
    return [cls for cls in classes if issubclass(cls, Exception) and not issubclass(cls, Warning)]


@pytest.mark.parametrize("cls", exceptions_of(hub), ids=lambda cls: cls.__name__)
def test_every_exception_of_the_hubs_client_is_known(cls: type[Exception]) -> None:
    assert issubclass(cls, TRANSLATED) != issubclass(cls, OF_OTHER_CALLS), (
        f"{cls.__name__}: add it, or its base, to TRANSLATED or to OF_OTHER_CALLS"
    )


@pytest.mark.parametrize("cls", exceptions_of(httpx2), ids=lambda cls: cls.__name__)
def test_every_exception_of_the_http_library_is_known(cls: type[Exception]) -> None:
    assert issubclass(cls, TRANSLATED)


def instance(cls: type[Exception]) -> Exception:
    """Make an exception without its constructor, which differs from class to class."""
    error = cls.__new__(cls)
    error.args = ("what the library says",)
    if isinstance(error, hub.HfHubHTTPError):
        error.response = httpx2.Response(418, request=httpx2.Request("GET", HUB))
    return error


@pytest.mark.parametrize(
    "cls", [cls for cls in exceptions_of(hub) + exceptions_of(httpx2) if issubclass(cls, TRANSLATED)]
)
def test_every_known_exception_becomes_one_of_ours(cls: type[Exception]) -> None:
    error = hub_error(instance(cls), question())

    assert isinstance(error, MechaError)
    assert str(error).startswith(("owner/name", "repo: "))


def question(token: str | None = None, filename: str | None = "model.onnx") -> Question:
    return Question(HUB, "owner/name", "model", "main", Login(token, "HF_TOKEN" if token else ""), filename)


def answered(
    status: int, cls: type[hub.HfHubHTTPError] = hub.HfHubHTTPError, headers: dict[str, str] | None = None
) -> hub.HfHubHTTPError:
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("GET", HUB))
    return cls("what the library says", response=response)


MISSING_OR_PRIVATE = (
    f"owner/name: {HUB} answered 401 Unauthorized: there is no such model repo, or it is private and no token was sent"
)


@pytest.mark.parametrize(
    ("error", "token", "kind", "message"),
    [
        (answered(404, hub.RepositoryNotFoundError), None, NotFoundError, f"owner/name: no such model repo on {HUB}"),
        (answered(401, hub.RepositoryNotFoundError), None, AccessDeniedError, MISSING_OR_PRIVATE),
        (answered(401), None, AccessDeniedError, MISSING_OR_PRIVATE),
        (
            answered(401),
            "secret",
            AccessDeniedError,
            f"owner/name: {HUB} answered 401 Unauthorized: it does not accept the token from HF_TOKEN",
        ),
        (
            answered(403),
            "secret",
            AccessDeniedError,
            f"owner/name/model.onnx: {HUB} answered 403 Forbidden to the token from HF_TOKEN",
        ),
        (
            answered(403),
            None,
            AccessDeniedError,
            f"owner/name/model.onnx: {HUB} answered 403 Forbidden to a request without a token",
        ),
        (
            answered(403, hub.GatedRepoError),
            "secret",
            AccessDeniedError,
            "owner/name: its owners give access on request, and the owner of the token from HF_TOKEN has none yet",
        ),
        (
            answered(401, hub.GatedRepoError),
            None,
            AccessDeniedError,
            "owner/name: its owners give access on request, and no token was sent",
        ),
        (
            answered(403, hub.DisabledRepoError),
            None,
            AccessDeniedError,
            f"owner/name/model.onnx: {HUB} has disabled this repo",
        ),
        (
            answered(404, hub.RevisionNotFoundError),
            None,
            NotFoundError,
            f'owner/name: no revision "main" on {HUB}',
        ),
        (
            answered(404, hub.RemoteEntryNotFoundError),
            None,
            NotFoundError,
            f'owner/name: no file "model.onnx" at revision "main" on {HUB}',
        ),
        (answered(429), None, NetworkError, f"owner/name/model.onnx: {HUB} answered 429 Too Many Requests"),
        (answered(503), None, NetworkError, f"owner/name/model.onnx: {HUB} answered 503 Service Unavailable"),
        (
            answered(400, hub.BadRequestError),
            None,
            NetworkError,
            f"owner/name/model.onnx: {HUB} answered 400 Bad Request",
        ),
        (
            hub.OfflineModeIsEnabled("what the library says"),
            None,
            OfflineError,
            f"owner/name/model.onnx: {HUB} is needed, and the network is switched off",
        ),
        (
            hub.HFValidationError("what the library says"),
            None,
            ConfigError,
            'repo: got "owner/name"; expected owner/name, of letters, digits, "-", "_" and "."',
        ),
        (
            json.JSONDecodeError("what the library says", "", 0),
            None,
            NetworkError,
            f"owner/name/model.onnx: {HUB} answered, but not as a Hub does",
        ),
    ],
)
def test_an_answer_of_the_hub_is_said_in_a_sentence(
    error: Exception, token: str | None, kind: type[MechaError], message: str
) -> None:
    translated = hub_error(error, question(token))

    assert (type(translated), str(translated)) == (kind, message)
    assert "secret" not in f"{translated} {translated.hint}"
    assert translated.hint


def test_who_may_try_again_later_is_told_when() -> None:
    assert hub_error(answered(429, headers={"Retry-After": "30"}), question()).hint == "Try again after 30 s."


def test_a_gated_repo_names_the_page_where_access_is_given() -> None:
    hint = hub_error(answered(403, hub.GatedRepoError), question("secret")).hint

    assert hint == f"Ask for access at {HUB}/owner/name, then try again."


def caused_by(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "sentence", "passing"),
    [
        (httpx2.ConnectTimeout("x"), "no connection in time", True),
        (httpx2.PoolTimeout("x"), "no connection in time", True),
        (httpx2.ReadTimeout("x"), "the server went silent", True),
        (httpx2.WriteTimeout("x"), "the server took nothing in time", True),
        (
            caused_by(httpx2.ConnectError("x"), socket.gaierror(-2, "Name or service not known")),
            "the name cannot be resolved",
            True,
        ),
        (
            caused_by(httpx2.ConnectError("x"), ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
            "connection refused: nothing listens there",
            True,
        ),
        (
            caused_by(httpx2.ConnectError("x"), OSError(errno.ENETUNREACH, "Network is unreachable")),
            "no connection: Network is unreachable",
            True,
        ),
        (
            caused_by(httpx2.ConnectError("x"), untrusted()),
            "its certificate is not trusted: self-signed certificate",
            False,
        ),
        (
            caused_by(httpx2.ReadError("x"), ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
            "the connection broke: Connection reset by peer",
            True,
        ),
        (httpx2.RemoteProtocolError("x"), "the connection ended in the middle of the answer", True),
        (
            httpx2.ProxyError("407 Proxy Authentication Required"),
            "the proxy refused: 407 Proxy Authentication Required",
            True,
        ),
        (httpx2.TooManyRedirects("x"), "the server redirects without end", False),
        (httpx2.DecodingError("bad gzip"), "no usable answer: bad gzip", False),
    ],
)
def test_a_broken_line_is_said_in_a_sentence(error: httpx2.HTTPError, sentence: str, passing: bool) -> None:
    fault = line_fault(error, f"{HUB}/owner/name/resolve/main/model.onnx?signature=secret")

    assert (fault.sentence, fault.passing) == (f"{HUB}: {sentence}", passing)
    assert fault.hint


def test_an_address_that_is_none_is_shown_without_its_secrets() -> None:
    fault = line_fault(httpx2.UnsupportedProtocol("no such protocol"), "ftp://user:secret@host/file?signature=secret")

    assert fault.sentence == "ftp://host/file: not an address to ask: no such protocol"


def fail(error: Exception) -> Callable[[], None]:
    def raiser() -> None:
        with line_settings():
            raise error

    return raiser


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory"),
            "SSL_CERT_FILE or SSL_CERT_DIR: no such file or directory",
        ),
        (
            ValueError("Unknown scheme for proxy URL"),
            "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: Unknown scheme for proxy URL",
        ),
    ],
)
def test_an_environment_that_cannot_be_used_is_a_config_error(error: Exception, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        fail(error)()

    assert str(raised.value) == message
