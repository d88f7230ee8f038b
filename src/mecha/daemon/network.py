"""The daemon on a network: where it listens, who may ask, and what is missing for that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mecha.daemon.access import Access, known_hosts
from mecha.daemon.server import Tls, parsed_address
from mecha.daemon.token import DaemonToken, daemon_token
from mecha.errors import UsageError


@dataclass(frozen=True, slots=True)
class Network:
    """What was asked for on the command line, and is whole.

    Attributes:
        address: "HOST:PORT".
        names: by which the daemon is asked there.
        warning: what whoever starts it should know, "" for nothing.
    """

    address: str
    token: DaemonToken
    names: frozenset[str]
    tls: Tls | None
    warning: str

    def access(self, tell: Callable[[str], None]) -> Access:
        """Return who may use it; `tell` hears of those who may not."""
        return Access(self.token, self.names, tell)

    def url(self, bound: tuple[str | int, ...]) -> str:
        """Return where it answers, for the log; `bound` is the address of the socket, host and port first."""
        host, port = bound[:2]
        return f"{'http' if self.tls is None else 'https'}://{f'[{host}]' if ':' in str(host) else host}:{port}"


def network(
    listen: str | None, token_file: Path | None, tls_cert: Path | None, tls_key: Path | None, environ: Mapping[str, str]
) -> Network | None:
    """Return how the daemon is on a network; None where it is not.

    Raises:
        UsageError: an option makes no sense without another one, or the address is none.
        NotFoundError: the token's file cannot be read.
        ConfigError: others can read it, or it is no token.
    """
    if listen is None:
        _refuse_alone({"--token-file": token_file, "--tls-cert": tls_cert, "--tls-key": tls_key})
        return None
    host, _ = parsed_address(listen)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key: got one of them; expected both, or none")
    tls = Tls(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    warning = ""
    if tls is None and not _stays_here(host):
        warning = (
            f"--listen {listen}: without --tls-cert others on this network can read the token and all that is sent; "
            "give a certificate, or listen on 127.0.0.1 and come through SSH"
        )
    return Network(listen, daemon_token(token_file, environ), known_hosts(host, environ), tls, warning)


def _refuse_alone(given: Mapping[str, Path | None]) -> None:
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option}: is for TCP, and there is no --listen",
                hint="Add --listen 127.0.0.1:8765; the socket needs none of it.",
            )


def _stays_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
