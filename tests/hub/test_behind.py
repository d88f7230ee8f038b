"""What a download does beside the transfer."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from mecha.hub.behind import EarlySync, RunningDigest
from tests.threads import left_threads


@pytest.mark.parametrize("sizes", [(), (0,), (1, 2, 3), (1 << 20,), (700_000,) * 40], ids=str)
def test_the_running_digest_is_that_of_all_bytes_at_any_moment(sizes: tuple[int, ...]) -> None:
    digest, plain = RunningDigest(), hashlib.sha256()
    for number, size in enumerate(sizes):
        data = bytes([number]) * size
        digest.update(data)
        plain.update(data)
        if number % 7 == 3:
            assert digest.hexdigest() == plain.hexdigest()
    assert digest.hexdigest() == plain.hexdigest()


def test_its_thread_ends_with_the_digest() -> None:
    digest, before = RunningDigest(), set(threading.enumerate())
    digest.update(bytes(3 << 20))
    assert "mecha-sha256" in left_threads(before)
    digest.hexdigest()
    assert "mecha-sha256" not in left_threads(before)


def test_a_disk_that_refuses_early_is_told_to_who_waits_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        early = EarlySync(writing)  # a pipe cannot be brought to a disk
        early.wrote(17 << 20)
        with pytest.raises(OSError, match="Invalid argument"):
            early.wait()
        early.wait()
    finally:
        os.close(reading)
        os.close(writing)
