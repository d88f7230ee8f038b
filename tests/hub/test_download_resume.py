"""A download that was stopped goes on: after kill -9, after a loss of power, on a full disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from mecha.errors import DiskError, IntegrityError, NotFoundError
from mecha.hub.download import download
from mecha.hub.huggingface import HuggingFaceSource
from mecha.hub.mirror import running_mirror
from mecha.hub.partial import PartialFile, opened_partial, sidecar_path
from mecha.progress import silent
from tests.hub.fetched import CONTENT, FLIPPED, OTHER, SIZE, fetch, git_digest, remote_file
from tests.hub.rough_server import Reply, RoughServer, always, honest, rough_server

DEADLINE_S = 30.0
CHILD = """
import sys
from pathlib import Path
from mecha.hub.download import download
from mecha.hub.huggingface import HuggingFaceSource
from mecha.progress import silent
endpoint, partial, limit = sys.argv[1:]
remote = HuggingFaceSource(endpoint).resolve("owner/name", "model.onnx")
download(remote, Path(partial), progress=silent, limit_bytes_per_s=int(limit))
"""


def test_after_kill_9_only_the_rest_is_transferred(tmp_path: Path, partial: Path) -> None:
    content = os.urandom(8_000_000)
    served = tmp_path / "served"
    (served / "owner/name").mkdir(parents=True)
    (served / "owner/name/model.onnx").write_bytes(content)
    with running_mirror(served) as mirror:
        child = subprocess.Popen([sys.executable, "-c", CHILD, mirror.endpoint, str(partial), "8000000"])
        try:
            wait_for_size(partial, 3_200_000)
        finally:
            child.kill()
            child.wait()
        kept = partial.stat().st_size
        remote = HuggingFaceSource(mirror.endpoint).resolve("owner/name", "model.onnx")
        result = download(remote, partial, progress=silent)
        last = mirror.requests[-1]

    assert partial.read_bytes() == content
    assert 3_200_000 <= kept < len(content)
    assert (result.resumed_from, result.transferred_bytes) == (kept, len(content) - kept)
    assert (last.method, last.status, last.body_bytes) == ("GET", 206, len(content) - kept)


def wait_for_size(path: Path, size: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < deadline, f"{path} did not reach {size} bytes"
        time.sleep(0.005)


def stop_at(server: RoughServer, partial: Path, **changes: Any) -> None:
    """Run a download that ends where the server stops, as a process that is killed there would leave it."""
    with pytest.raises(NotFoundError):
        fetch(replace(remote_file(server), **changes), partial)


GONE = always(Reply(404))


def test_what_came_is_counted_from_the_start_of_the_next_run(partial: Path) -> None:
    told: list[int] = []
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(CONTENT)) as server:
        stop_at(server, partial)
        download(remote_file(server), partial, progress=lambda stage, completed, total: told.append(completed))

    assert told[0] == 9000
    assert told[-1] == SIZE


def test_the_address_may_change_between_two_runs(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), GONE) as server:
        stop_at(server, partial)
    with rough_server(honest(CONTENT)) as server:
        result = fetch(replace(remote_file(server), commit="d" * 40), partial)

    assert (result.resumed_from, server.seen[0].range_start) == (9000, 9000)


def test_bytes_of_another_file_are_not_taken_over(partial: Path) -> None:
    with rough_server(honest(OTHER, cut_after=9000), GONE, honest(CONTENT)) as server:
        with pytest.raises(NotFoundError):
            fetch(remote_file(server, OTHER), partial)
        result = fetch(remote_file(server), partial)

    assert (result.resumed_from, result.transferred_bytes) == (0, SIZE)
    assert server.seen[-1].range_start == 0


def test_a_file_that_is_whole_already_costs_no_connection(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        fetch(remote_file(server), partial)
    result = fetch(remote_file(server), partial)

    assert (result.resumed_from, result.transferred_bytes) == (SIZE, 0)


def test_416_means_whole_when_the_size_was_never_said(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        remote = replace(remote_file(server), size_bytes=None)
        write_sidecar(partial, remote)
        partial.write_bytes(CONTENT)
        result = fetch(remote, partial)

    assert (result.transferred_bytes, server.seen[0].range_start) == (0, SIZE)


@pytest.mark.parametrize(
    "tail", [bytes(3000), os.urandom(3000)], ids=["zeros where data never reached the disk", "garbage"]
)
def test_after_a_loss_of_power_the_file_is_fetched_once_more_from_the_start(tail: bytes, partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(CONTENT)) as server:
        stop_at(server, partial)
        partial.write_bytes(CONTENT[:6000] + tail)
        result = fetch(remote_file(server), partial)

    assert partial.read_bytes() == CONTENT
    assert [seen.range_start for seen in server.seen[2:]] == [9000, 0]
    assert result.resumed_from == 0


def test_a_whole_file_that_was_damaged_on_the_disk_is_fetched_once_more(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        write_sidecar(partial, remote_file(server))
        partial.write_bytes(FLIPPED)
        fetch(remote_file(server), partial)

    assert partial.read_bytes() == CONTENT
    assert [seen.range_start for seen in server.seen] == [0]


def test_a_wrong_file_is_fetched_once_more_and_no_more_than_once(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(FLIPPED)) as server:
        stop_at(server, partial)
        with pytest.raises(IntegrityError):
            fetch(remote_file(server), partial)

    assert [seen.range_start for seen in server.seen[2:]] == [9000, 0]
    assert list(partial.parent.iterdir()) == []


def test_a_longer_file_than_the_whole_is_dropped(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        write_sidecar(partial, remote_file(server))
        partial.write_bytes(CONTENT + b"x")
        result = fetch(remote_file(server), partial)

    assert (result.resumed_from, partial.read_bytes()) == (0, CONTENT)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"sha256": "x"}', "\x00"])
def test_without_a_sidecar_that_can_be_read_the_bytes_are_dropped(text: str, partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(CONTENT)) as server:
        stop_at(server, partial)
        sidecar_path(partial).write_text(text)
        result = fetch(remote_file(server), partial)

    assert result.resumed_from == 0


def test_without_a_digest_to_prove_the_whole_nothing_is_taken_over(partial: Path) -> None:
    unknown: dict[str, Any] = {"sha256": None, "etag": "opaque"}
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(CONTENT)) as server:
        stop_at(server, partial, **unknown)
        result = fetch(replace(remote_file(server), **unknown), partial)

    assert result.resumed_from == 0


def test_a_git_digest_is_proof_enough_to_go_on(partial: Path) -> None:
    known: dict[str, Any] = {"sha256": None, "etag": git_digest(CONTENT)}
    with rough_server(honest(CONTENT, cut_after=9000), GONE, honest(CONTENT)) as server:
        stop_at(server, partial, **known)
        result = fetch(replace(remote_file(server), **known), partial)

    assert result.resumed_from == 9000


class FullDisk(FileIO):
    """A file on a disk with room for so many bytes."""

    room = 70_000

    def write(self, data: Any, /) -> int:
        fits = bytes(data)[: self.room]
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(fits)
        return super().write(fits)


def test_a_full_disk_keeps_what_fitted(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        remote = remote_file(server)
        with FullDisk(partial, "w+") as file:
            full = PartialFile(partial, remote, file)
            full.start_over('"v1"')
            with pytest.raises(DiskError, match="cannot write: no space left"):
                full.append(CONTENT[:100_000])
        result = fetch(remote, partial)

    assert (result.resumed_from, server.seen[0].range_start) == (70_000, 70_000)


FILL_CHILD = """
import sys
from pathlib import Path
from mecha.errors import DiskError
from mecha.hub.download import download
from mecha.hub.huggingface import HuggingFaceSource
from mecha.progress import silent
endpoint, partial = sys.argv[1], Path(sys.argv[2])
try:
    download(HuggingFaceSource(endpoint).resolve("owner/name", "model.onnx"), partial, progress=silent)
