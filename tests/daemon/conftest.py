"""A Hub on loopback, a daemon that has one of its models in the catalog, and an application behind `Access`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.daemon.access import Access
from mecha.daemon.token import DaemonToken
from mecha.hub.mirror import RunningMirror, running_mirror
from tests.daemon.asked_device import Device, asked_device, hub_folder
from tests.daemon.guarded import TOKEN, Answering, answering, counting


@pytest.fixture(scope="session")
def arena_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    with running_mirror(hub_folder(tmp_path_factory.mktemp("hub"))) as running:
        yield running


@pytest.fixture
def device(tmp_path: Path, arena_hub: RunningMirror, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("HF_ENDPOINT", arena_hub.endpoint)
    monkeypatch.setenv("MECHA_CACHE_DIR", str(tmp_path / "cache"))
    with asked_device(tmp_path / "project", os.environ) as running:
        yield running


@pytest.fixture(scope="module")
def access() -> Access:
    return Access(DaemonToken(TOKEN), frozenset({"localhost", "robot.local"}))


@pytest.fixture(scope="module")
def tcp(access: Access) -> Iterator[Answering]:
    with answering(access.guard(counting)) as served:
        yield served
