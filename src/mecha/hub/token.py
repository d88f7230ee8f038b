"""Tokens come from a file or from MECHA_TOKEN, never from a command line that other users can read."""

from collections.abc import Mapping
from pathlib import Path

from mecha.errors import ConfigError, NotFoundError
from mecha.redaction import keep_secret

_MIN_LENGTH = 8


def read_token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the token that clients must show, or None when nobody asked for one.

    Raises:
        NotFoundError: the file cannot be read.
        ConfigError: the token is too short to be one, or not printable ASCII.
    """
    where = f"{file}" if file else "MECHA_TOKEN"
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise NotFoundError(
                f"--token-file {file}: {error.strerror}", hint="name a file that holds one line"
            ) from error
    else:
        token = environ.get("MECHA_TOKEN", "").strip()
        if not token:
            return None
    if len(token) < _MIN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where}: the token has {len(token)} characters; expected one line of at least {_MIN_LENGTH} letters "
            "and digits",
            hint='make one with: python3 -c "import secrets; print(secrets.token_urlsafe())"',
        )
    keep_secret(token)
    return token
