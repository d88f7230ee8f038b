"""The token of the daemon, and the files that hold it."""

import os
from pathlib import Path

import pytest

from mecha.daemon.token import DaemonToken, daemon_token, require_private
from mecha.errors import ConfigError, NotFoundError, UsageError
from mecha.redaction import redacted

TOKEN = "Zm9vYmFyYmF6cXV4"
MAKE = (
    'make one with: (umask 077; python3 -c "import secrets; print(secrets.token_urlsafe())" > mecha.token); '
    "then --token-file mecha.token"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mecha.token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


def test_it_comes_from_a_file_before_the_environment(file: Path) -> None:
    token = daemon_token(file, {"MECHA_TOKEN": "x" * 20})

    assert token.is_shown_by(TOKEN)
    assert not token.is_shown_by("x" * 20)
    assert daemon_token(None, {"MECHA_TOKEN": "y" * 20}).is_shown_by("y" * 20)


def test_it_is_shown_nowhere(file: Path) -> None:
    token = daemon_token(file, {})

    assert repr(token) == "DaemonToken(***)"
    assert redacted(f"GET /{TOKEN} with {TOKEN}.") == "GET /*** with ***."
    assert not hasattr(token, "__dict__")


def test_neither_an_empty_token_nor_a_longer_one_is_it() -> None:
    token = DaemonToken(TOKEN)

    assert not any(token.is_shown_by(text) for text in ("", TOKEN[:-1], TOKEN + "x", TOKEN.lower(), "\udcff"))


def test_without_one_nothing_listens_on_a_network() -> None:
    with pytest.raises(UsageError) as caught:
        daemon_token(None, {"MECHA_TOKEN": " "})

    assert str(caught.value) == "--listen: got no token; expected --token-file, or MECHA_TOKEN"
    assert caught.value.hint == MAKE


def test_a_short_one_is_refused(file: Path) -> None:
    file.write_text("short-token")

    with pytest.raises(ConfigError) as caught:
        daemon_token(file, {})

    assert str(caught.value) == (
        f"{file}: the token has 11 characters; expected 16 or more for what a network can reach"
    )
    assert caught.value.hint == MAKE


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no mode here")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)

    with pytest.raises(ConfigError) as caught:
        daemon_token(file, {})

    assert str(caught.value) == (f"--token-file {file}: got mode {mode:04o}, which lets others read it; expected 0600")
    assert caught.value.hint == f"Run `chmod 600 {file}`; if others use this machine, make a new one."


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_file_of_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = file.stat().st_uid
    if uid == 0:
        os.chown(file, 4711, -1)
        uid = 4711
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)

    with pytest.raises(ConfigError) as caught:
        require_private(file, "--tls-key")

    assert str(caught.value) == f"--tls-key {file}: got a file of user {uid}; expected one of user {uid + 1}"
    assert caught.value.hint == "Make one of your own."


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file or directory"):
        daemon_token(tmp_path / "none", {})