except DiskError as error:
    print(partial.stat().st_size, error)
"""


def test_a_small_disk_that_fills_up_says_so(tmp_path: Path) -> None:
    served, disk = tmp_path / "served", tmp_path / "disk"
    (served / "owner/name").mkdir(parents=True)
    (served / "owner/name/model.onnx").write_bytes(os.urandom(2_000_000))
    disk.mkdir()
    # A disk of its own that goes away with the process; not every system lets one be made.
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounting = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*mount, mounting], check=False, capture_output=True).returncode:
        pytest.skip("no private file systems here")
    with running_mirror(served) as mirror:
        child = [sys.executable, "-c", FILL_CHILD, mirror.endpoint, str(disk / "model.partial")]
        filled = subprocess.run(
            [*mount, f'{mounting} && exec "$@"', "sh", *child], check=True, capture_output=True, text=True
        )

    size, _, message = filled.stdout.strip().partition(" ")
    assert 900_000 < int(size) <= 1_048_576
    assert message.startswith(f"{disk / 'model.partial'}: cannot write: no space left: ")


def write_sidecar(partial: Path, remote: Any) -> None:
    """Leave the sidecar that a download of this file would have left."""
    with FileIO(partial, "a+") as file:
        PartialFile(partial, remote, file).start_over('"v1"')


def test_the_sidecar_says_what_the_bytes_are_part_of(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), GONE) as server:
        stop_at(server, partial)
        remote = remote_file(server)

    assert json.loads(sidecar_path(partial).read_text()) == {
        "repo": "owner/name",
        "repo_type": "model",
        "filename": "model.onnx",
        "commit": "c" * 40,
        "etag": remote.sha256,
        "sha256": remote.sha256,
        "size_bytes": SIZE,
        "validator": '"v1"',
        "server": server.endpoint,
    }


def test_a_partial_file_is_only_as_long_as_the_bytes_that_were_hashed(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server, opened_partial(partial, remote_file(server)) as file:
        file.start_over(None)
        file.append(CONTENT[:10])

        assert (file.size, partial.stat().st_size) == (10, 10)
