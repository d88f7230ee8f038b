"""What a test asks of a detector slot, and of its log."""

import logging

import pytest

from mecha.runtime.slot import DetectorSlot
from tests.runtime.fake_detectors import FRAME
from tests.runtime.waiting import wait_for

DEADLINE_S = 60.0


def precision(slot: DetectorSlot) -> str:
    return slot.run(FRAME).precision


def runs(slot: DetectorSlot, wanted: str) -> bool:
    return precision(slot) == wanted


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def settled(slot: DetectorSlot) -> bool:
    """Nothing is being loaded."""
    return slot._answered == slot._wishes


def run_until(slot: DetectorSlot, wanted: str) -> None:
    wait_for(lambda: runs(slot, wanted), timeout_s=DEADLINE_S)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings and errors."""
    return messages(caplog, logging.WARNING)


def said(caplog: pytest.LogCaptureFixture, sentence: str) -> None:
    """Wait until a warning or an error says just this."""
    wait_for(lambda: sentence in told(caplog), timeout_s=DEADLINE_S, what=sentence)
