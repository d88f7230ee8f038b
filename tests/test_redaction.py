"""No output shows a token, whatever fails, and however much is shown."""

import logging
import subprocess
import sys

import pytest

from mecha.redaction import HIDDEN, RedactingFormatter, keep_secret, redacted

TOKEN = "a-secret-of-31-signs-1234567890"


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MECHA_TOKEN"])
def test_a_token_of_the_environment_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f" {TOKEN}\n")

    assert redacted(f"got {TOKEN}; expected another") == "got ***; expected another"


def test_a_token_that_was_read_is_hidden() -> None:
    keep_secret("from-a-file-0123")

    assert redacted("x from-a-file-0123 y") == "x *** y"


def test_a_few_letters_are_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "model")
    keep_secret("a")

    assert redacted("a model") == "a model"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_abcdefghijklmnop is wrong", "token *** is wrong"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("b'authorization', b'Basic dXNlcjpwYXNz'", "b'authorization', b'Basic ***'"),
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://host/x?X-Amz-Signature=00ff&y=1", "https://host/x?X-Amz-Signature=***&y=1"),
        ('"rtsp://user:p@ss@host/x"', '"rtsp://***@host/x"'),
        (
            "rtsp://host/user=a&password=b&channel=1 -> x?PWD=c",
            "rtsp://host/user=a&password=***&channel=1 -> x?PWD=***",
        ),
        ("owner/name@main at https://host/a@b", "owner/name@main at https://host/a@b"),
    ],
)
def test_what_is_shaped_like_a_secret_is_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_trace_in_the_log_is_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = ValueError(TOKEN)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s", (TOKEN,), (ValueError, error, None))

    written = RedactingFormatter("%(message)s").format(record)

    assert TOKEN not in written
    assert f"ValueError: {HIDDEN}" in written


FAILS = f"""
import sys
import mecha.cli.app as program
from mecha.service.models import ModelService
def fail(self): raise ValueError("sent {TOKEN}")
ModelService.rows = fail
sys.argv = ["mecha", "models", "list"]
program.main()
"""


def test_a_failure_that_nobody_foresaw_is_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=False,
                          env={"HF_TOKEN": TOKEN})  # fmt: skip

    assert done.returncode == 70
    assert done.stderr == (
        "error: mecha failed where it should not: ValueError: sent ***\n"
        "  next: The same command with MECHA_LOG=debug shows where; please report it.\n"
    )


def test_its_trace_is_shown_to_who_asks_without_the_token() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=False,
                          env={"HF_TOKEN": TOKEN, "MECHA_LOG": "debug"})  # fmt: skip

    assert "Traceback (most recent call last)" in done.stderr
    assert TOKEN not in done.stderr
