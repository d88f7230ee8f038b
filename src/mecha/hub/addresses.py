"""Addresses: which of them are one host, and how one is shown without its secrets."""

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int | None]:
    """Return (scheme, host, port): two addresses of one origin may be sent the same token."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def shown(url: str) -> str:
    """Return an address as a message may show it: no user, no password, and no query, which may be a signature."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def server(url: str) -> str:
    """Return the part of an address that names the server."""
    parts = urlsplit(shown(url))
    return f"{parts.scheme}://{parts.netloc}"
