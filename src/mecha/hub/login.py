"""The token that is shown to a Hub, and where it came from: the second is told, the first never."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mecha.hub.keyring_login import held_token
from mecha.redaction import keep_secret

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True, slots=True)
class Login:
    """A token, or none.

    Attributes:
        token: None when nothing is sent.
        origin: where the token came from, for messages; empty without one.
    """

    token: str | None = field(default=None, repr=False)
    origin: str = ""


def find_login(environ: Mapping[str, str], endpoint: str) -> Login:
    """Return the token to show to an endpoint; no output shows it.

    HF_TOKEN comes first, then what the keyring holds for this server, then what `hf auth login` stored, unless
    HF_HUB_DISABLE_IMPLICIT_TOKEN forbids that. A stored login is a person's account at the Hub: it is not sent over
    plain http, where everyone on the network can read it.
    """
    for name in TOKEN_VARIABLES:
        token = environ.get(name, "").strip()
        if token:
            return Login(token, name)
    if held := held_token(endpoint):
        keep_secret(held)
        return Login(held, "the keyring")
    return stored_login(environ) if urlsplit(endpoint).scheme == "https" else Login()


def stored_login(environ: Mapping[str, str]) -> Login:
    """Return what `hf auth login` stored, unless HF_HUB_DISABLE_IMPLICIT_TOKEN forbids its use."""
    if is_true(environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return Login()
    file = _token_file(environ)
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return Login()
    keep_secret(token)
    return Login(token, str(file)) if token else Login()


def is_true(value: str | None) -> bool:
    """Whether an environment variable is switched on, by huggingface_hub's rule."""
    return value is not None and value.lower() in _TRUE


def _token_file(environ: Mapping[str, str]) -> Path:
    if environ.get("HF_TOKEN_PATH"):
        return Path(environ["HF_TOKEN_PATH"]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "token"
    cache = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else _home(environ) / ".cache"
    return cache.expanduser() / "huggingface" / "token"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
