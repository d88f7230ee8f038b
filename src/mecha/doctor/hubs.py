"""Whether the Hubs that models come from can be reached, and if not, where the way ends."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from mecha.catalog.catalog import load_catalog
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.errors import ConfigError, MechaError
from mecha.hub.addresses import origin
from mecha.hub.huggingface import DEFAULT_ENDPOINT
from mecha.hub.login import TOKEN_VARIABLES, Login, find_login, is_true
from mecha.hub.reach import Kind, Reach, reach
from mecha.project import Project, bundled_dir
from mecha.store.blobs import packaged_models
from mecha.store.digests import sha256_of

TIMEOUT_S = 8.0
CLOCK_S = 300.0
"""How far the clock may be from the one of a server: certificates and signatures of links end after minutes."""

_OFFLINE = "What is pulled already runs on; a pull brings nothing new."
_NAME = "Check the cable or the Wi-Fi and the name server (`resolvectl status`, /etc/resolv.conf)."
_MEANT: dict[Kind, tuple[str, str]] = {
    "name": (f"The network is not there, or has no name server. {_OFFLINE}", _NAME),
    "connection": (
        f"The name is known, and nobody takes the connection: a firewall, or a server that is down. {_OFFLINE}",
        "Check hub.endpoint and HF_ENDPOINT; where only a proxy leads out, set HTTPS_PROXY.",
    ),
    "certificate": (
        "The clock is wrong, or a proxy or captive portal opens the connection and shows a certificate of its own.",
        "Check the date first; sign in to the network; name the certificate of the proxy in SSL_CERT_FILE.",
    ),
    "tls": (
        "What answers at this port does not speak TLS as a Hub does: a proxy, or http where https is expected.",
        "Check the scheme and port of hub.endpoint and HF_ENDPOINT, and HTTPS_PROXY.",
    ),
    "proxy": (
        f"The proxy does not let the request through. {_OFFLINE}",
        "Check HTTPS_PROXY and HTTP_PROXY, user and password in them; NO_PROXY for what is on this network.",
    ),
    "answer": (f"What answers breaks off. {_OFFLINE}", "Try again; if it stays so, check what stands in between."),
    "address": ("This is no address of a Hub.", "Expected http://host[:port] or https://host[:port]."),
    "portal": (
        "A captive portal or a proxy answers in the place of the Hub, or this is no Hub.",
        "Open any page in a browser on this network and sign in; check that hub.endpoint and HF_ENDPOINT name a Hub.",
    ),
    "busy": (
        "Too many requests came from this address.",
        "Wait some minutes, or put a mirror in between (`mecha hub serve --upstream`).",
    ),
    "server": ("The fault is at the server, or at a proxy before it.", "Try again later."),
    "storage": (
        "The Hub itself may be asked, and the server that holds its files may not: a list of allowed hosts is too "
        "short.",
        "Allow that host too, in the firewall or the proxy; or fetch through a mirror (`mecha hub serve --upstream`).",
    ),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask of one Hub."""

    endpoint: str
    path: str
    login: Login


def hub_findings(
    project: Project,
    environ: Mapping[str, str],
    *,
    now: Callable[[], datetime],
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Finding]:
    """Give for each Hub of the project whether it can be reached.

    Args:
        now: this device's clock, with a zone.
    """
    if is_true(environ.get("HF_HUB_OFFLINE")):
        yield note(
            "hub",
            "not asked: the network is switched off",
            _OFFLINE,
            "Leave out --offline and unset HF_HUB_OFFLINE to have it looked at.",
        )
        return
    date: datetime | None = None
    for ask in asks(project, environ):
        try:
            found = reach(ask.endpoint, ask.path, ask.login, timeout_s=timeout_s)
        except ConfigError as error:
            yield wrong("hub", str(error), "No server can be asked.", error.hint)
            return
        date = date or found.date
        yield reach_finding(found, ask)
    if date is not None and (off := clock_finding(now(), date)):
        yield off


