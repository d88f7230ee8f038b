"""The token of the daemon: from a file that only its owner reads, or from MECHA_TOKEN."""

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mecha.errors import ConfigError, UsageError
from mecha.hub.token import read_token

_MIN_LENGTH = 16
_MAKE_ONE = (
    'make one with: (umask 077; python3 -c "import secrets; print(secrets.token_urlsafe())" > mecha.token); '
    "then --token-file mecha.token"
)


class DaemonToken:
    """A secret that is compared and never shown.

    Args:
        text: what clients send.
    """

    __slots__ = ("_digest",)

    def __init__(self, text: str) -> None:
        self._digest = _digest(text)

    def __repr__(self) -> str:
        return "DaemonToken(***)"

    def is_shown_by(self, text: str) -> bool:
        """Tell whether it is the token, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(self._digest, _digest(text))


def daemon_token(file: Path | None, environ: Mapping[str, str]) -> DaemonToken:
    """Return what clients must show over TCP; it is taken out of all that this process writes.

    Raises:
        UsageError: nobody said which.
        NotFoundError: the file cannot be read.
        ConfigError: others can read the file, or the token is too short to be one.
    """
    if file is not None:
        require_private(file, "--token-file")
    text = read_token(file, environ)
    if text is None:
        raise UsageError("--listen: got no token; expected --token-file, or MECHA_TOKEN", hint=_MAKE_ONE)
    if len(text) < _MIN_LENGTH:
        raise ConfigError(
            f"{file or 'MECHA_TOKEN'}: the token has {len(text)} characters; expected {_MIN_LENGTH} or more for what "
            "a network can reach",
            hint=_MAKE_ONE,
        )
    return DaemonToken(text)


def require_private(file: Path, option: str) -> None:
    """See that only its owner can read a file with a secret. One that is not there is found out by who reads it.

    Raises:
        ConfigError: others can read it, or it is somebody else's.
    """
    if not hasattr(os, "getuid"):
        return
    try:
        status = file.stat()
    except OSError:
        return
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{option} {file}: got mode {stat.S_IMODE(status.st_mode):04o}, which lets others read it; expected 0600",
            hint=f"Run `chmod 600 {file}`; if others use this machine, make a new one.",
        )
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(
            f"{option} {file}: got a file of user {status.st_uid}; expected one of user {os.geteuid()}",
            hint="Make one of your own.",
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
