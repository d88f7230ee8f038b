"""A disk that fills at twenty points: what was published stays usable, and the message says what to do."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mecha.store.models import ModelStore
from tests.reliability.robot import NAME, Hubs, copy_of, forget, hubs, published_digest, robot
from tests.service.conftest import Bench
from tests.service.test_wrong_input import mounted

SIZE_BYTES = 1_000_000
DISK_MB = 96
PULL = ("models", "pull", NAME, "--force")


@dataclass(frozen=True)
class Point:
    """Where the disk fills.

    Attributes:
        free_bytes: left when it does.
        arrived_bytes: of the download, when it does; None before the command starts.
    """

    free_bytes: int
    arrived_bytes: int | None
    command: tuple[str, ...] = PULL
    int8: bool = False

    def __str__(self) -> str:
        when = "before" if self.arrived_bytes is None else f"after {self.arrived_bytes // 1000} kB"
        return f"{self.command[1]}, {self.free_bytes // 1000} kB left {when}"


# The download checks first that 64 MB stay free; what comes after the check finds the disk as others have filled it.
POINTS = (
    *(Point(free, None) for free in (0, 8_192, 500_000, 30_000_000, 64_500_000)),
    *(Point(share * SIZE_BYTES // 10, 100_000) for share in (0, 3, 6, 8)),
    *(Point(SIZE_BYTES - 100_000 + pages * 4096, 100_000) for pages in (0, 1, 2, 3, 4, 6, 8, 10)),
    *(Point(free, None, ("models", "quantize", NAME), int8=True) for free in (0, 131_072, 400_000)),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hubs]:
    with hubs(tmp_path_factory.mktemp("hubs"), size_bytes=SIZE_BYTES) as running:
        yield running


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory, served: Hubs) -> dict[bool, Bench]:
    """Robots that have FP32 of the old version, by whether their catalog asks for INT8."""
    benches = {}
    for int8 in (False, True):
        benches[int8] = robot(tmp_path_factory.mktemp("robot") / "robot", served.endpoint("old"), int8=int8)
        assert benches[int8].command("models", "pull", NAME, "--no-quantize").returncode == 0
    return benches


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    with mounted(folder, f"size={DISK_MB}m"):
        yield folder


def fill(disk: Path, leave_bytes: int) -> None:
    """Take all of the disk but so many bytes, while others write to it."""
    with (disk / "filler").open("wb") as file:
        while True:
            status = os.statvfs(disk)
            more = status.f_bavail * status.f_frsize - leave_bytes
            if more <= 0:
                return
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), file.tell(), more)
                file.seek(more, os.SEEK_CUR)


def run(point: Point, bench: Bench, disk: Path) -> "subprocess.CompletedProcess[str]":
    if point.arrived_bytes is None:
        fill(disk, point.free_bytes)
        return bench.command(*point.command)
    running = bench.start(*point.command, "--limit-rate", "2M")
    deadline = time.monotonic() + 60
    partial = bench.home / "cache" / "partial"
    while running.poll() is None and not any(
        file.stat().st_size >= point.arrived_bytes for file in partial.glob("*") if not file.suffix
    ):
        assert time.monotonic() < deadline, "the download does not begin"
        time.sleep(0.002)
    fill(disk, point.free_bytes)
    said, _ = running.communicate(timeout=60)
    return subprocess.CompletedProcess(point.command, running.returncode, said, said)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_disk_that_fills_at_any_point_keeps_the_published_model_and_says_what_to_do(
    disk: Path, pulled: dict[bool, Bench], served: Hubs, point: Point
) -> None:
    bench = copy_of(pulled[point.int8], disk / "robot", served.endpoint("new"))
    try:
        done = run(point, bench, disk)
        assert ModelStore(bench.root / "models").verify(NAME) == ()
        assert "Traceback" not in done.stderr
        if done.returncode == 0:
            assert published_digest(bench) in served.digests.values()
            return
        assert done.returncode == 7, done.stderr
        assert published_digest(bench) == served.digests["old"]
        error, hint = done.stderr.splitlines()[-2:]
        assert error.startswith(f"error: {disk}/robot/")
        assert " free" in error
        assert hint.startswith("  next: ")
        assert "Free some space" in hint
        if point.arrived_bytes is not None:
            (disk / "filler").unlink()
            again = bench.command(*point.command)
            assert again.returncode == 0, again.stderr
            assert published_digest(bench) == served.digests["new"]
    finally:
        (disk / "filler").unlink(missing_ok=True)
        forget(bench)
