"""What a gateway keeps where its disk is not to fill: real gateways before a real mirror."""

import time
from pathlib import Path

import httpx2
import pytest

from mecha.hub.mirror import running_mirror
from tests.hub.test_gateway import gateway
from tests.service.conftest import Bench

BYTES = {"a": 400_000, "b": 400_001, "c": 400_002, "large": 1_500_000}
ROOM = ("--keep-gb", "0.001")
"""For two of them."""


@pytest.fixture
def far(tmp_path: Path) -> Path:
    repo = tmp_path / "far/owner/name"
    repo.mkdir(parents=True)
    for name, size in BYTES.items():
        (repo / f"{name}.onnx").write_bytes(name[:1].encode() * size)
    return tmp_path / "far"


def brought(address: str, name: str) -> bytes:
    answer = httpx2.get(f"{address}/owner/name/resolve/main/{name}.onnx")
    assert answer.status_code == 200, answer.text
    return answer.content


def kept(folder: Path) -> set[str]:
    sizes = {path.stat().st_size for path in (folder / ".upstream/blobs").iterdir() if not path.name.startswith(".")}
    return {name for name, size in BYTES.items() if size in sizes}


def settled(folder: Path, expected: set[str]) -> None:
    """The last byte is sent before what is too much is removed."""
    deadline_s = time.monotonic() + 10
    while kept(folder) != expected and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert kept(folder) == expected


def test_what_nobody_asked_for_for_longest_makes_room_and_is_fetched_again(tmp_path: Path, far: Path) -> None:
    folder = tmp_path / "kept"
    with running_mirror(far) as upstream, gateway(folder, upstream.endpoint, options=ROOM) as address:
        for name, left in (("a", {"a"}), ("b", {"a", "b"}), ("c", {"b", "c"}), ("a", {"c", "a"})):
            assert brought(address, name) == name.encode() * BYTES[name]
            settled(folder, left)
        # One that is larger than all of the room is kept alone.
        assert len(brought(address, "large")) == BYTES["large"]
        settled(folder, {"large"})


def test_a_gateway_that_starts_with_less_room_makes_it(tmp_path: Path, far: Path) -> None:
    folder = tmp_path / "kept"
    with running_mirror(far) as upstream:
        with gateway(folder, upstream.endpoint) as address:
            for name in "abc":
                brought(address, name)
        assert kept(folder) == {"a", "b", "c"}
        with gateway(folder, upstream.endpoint, options=ROOM):
            assert kept(folder) == {"b", "c"}


@pytest.mark.parametrize("size", ["inf", "nan", "1000001"])
def test_room_that_no_disk_has_is_refused(tmp_path: Path, size: str) -> None:
    serve = ("hub", "serve", str(tmp_path / "kept"), "--upstream", "http://127.0.0.1:9", "--keep-gb", size)
    done = Bench(tmp_path, tmp_path).command(*serve)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "Error: Invalid value for '--keep-gb': Input should be less than or equal to 1000000"
    )


def test_settings_that_cannot_be_read_are_no_matter_without_an_upstream(tmp_path: Path, far: Path) -> None:
    (tmp_path / "model_catalog.toml").write_text("")
    (tmp_path / "configs/common").mkdir(parents=True)
    (tmp_path / "configs/common/mecha.toml").write_text("[hub\n")
    with Bench(tmp_path, tmp_path).start("hub", "serve", str(far), "--port", "0") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
    assert first.startswith(f"serving {far} at http://127.0.0.1:")


def test_room_is_for_what_an_upstream_has(tmp_path: Path) -> None:
    done = Bench(tmp_path, tmp_path).command("hub", "serve", str(tmp_path / "kept"), "--keep-gb", "1")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --keep-gb: is for what is fetched, and there is no --upstream\n  next: Add --upstream URL.\n"
    )
