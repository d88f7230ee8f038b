"""Secrets are taken out of all that is written: messages, logs, traces, JSON."""

import logging
import os
import re
import traceback

HIDDEN = "***"

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MECHA_TOKEN")
# A shorter one is no secret, and would take words out of sentences.
_SHORTEST = 6
_kept: set[str] = set()
_SHAPES = (
    re.compile(r"\b()hf_[A-Za-z0-9]{8,}"),
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s'\"]+(?=@)"),
    re.compile(
        r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|signature|sig|token|"
        r"key-pair-id|policy)=)[^&\s'\"]+"
    ),
    # Cheap cameras take them in the query or in the path.
    re.compile(r"(?i)([?&/_](?:password|passwd|passwort|pass|pwd|psw|secret|auth)=)[^&/\s'\"]+"),
)


def keep_secret(secret: str) -> None:
    """Take a secret out of whatever this process writes from now on."""
    if len(secret) >= _SHORTEST:
        _kept.add(secret)


def redacted(text: str) -> str:
    """Return a text without the secrets of this process, and without what is shaped like one.

    Known are those of the environment (HF_TOKEN, MECHA_TOKEN) and those that were read from a file or a keyring.
    """
    stated = (os.environ.get(name, "").strip() for name in _VARIABLES)
    known = _kept | {secret for secret in stated if len(secret) >= _SHORTEST}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for shape in _SHAPES:
        text = shape.sub(rf"\g<1>{HIDDEN}", text)
    return text


class RedactingFormatter(logging.Formatter):
    """Writes records without secrets; their traces too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        return redacted(super().format(record))


def unforeseen(error: BaseException) -> str:
    """Return a failure that nobody foresaw as lines without secrets; its trace is for `MECHA_LOG=debug`."""
    trace = "".join(traceback.format_exception(error)) if os.environ.get("MECHA_LOG", "").lower() == "debug" else ""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return redacted(
        f"{trace}error: mecha failed where it should not: {what}\n"
        "  next: The same command with MECHA_LOG=debug shows where; please report it.\n"
    )
