"""A download that is not whole is its owner's alone, whatever the umask says."""

import stat
import sys
from pathlib import Path

import pytest

from mecha.errors import NetworkError
from mecha.hub.download import download
from mecha.hub.pace import Clock, Retries
from mecha.hub.source import RemoteFile
from mecha.progress import silent
from mecha.service.local import copied
from tests.hub.rough_server import Reply, always, honest, rough_server

CONTENT = bytes(range(256)) * 40


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.usefixtures("umask")
def test_a_partial_file_and_its_sidecar_are_for_their_owner_alone(tmp_path: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=2000), always(Reply(503))) as server:
        remote = RemoteFile("o/n", "m.onnx", "model", "c" * 40, f"{server.endpoint}/m", "e", len(CONTENT), "0" * 64)
        with pytest.raises(NetworkError):
            download(remote, tmp_path / "part", progress=silent, retries=Retries(attempts=1),
                     clock=Clock(sleep=lambda seconds: None))  # fmt: skip

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 2
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.usefixtures("umask")
def test_a_copy_on_its_way_into_the_cache_is_too(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(CONTENT)

    copied(tmp_path / "mine.onnx", tmp_path / "part")

    assert stat.S_IMODE((tmp_path / "part").stat().st_mode) == 0o600
