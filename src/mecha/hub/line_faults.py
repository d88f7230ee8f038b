"""What an exception of the HTTP library means to the person in front of the device."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import httpx2

from mecha.errors import ConfigError, NetworkError
from mecha.hub.addresses import server, shown

_ENDPOINT_HINT = "Check the network; if HF_ENDPOINT or hub.endpoint is set, check that it names a running server."
_RETRY_HINT = "Check the network and try again; a download goes on where it stopped."
_REQUEST_HINT = "Check HF_ENDPOINT and hub.endpoint: expected http://host[:port] or https://host[:port]."


Part = Literal["name", "connection", "certificate", "tls", "proxy", "answer", "address"]


@dataclass(frozen=True, slots=True)
class LineFault:
    """A failure of the line, in words.

    Attributes:
        passing: whether trying again can help.
        part: of the way to the server where it ends.
    """

    sentence: str
    hint: str
    passing: bool
    part: Part = "connection"

    def error(self, what: str) -> NetworkError:
        """Return the error to raise; `what` says what was being fetched."""
        return NetworkError(f"{what}: {self.sentence}", hint=self.hint)


def line_fault(error: httpx2.HTTPError | httpx2.InvalidURL, url: str) -> LineFault:
    """Describe why there was no answer, or only a part of one."""
    host = server(url)
    match error:
        case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            fault = LineFault(f"{host}: no connection in time", _ENDPOINT_HINT, passing=True)
        case httpx2.ReadTimeout():
            fault = LineFault(f"{host}: the server went silent", _RETRY_HINT, passing=True, part="answer")
        case httpx2.TimeoutException():
            fault = LineFault(f"{host}: the server took nothing in time", _RETRY_HINT, passing=True)
        case httpx2.ConnectError():
            fault = _no_connection(error, host)
        case httpx2.NetworkError():
            fault = LineFault(f"{host}: the connection broke: {_reason(error)}", _RETRY_HINT, passing=True)
        case httpx2.RemoteProtocolError():
            said = f"{host}: the connection ended in the middle of the answer"
            fault = LineFault(said, _RETRY_HINT, passing=True, part="answer")
        case httpx2.ProxyError():
            hint = "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
            fault = LineFault(f"{host}: the proxy refused: {_reason(error)}", hint, passing=True, part="proxy")
        case httpx2.TooManyRedirects():
            said = f"{host}: the server redirects without end"
            fault = LineFault(said, _ENDPOINT_HINT, passing=False, part="answer")
        case httpx2.UnsupportedProtocol() | httpx2.LocalProtocolError() | httpx2.InvalidURL():
            said = f"{shown_or_raw(url)}: not an address to ask: {_reason(error)}"
            fault = LineFault(said, _REQUEST_HINT, passing=False, part="address")
        case _:
            said = f"{host}: no usable answer: {_reason(error)}"
            fault = LineFault(said, _ENDPOINT_HINT, passing=False, part="answer")
    return fault


@contextmanager
def line_settings() -> Iterator[None]:
    """Explain why an HTTP client cannot even be made: it reads certificates and proxies from the environment.

    Raises:
        ConfigError: one of those variables cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"SSL_CERT_FILE or SSL_CERT_DIR: {(error.strerror or str(error)).lower()}",
            hint="Name certificates that exist and can be read, or unset the variable.",
        ) from error
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: {error}", hint="Expected http://host:port, or unset the variable."
        ) from error


def shown_or_raw(url: str) -> str:
    """Return an address without its secrets, or as it is when it cannot be taken apart."""
    try:
        return shown(url)
    except ValueError:
        return url


def _no_connection(error: httpx2.ConnectError, host: str) -> LineFault:
    cause = _os_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = (
            "A wrong clock or a proxy that opens TLS does this: check the date, and name the proxy's certificate in "
            "SSL_CERT_FILE."
        )
        said = f"{host}: its certificate is not trusted: {cause.verify_message}"
        return LineFault(said, hint, passing=False, part="certificate")
    if isinstance(cause, ssl.SSLError):
        said = f"{host}: no secure connection: {cause.reason or cause}"
        return LineFault(said, _ENDPOINT_HINT, passing=True, part="tls")
    if isinstance(cause, socket.gaierror):
        return LineFault(f"{host}: the name cannot be resolved", _ENDPOINT_HINT, passing=True, part="name")
    if isinstance(cause, ConnectionRefusedError):
        return LineFault(f"{host}: connection refused: nothing listens there", _ENDPOINT_HINT, passing=True)
    return LineFault(f"{host}: no connection: {_reason(error)}", _ENDPOINT_HINT, passing=True)


def _os_error(error: BaseException) -> OSError | None:
    """Return the operating system's error that an exception was made from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, httpx2.HTTPError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _reason(error: Exception) -> str:
    cause = _os_error(error)
    if cause is not None and cause.strerror:
        return cause.strerror
    return str(error) or type(error).__name__
