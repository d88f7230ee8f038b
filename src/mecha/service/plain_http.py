"""Over plain http anybody on the network can change what comes: it has to be known beforehand what must come."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from mecha.errors import ConfigError
from mecha.hub.addresses import server


def require_digest(url: str, digest: str | None, *, what: str) -> None:
    """Refuse a file that would come over plain http from another machine, and that nothing here pins.

    What the server itself says of the file comes over the same line, so it proves nothing.

    Args:
        url: where the file would be asked for.
        digest: the sha256 that the catalog or mecha.lock gives, None where neither does.
        what: the file in words.

    Raises:
        ConfigError: it is so.
    """
    parts = urlsplit(url)
    if digest is not None or parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return
    raise ConfigError(
        f"{what}: {server(url)} is plain http, where anybody on the network can change what comes, and nothing here "
        "says what it must be; expected its sha256 in the catalog or in mecha.lock",
        hint="Write sha256 into the entry, or pull once over https (or on the machine of the mirror itself) and bring "
        "the mecha.lock of that along.",
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
