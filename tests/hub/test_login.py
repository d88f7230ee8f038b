from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from mecha.hub.login import Login, find_login, is_true
from mecha.redaction import redacted

HUB = "https://huggingface.co"
LAN = "http://192.168.1.10:8090"


def store(file: Path, content: str = "stored\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_hf_token_goes_before_a_stored_login(tmp_path: Path) -> None:
    store(tmp_path / ".cache/huggingface/token")

    assert find_login({"HF_TOKEN": " mine\n", "HOME": str(tmp_path)}, HUB) == Login("mine", "HF_TOKEN")


def test_the_older_name_is_known_too(tmp_path: Path) -> None:
    environ = {"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "mine", "HOME": str(tmp_path)}

    assert find_login(environ, HUB) == Login("mine", "HUGGING_FACE_HUB_TOKEN")


@pytest.mark.parametrize(
    ("variable", "folder", "file"),
    [
        ("HF_TOKEN_PATH", "secrets/hf", "secrets/hf"),
        ("HF_HOME", "hf", "hf/token"),
        ("XDG_CACHE_HOME", "cache", "cache/huggingface/token"),
        ("HOME", "", ".cache/huggingface/token"),
    ],
)
def test_a_stored_login_is_found_where_the_hubs_client_puts_it(
    variable: str, folder: str, file: str, tmp_path: Path
) -> None:
    stored = store(tmp_path / file)

    assert find_login({variable: str(tmp_path / folder)}, HUB) == Login("stored", str(stored))


def test_a_stored_login_is_not_sent_over_plain_http(tmp_path: Path) -> None:
    store(tmp_path / ".cache/huggingface/token")

    assert find_login({"HOME": str(tmp_path)}, LAN) == Login()


def test_a_token_that_was_named_is_sent_over_plain_http(tmp_path: Path) -> None:
    assert find_login({"HF_TOKEN": "mine", "HOME": str(tmp_path)}, LAN).token == "mine"


def test_a_stored_login_can_be_forbidden(tmp_path: Path) -> None:
    store(tmp_path / ".cache/huggingface/token")

    assert find_login({"HOME": str(tmp_path), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, HUB) == Login()


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_token_is_none(content: str, tmp_path: Path) -> None:
    store(tmp_path / ".cache/huggingface/token", content)

    assert find_login({"HOME": str(tmp_path)}, HUB) == Login()


def test_nobody_logged_in_sends_nothing(tmp_path: Path) -> None:
    assert find_login({"HOME": str(tmp_path)}, HUB) == Login()


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Login("secret", "HF_TOKEN"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("true", True), ("ON", True), ("Yes", True), ("0", False), ("", False), (None, False)],
)
def test_a_switch_is_on_for_the_words_of_the_hubs_client(value: str | None, expected: bool) -> None:
    assert is_true(value) is expected


class Held(KeyringBackend):
    """A keyring of one entry, or a locked one."""

    priority = 1.0

    def __init__(self, user: str, *, locked: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring types some of its parts
        self.user, self.locked = user, locked

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked
        return "from-the-keyring" if (service, username) == ("mecha", self.user) else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@pytest.fixture
def held() -> Iterator[Callable[[KeyringBackend], None]]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.mark.parametrize("endpoint", [HUB, f"{HUB}/", "https://user:pass@huggingface.co/path"])
def test_the_keyring_holds_a_token_for_one_server(
    held: Callable[[KeyringBackend], None], endpoint: str, tmp_path: Path
) -> None:
    store(tmp_path / ".cache/huggingface/token")
    held(Held("https://huggingface.co"))

    assert find_login({"HOME": str(tmp_path)}, endpoint) == Login("from-the-keyring", "the keyring")
    assert find_login({"HOME": str(tmp_path)}, "https://elsewhere.example").token == "stored"
    assert redacted("sent from-the-keyring") == "sent ***"


def test_a_token_for_a_server_of_plain_http_is_one_that_was_named(held: Callable[[KeyringBackend], None]) -> None:
    held(Held(LAN))

    assert find_login({}, LAN).token == "from-the-keyring"


def test_a_locked_keyring_is_none(held: Callable[[KeyringBackend], None], tmp_path: Path) -> None:
    held(Held(HUB, locked=True))

    assert find_login({"HOME": str(tmp_path)}, HUB) == Login()
