"""What a newer mecha has written is refused with a sentence, and what an older one has is read as it is."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.store.blobs import BlobCache
from mecha.store.models import ModelStore
from mecha.store.published import MANIFEST_FILE, BrokenModel, PublishedModel
from tests.store.example import publish

CONTENT = b"model"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def put(cache: BlobCache) -> None:
    partial = cache.partial("download")
    partial.write_bytes(CONTENT)
    cache.adopt(partial, DIGEST)


def make_newer(store: ModelStore, name: str) -> Path:
    file = publish(store, name, "v1").path / MANIFEST_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 2, "a_key_of_tomorrow": True}))
    return file


def test_a_model_of_a_newer_version_is_listed_and_neither_used_nor_replaced(store: ModelStore) -> None:
    publish(store, "whole", "v1")
    file = make_newer(store, "m")
    before = file.read_bytes()
    reason = "manifest.json: of a newer mecha: got schema 2; expected 1 at most"
    assert store.find("m") == BrokenModel("m", reason, newer=True)
    assert [type(model) for model in store.all()] == [BrokenModel, PublishedModel]
    for act in (store.require, store.refuse_newer, lambda name: publish(store, name, "v2")):
        with pytest.raises(ConfigError) as caught:
            act("m")
        assert str(caught.value) == f'model "m" cannot be used: {reason}'
        assert caught.value.hint == "Upgrade mecha; or remove the model with `mecha models remove m` and pull it again."
    with pytest.raises(ConfigError) as verified:
        store.verify("m")
    assert str(verified.value) == reason
    assert file.read_bytes() == before
    store.remove("m")
    assert isinstance(publish(store, "m", "v2"), PublishedModel)


def test_a_cache_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    put(cache)
    (cache.root / ".format").write_text("2\n")
    for act in (cache.find, cache.path, cache.partial, cache.build_dir, cache.find_build):
        with pytest.raises(ConfigError) as caught:
            act(DIGEST)
        assert str(caught.value) == (
            f"{tmp_path}/cache: the cache is of a newer mecha: got format 2; expected 1 at most"
        )
        assert caught.value.hint == (
            "Upgrade mecha, or set MECHA_CACHE_DIR to another folder. "
            f"If no newer one was ever here, remove {tmp_path}/cache/.format."
        )
    assert (cache.root / "blobs" / DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("noted", [None, "0\n", "", "no number"])
def test_a_cache_of_an_older_version_is_read_as_it_is_and_gets_its_number(tmp_path: Path, noted: str | None) -> None:
    cache, file = BlobCache(tmp_path / "cache"), tmp_path / "cache/.format"
    put(cache)
    assert file.read_text() == "1\n"
    if noted is None:
        file.unlink()
    else:
        file.write_text(noted)
    assert cache.find(DIGEST) == cache.path(DIGEST)
    put(cache)
    assert file.read_text() == "1\n"
