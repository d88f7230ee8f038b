"""The daemon on a network: what must be given, and what is said where it is not."""

import asyncio
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette

from mecha.daemon.connection import OwnConnection
from mecha.daemon.network import Network, network
from mecha.daemon.server import Tls, _Server, tcp_listener
from mecha.errors import ConfigError, UsageError

TOKEN = {"MECHA_TOKEN": "a-token-of-this-test-0123"}
CERT, KEY = Path("cert.pem"), Path("key.pem")


def planned(listen: str, **options: Path) -> Network:
    made = network(listen, options.get("token"), options.get("cert"), options.get("key"), TOKEN)
    assert made is not None
    return made


def test_every_connection_is_looked_at_for_who_is_at_its_other_end() -> None:
    with tcp_listener("127.0.0.1:0", None) as listener:
        server = _Server(Starlette(), listener, asyncio.Event())
    assert server.config.http is OwnConnection


def test_without_an_address_it_is_on_none() -> None:
    assert network(None, None, None, None, TOKEN) is None


@pytest.mark.parametrize(("position", "option"), [(1, "--token-file"), (2, "--tls-cert"), (3, "--tls-key")], ids=str)
def test_what_is_for_tcp_alone_is_told_to_be(position: int, option: str) -> None:
    given: list[Path | None] = [None, None, None]
    given[position - 1] = Path("file")

    with pytest.raises(UsageError) as caught:
        network(None, given[0], given[1], given[2], {})

    assert str(caught.value) == f"{option}: is for TCP, and there is no --listen"
    assert caught.value.hint == "Add --listen 127.0.0.1:8765; the socket needs none of it."


@pytest.mark.parametrize("files", [{"cert": CERT}, {"key": KEY}])
def test_a_certificate_needs_its_key(files: dict[str, Path]) -> None:
    with pytest.raises(UsageError) as caught:
        planned("127.0.0.1:8765", **files)

    assert str(caught.value) == "--tls-cert and --tls-key: got one of them; expected both, or none"


def test_its_token_opens_it_and_its_name_is_known() -> None:
    made = planned("Robot.example:8765", cert=CERT, key=KEY)

    assert made.tls == Tls(CERT, KEY)
    assert "robot.example" in made.names
    assert made.token.is_shown_by(TOKEN["MECHA_TOKEN"])
    assert made.access(print).token is made.token


def test_it_says_where_it_answers() -> None:
    assert planned("127.0.0.1:0").url(("127.0.0.1", 8765)) == "http://127.0.0.1:8765"
    assert planned("[::1]:0", cert=CERT, key=KEY).url(("::1", 8765, 0, 0)) == "https://[::1]:8765"


def test_a_token_in_the_clear_is_warned_of_where_it_leaves_the_machine() -> None:
    assert planned("0.0.0.0:8765").warning == (
        "--listen 0.0.0.0:8765: without --tls-cert others on this network can read the token and all that is sent; "
        "give a certificate, or listen on 127.0.0.1 and come through SSH"
    )
    assert not planned("0.0.0.0:8765", cert=CERT, key=KEY).warning
    assert not any(planned(here).warning for here in ("127.0.0.1:1", "[::1]:1", "localhost:1"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no mode here")
def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o644)

    with pytest.raises(ConfigError) as caught, tcp_listener("127.0.0.1:0", Tls(CERT, key)):
        pass

    assert str(caught.value) == f"--tls-key {key}: got mode 0644, which lets others read it; expected 0600"
