"""The cache keeps to its quota without taking from anybody what he needs."""

import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from mecha.store.blobs import BlobCache
from mecha.store.cached import Cached, contents
from mecha.store.eviction import evict, eviction_order, over_quota
from mecha.store.leases import Leases
from mecha.store.leftovers import orphan_locks, partials, sweep_leftover, unfinished
from mecha.store.locks import exclusive
from mecha.store.usage import DAY_S, UseRecord
from tests.store.example import environment


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache")


def put(cache: BlobCache, content: bytes) -> str:
    digest = sha256(content).hexdigest()
    partial = cache.partial(digest)
    partial.write_bytes(content)
    cache.adopt(partial, digest)
    return digest


def build(cache: BlobCache, key: str, content: bytes = b"int8") -> None:
    with cache.build_staging(key) as staged:
        (staged / "model-int8.onnx").write_bytes(content)
        cache.adopt_build(staged, key)


def used(cache: BlobCache, item: str, days_ago: float) -> None:
    at = time.time() - days_ago * DAY_S
    os.utime(cache.root / "used" / item, (at, at))


def of(cache: BlobCache, key: str) -> Cached:
    return next(cached for cached in contents(cache.root) if cached.key == key)


def test_a_use_is_noted_once_a_day_and_never_on_the_file_itself(cache: BlobCache) -> None:
    digest = put(cache, b"one")
    blob, note = cache.path(digest), cache.root / "used" / f"download-{digest}"
    before = blob.stat().st_mtime_ns
    for days_ago, written in ((0.9, False), (1.1, True), (-3, True)):
        used(cache, note.name, days_ago)
        at = note.stat().st_mtime
        assert cache.find(digest) == blob
        assert (note.stat().st_mtime != at) is written
    assert blob.stat().st_mtime_ns == before


def test_what_people_call_it_is_kept(cache: BlobCache) -> None:
    digest = put(cache, b"one")
    cache.called("download", digest, "yolov8n")
    cache.find(digest)
    assert of(cache, digest).name == "yolov8n"


def test_a_cache_that_cannot_be_written_is_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "used").write_text("in the way")
    uses = UseRecord(tmp_path)
    uses.note("download-1")
    assert (uses.last("download-1"), uses.name("download-1"), uses.items()) == (None, "", ())


def test_int8_goes_before_fp32_the_least_recently_used_first_and_what_cannot_be_made_again_last(
    cache: BlobCache,
) -> None:
    old, new = put(cache, b"old download"), put(cache, b"new download")
    for key in ("seen", "fresh", "stale"):
        build(cache, key)
    for item, days_ago in ((f"download-{old}", 30), (f"download-{new}", 2), ("build-seen", 90), ("build-fresh", 1),
                           ("build-stale", 5)):  # fmt: skip
        used(cache, item, days_ago)
    prepared = cache.root / "prepared" / "copy"
    prepared.parent.mkdir()
    prepared.write_bytes(b"x")
    order = eviction_order(contents(cache.root), precious={"build-seen"})
    assert [cached.key for cached in order] == ["copy", "stale", "fresh", old, new, "seen"]


def test_only_as_much_goes_as_the_quota_asks_for(cache: BlobCache, tmp_path: Path) -> None:
    digests = [put(cache, bytes([number]) * 1000) for number in range(5)]
    for number, digest in enumerate(digests):
        used(cache, f"download-{digest}", 10 - number)
    cache.link(digests[0], tmp_path / "model.onnx")
    items = contents(cache.root)
    pinned = {f"download-{digests[1]}": "pinned"}

    def gone(quota_bytes: int, besides_bytes: int = 0) -> list[str]:
        return [cached.key for cached in over_quota(items, pinned, quota_bytes, besides_bytes=besides_bytes)]

    assert gone(5000) == []
    assert gone(4999) == [digests[2]], "the oldest is linked into a project, the next one pinned"
    assert gone(5000, besides_bytes=1) == [digests[2]]
    assert gone(0) == digests[2:], "more cannot be done"


def test_evicting_takes_a_build_or_a_download_whole(cache: BlobCache) -> None:
    digest = put(cache, b"one")
    build(cache, "key")
    for cached in contents(cache.root):
        assert evict(cache.root, cached) == ""
        assert evict(cache.root, cached) == "", "gone already"
    assert contents(cache.root) == ()
    assert cache.find(digest) is None
    assert cache.find_build("key") is None
    assert UseRecord(cache.root).items() == ()


