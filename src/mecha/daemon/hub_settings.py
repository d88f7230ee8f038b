"""What an environment says of the Hub and the cache, as one digest: whether two processes would pull the same way."""

import json
from collections.abc import Mapping
from hashlib import sha256

_PREFIXES = ("HF_", "HUGGING_FACE_", "SSL_CERT_")
_NAMES = frozenset(
    {"MECHA_CACHE_DIR", "MECHA_CACHE_QUOTA", "MECHA_CATALOG_KEY", "MECHA_FROZEN", "XDG_CACHE_HOME", "XDG_DATA_HOME"}
)


def settings_digest(environ: Mapping[str, str]) -> str:
    """Return a digest of all variables that a pull depends on: endpoints, tokens, proxies, the cache."""
    said = {name: value for name, value in environ.items() if _counts(name) and value}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _counts(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in _NAMES or name.upper().endswith("_PROXY")
