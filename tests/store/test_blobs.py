"""The cache gives back what was put in, or nothing."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from mecha.errors import DiskError, NotFoundError
from mecha.store.blobs import BlobCache, packaged_models

CONTENT = b"model" * 100
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache")


def put(cache: BlobCache) -> Path:
    partial = cache.partial("download")
    partial.write_bytes(CONTENT)
    return cache.adopt(partial, DIGEST)


def test_a_finished_download_moves_into_the_cache(cache: BlobCache) -> None:
    assert cache.find(DIGEST) is None
    blob = put(cache)
    assert cache.find(DIGEST) == blob == cache.path(DIGEST)
    assert blob.read_bytes() == CONTENT
    assert not cache.partial("download").exists()


def test_a_download_on_its_way_is_where_it_was_left(cache: BlobCache) -> None:
    cache.partial("a" * 64).write_bytes(b"half")
    assert BlobCache(cache.root).partial("a" * 64).read_bytes() == b"half"


@pytest.mark.parametrize("damaged", [b"", b"other", CONTENT[:-1] + b"x"])
def test_a_damaged_blob_is_not_found_and_makes_room(cache: BlobCache, damaged: bytes) -> None:
    blob = put(cache)
    blob.chmod(0o644)
    blob.write_bytes(damaged)
    assert cache.find(DIGEST) is None
    assert list(blob.parent.iterdir()) == []


def test_what_ships_in_the_package_is_found_by_its_digest(tmp_path: Path) -> None:
    seed = tmp_path / "seed.onnx"
    seed.write_bytes(CONTENT)
    cache = BlobCache(tmp_path / "cache", (tmp_path / "absent.onnx", seed))
    assert cache.find(DIGEST) == seed
    assert cache.find("0" * 64) is None
    target = tmp_path / "target.onnx"
    cache.link(DIGEST, target)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_nlink == 1, "what is installed is never shared with a project"


def test_a_cached_file_is_linked_into_a_project_and_cannot_be_written_through_it(
    cache: BlobCache, tmp_path: Path
) -> None:
    put(cache)
    target = tmp_path / "model.onnx"
    cache.link(DIGEST, target)
    assert target.samefile(cache.path(DIGEST))
    assert target.stat().st_mode & 0o222 == 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_into_another_file_system_it_is_copied(cache: BlobCache, tmp_path: Path) -> None:
    put(cache)
    target = Path("/dev/shm") / f"mecha-test-{os.getpid()}.onnx"
    if target.parent.stat().st_dev == cache.path(DIGEST).stat().st_dev:
        pytest.skip("needs a second file system")
    try:
        cache.link(DIGEST, target)
        assert target.read_bytes() == CONTENT
        assert target.stat().st_nlink == 1
    finally:
        target.unlink(missing_ok=True)


def test_linking_what_is_not_there_or_over_what_is_there_is_refused(cache: BlobCache, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(NotFoundError) as absent:
        cache.link(DIGEST, target)
    assert str(absent.value) == f"{cache.path(DIGEST)}: no such file in the cache"
    put(cache)
    target.write_bytes(b"mine")
    with pytest.raises(DiskError) as taken:
        cache.link(DIGEST, target)
    assert str(taken.value) == f"{target}: cannot write: file exists"
    assert target.read_bytes() == b"mine"


def test_a_build_is_kept_whole_and_found_by_its_key(cache: BlobCache, tmp_path: Path) -> None:
    assert cache.find_build("key") is None
    with cache.build_staging("key") as staged:
        (staged / "model-int8.onnx").write_bytes(CONTENT)
        (staged / "gate.json").write_text("{}")
        assert cache.adopt_build(staged, "key") == cache.build_dir("key")
    assert cache.find_build("key") == cache.build_dir("key")
    cache.link_build("key", "model-int8.onnx", tmp_path / "model-int8.onnx")
    assert (tmp_path / "model-int8.onnx").read_bytes() == CONTENT
    with pytest.raises(NotFoundError):
        cache.link_build("key", "absent.onnx", tmp_path / "absent.onnx")
    assert [entry.name for entry in (cache.root / "builds").iterdir()] == ["key"]


def test_a_build_takes_the_place_of_an_earlier_one(cache: BlobCache) -> None:
    for text in ("one", "two"):
        with cache.build_staging("key") as staged:
            (staged / "file").write_text(text)
            cache.adopt_build(staged, "key")
    folder = cache.find_build("key")
    assert folder is not None
    assert (folder / "file").read_text() == "two"


@pytest.mark.parametrize(("file", "damaged"), [("file", b"other"), ("build.json", b"{"), ("more", b"x")])
def test_a_damaged_build_is_not_found_and_makes_room(cache: BlobCache, file: str, damaged: bytes) -> None:
    with cache.build_staging("key") as staged:
        (staged / "file").write_text("one")
        folder = cache.adopt_build(staged, "key")
    (folder / file).unlink(missing_ok=True)
    (folder / file).write_bytes(damaged)
    assert cache.find_build("key") is None
    assert not folder.exists()


def test_a_build_that_was_not_finished_is_removed(cache: BlobCache) -> None:
    with cache.build_staging("key") as staged:
        (staged / "file").write_text("half")
    assert list((cache.root / "builds").iterdir()) == []


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".x", "a b", "x" * 200])
def test_a_key_stays_in_its_folder(cache: BlobCache, key: str) -> None:
    for act in (cache.partial, cache.build_dir, cache.path):
        with pytest.raises(ValueError, match="expected"):
            act(key)


def test_models_that_come_with_mecha_are_seeds() -> None:
    assert all(path.suffix == ".onnx" and path.is_file() for path in packaged_models())