def asks(project: Project, environ: Mapping[str, str]) -> tuple[Ask, ...]:
    """Return what to ask of which Hub: a file of the catalog, of HF_ENDPOINT alone where it is set."""
    named = environ.get("HF_ENDPOINT", "").strip()
    endpoints = (named,) if named else project.settings.hub.addresses or (DEFAULT_ENDPOINT,)
    path = _path(project)
    if path is None:
        return ()
    found: list[Ask] = []
    for number, endpoint in enumerate(endpoints):
        # HF_TOKEN is the first one's.
        known = environ if number == 0 else {k: v for k, v in environ.items() if k not in TOKEN_VARIABLES}
        public = origin(endpoint) == origin(DEFAULT_ENDPOINT)
        own = known if number == 0 or public else {**known, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        found.append(Ask(endpoint, path, find_login(own, endpoint)))
    return tuple(found)


def reach_finding(found: Reach, ask: Ask) -> Finding:
    """Return what the end of the way to a Hub means."""
    file = ask.path.partition("/resolve/")[0]
    if found.kind == "ok":
        return ok("hub", found.said)
    if found.kind == "missing":
        return note(
            "hub",
            f"{found.said} as {file}",
            "It can be reached; a mirror may hold other repos.",
            "Check repo, filename and revision in the catalog if this is to be pulled.",
        )
    if found.kind == "unauthorized" and ask.login.token:
        return wrong(
            "hub",
            found.said,
            f"The token from {ask.login.origin} is wrong, or has run out.",
            "Make a new one, or unset it for what is public.",
        )
    if found.kind == "unauthorized":
        return wrong(
            "hub",
            found.said,
            f"{file} is private, or does not exist; or this mirror asks everybody for a token.",
            "Set HF_TOKEN to a token that this server knows.",
        )
    if found.kind == "forbidden":
        filtered = "not in the words" in found.said
        return wrong(
            "hub",
            found.said,
            "A proxy or firewall refuses this server." if filtered else f"The token may not read {file}.",
            "Have the server allowed, or use a mirror on this network."
            if filtered
            else "Give the token the right to read, or ask for access on the page of the repo.",
        )
    why, remedy = _MEANT[found.kind]
    return wrong("hub", found.said, why, remedy)


def clock_finding(now: datetime, date: datetime) -> Finding | None:
    """Return what is wrong with the clock beside that of a server, None where the two agree."""
    off_s = (now - date).total_seconds()
    if abs(off_s) <= CLOCK_S:
        return None
    return wrong(
        "clock",
        f"the clock is {_span(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} the one of the Hub",
        "Certificates and signed links count as run out or not valid yet.",
        "Set the date, and let it be kept: `timedatectl set-ntp true`, or a clock with a battery.",
    )


def _path(project: Project) -> str | None:
    """Return the path of a file that this project may want; of the packaged catalog where its own has faults."""
    packaged = {sha256_of(file) for file in packaged_models()}
    for candidate in (project, _bundled(project)):
        try:
            catalog = load_catalog(candidate)
        except MechaError:
            continue
        own_first = sorted(catalog.entries, key=lambda entry: catalog.layer_of(entry.name) != "project")
        for entry in own_first:
            # What ships with mecha is on no Hub.
            if entry.repo and entry.sha256 not in packaged:
                revision = quote(entry.revision or "main", safe="")
                return f"{entry.repo}/resolve/{revision}/{quote(entry.filename)}"
    return None


def _bundled(project: Project) -> Project:
    return replace(project, root=bundled_dir(), user_root=bundled_dir(), catalog_key=None)


def _span(span_s: float) -> str:
    unit, length_s = next(
        (item for item in (("days", 86400), ("hours", 3600)) if span_s >= 2 * item[1]), ("minutes", 60)
    )
    return f"{span_s / length_s:.0f} {unit}"