def test_what_somebody_needs_stays_until_he_is_done(cache: BlobCache) -> None:
    digest = put(cache, b"one")
    build(cache, "key")
    other = BlobCache(cache.root)
    with other.keeping(), other.keeping():
        assert other.find(digest) is not None
        assert other.find_build("key") is not None
        held = [evict(cache.root, cached) for cached in contents(cache.root)]
        assert held == [f"process {os.getpid()}"] * 2
    assert [evict(cache.root, cached) for cached in contents(cache.root)] == ["", ""]


def test_a_lease_ends_with_its_process(cache: BlobCache) -> None:
    digest = put(cache, b"one")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom mecha.store.blobs import BlobCache\n"
        "cache = BlobCache(Path(sys.argv[1]))\n"
        "with cache.keeping():\n    cache.find(sys.argv[2])\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(cache.root), digest]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        assert evict(cache.root, of(cache, digest)) == f"process {running.pid}"
        running.kill()
    assert Leases(cache.root).holder(f"download-{digest}") is None
    assert evict(cache.root, of(cache, digest)) == ""
    assert list((cache.root / "leases").iterdir()) == []


def test_a_build_that_is_being_made_is_left(cache: BlobCache) -> None:
    build(cache, "key")
    lock = cache.build_dir("key").with_suffix(".lock")
    with exclusive(lock, timeout_s=0, doing="INT8 build of m"):
        assert evict(cache.root, of(cache, "key")) == f"process {os.getpid()} (INT8 build of m)"


def test_an_old_partial_goes_with_all_that_is_named_after_it(cache: BlobCache) -> None:
    keys = ["a" * 64, "b" * 64]
    for key, hours_ago in zip(keys, (73, 71), strict=True):
        for file in (cache.partial(key), cache.partial(f"{key}.json")):
            file.write_bytes(b"half")
            at = time.time() - hours_ago * 3600
            os.utime(file, (at, at))
    old, young = partials(cache.root)
    assert (old.size_bytes, round(old.age_s / 3600), round(young.age_s / 3600)) == (8, 73, 71)
    lock = cache.partial(keys[0]).with_suffix(".lock")
    with exclusive(lock, timeout_s=0, doing="download of m.onnx"):
        assert sweep_leftover(old) == f"process {os.getpid()} (download of m.onnx)"
    assert sweep_leftover(old) == ""
    assert sweep_leftover(young) == "another process", "somebody wrote to it less than 72 h ago"
    assert sorted(path.name for path in (cache.root / "partial").iterdir() if path.suffix != ".lock") == sorted(
        [keys[1], f"{keys[1]}.json"]
    )


def test_locks_of_what_is_not_there_go_and_those_that_are_held_stay(tmp_path: Path) -> None:
    for name in ("there", "gone", "held"):
        with exclusive(tmp_path / f".{name}.lock", timeout_s=0):
            pass
    (tmp_path / "there").mkdir()
    (tmp_path / ".gone.lock.holder").write_text("1 1\nlong ago\n")
    locks = orphan_locks(tmp_path)
    assert [lock.path.name for lock in locks] == [".gone.lock", ".held.lock"]
    with exclusive(tmp_path / ".held.lock", timeout_s=0, doing="pull of held"):
        assert [sweep_leftover(lock) for lock in locks] == ["", f"process {os.getpid()} (pull of held)"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".held.lock", ".there.lock", "there"]


def test_a_staging_folder_stays_as_long_as_its_process(cache: BlobCache) -> None:
    gone = cache.root / "builds" / ".key.4194399-7-3.staging"
    gone.mkdir(parents=True)
    (gone / "half").write_bytes(b"12345")
    (left,) = unfinished(gone.parent)
    assert (left.size_bytes, left.needed_by) == (5, "")
    assert sweep_leftover(left) == ""
    mine = cache.root / "builds" / f".key.{os.getpid()}-0-3.staging"
    mine.mkdir()
    (left,) = unfinished(gone.parent)
    assert sweep_leftover(left) == f"process {os.getpid()}"
    assert mine.is_dir()
