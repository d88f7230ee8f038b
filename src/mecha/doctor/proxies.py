"""Whether the proxies that the environment names are there, and are asked for the right servers."""

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented in its source only

from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.hub.addresses import server, shown
from mecha.project import Project

TIMEOUT_S = 5.0


def proxy_findings(project: Project, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Iterator[Finding]:
    """Give what proxies the environment names, and whether they fit."""
    proxies = {
        name: environ[key].strip()
        for name in ("https_proxy", "http_proxy", "all_proxy")
        for key in (name, name.upper())
        if environ.get(key, "").strip()
    }
    if not proxies:
        yield ok("proxy", "none is set")
        return
    for name, address in proxies.items():
        yield _proxy(name.upper(), address, timeout_s)
    spared = {"no": environ.get("no_proxy") or environ.get("NO_PROXY") or ""}
    named = environ.get("HF_ENDPOINT", "").strip()
    for endpoint in (named,) if named else project.settings.hub.addresses:
        host = urlsplit(endpoint).hostname or ""
        if _is_near(host) and not proxy_bypass_environment(host, spared):
            yield note(
                "proxy",
                f"{server(endpoint)} is on this network, and is asked through the proxy",
                "A proxy as a rule does not know what is on your network.",
                f"Add {host} to NO_PROXY.",
            )


def _proxy(name: str, address: str, timeout_s: float) -> Finding:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme not in {"http", "https", "socks5", "socks5h"} or not host:
        return wrong(
            "proxy",
            f"{name} is no address of a proxy",
            "No server can be asked.",
            f"Expected {name}=http://host:port, or unset it.",
        )
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return ok("proxy", f"{name}: {shown(address)} takes connections")
    except (OSError, UnicodeError) as error:
        said = "the name cannot be resolved" if isinstance(error, socket.gaierror) else _os_words(error)
        return wrong(
            "proxy",
            f"{name}: {shown(address)}: {said}",
            "Everything that is asked of a Hub goes there.",
            "Check host and port, or unset it where this network needs none.",
        )


def _os_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _is_near(host: str) -> bool:
    """Tell whether a host is on this machine or its own network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal"))
    return address.is_private or address.is_loopback or address.is_link_local
