"""Secrets are taken out of all that is written: messages, logs, traces, JSON."""

import logging
import os
import re
import sys
import traceback
from types import TracebackType

HIDDEN = "***"

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MECHA_TOKEN")
# A shorter one is no secret, and would take words out of sentences.
_SHORTEST = 6
_kept: set[str] = set()
_SHAPES = (
    re.compile(r"\b()hf_[A-Za-z0-9]{8,}"),
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@'\"]+(?=@)"),
    re.compile(
        r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|signature|sig|token|"
        r"key-pair-id|policy)=)[^&\s'\"]+"
    ),
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


def hide_from_traces() -> None:
    """Let a failure that nobody foresaw end as a sentence; its trace, without secrets, is for `MECHA_LOG=debug`."""
    sys.excepthook = _unforeseen


def _unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if os.environ.get("MECHA_LOG", "").lower() == "debug":
        sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
    what = f"{kind.__name__}: {error}" if str(error) else kind.__name__
    sys.stderr.write(redacted(f"error: mecha failed where it should not: {what}\n"))
    sys.stderr.write("  next: The same command with MECHA_LOG=debug shows where; please report it.\n")
