"""What a test asks of a detector slot, and of its log."""

import logging

import pytest

from mecha.runtime.slot import DetectorSlot
from tests.runtime.fake_detectors import FRAME


def precision(slot: DetectorSlot) -> str:
    return slot.run(FRAME).precision


def runs(slot: DetectorSlot, wanted: str) -> bool:
    return precision(slot) == wanted


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]
