"""Devices of a fleet that take what mecha.lock says, and never change it."""

from pathlib import Path

import pytest
from tests.service.conftest import Bench
from tests.service.updating import entry, following, published, published_by_a_pull, ran
from tests.service.upstream import Upstream

from mecha.hub.mirror import RunningMirror


@pytest.fixture
def bench(tmp_path: Path, mirror: RunningMirror) -> Bench:
    return following(tmp_path, mirror)


def test_a_frozen_pull_brings_what_is_locked_and_writes_nothing(
    bench: Bench, upstream: Upstream, tmp_path: Path
) -> None:
    first = published_by_a_pull(bench)
    old = (upstream.repo / "arena-n.onnx").read_bytes()
    upstream.publish("2")
    robot = Bench(tmp_path / "robot", tmp_path / "home2", dict(bench.environ))
    robot.root.mkdir()
    robot.home.mkdir()
    robot.write_catalog(entry())
    (robot.root / "mecha.lock").write_bytes((bench.root / "mecha.lock").read_bytes())
    (robot.root / "mecha.lock").chmod(0o444)
    # The Hub has another file by now: what is locked cannot be had, and nothing else is taken.
    ran(robot, "pull", "arena", "--frozen", code=4)
    assert not (robot.root / "models/arena").exists()
    upstream.put("mecha/arena-n/arena-n.onnx", old)
    ran(robot, "pull", "arena", MECHA_FROZEN="1")
    assert published(robot) == first
    upstream.publish("3")
    ran(robot, "pull", "arena", "--force", "--frozen")
    assert published(robot) == first
    assert (robot.root / "mecha.lock").read_bytes() == (bench.root / "mecha.lock").read_bytes()


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            ('filename = "arena-n.onnx"', 'filename = "other.onnx"'),
            "mecha.lock: got no entry for mecha/arena-n/other.onnx; expected one at main, "
            "as model_catalog.toml asks for arena",
            "Pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
        (
            ('license = "Apache-2.0"', 'revision = "v2"'),
            "mecha.lock: got mecha/arena-n/arena-n.onnx at main; expected it at v2, "
            "as model_catalog.toml asks for arena",
            "Set the revision to main, or pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
        (
            ('license = "Apache-2.0"', f'sha256 = "{"0" * 64}"'),
            f"mecha.lock: got mecha/arena-n/arena-n.onnx at main with sha256 {{sha256}}; expected {'0' * 64}, "
            "as model_catalog.toml asks for arena",
            "Correct sha256 in the catalog, or pull without --frozen where the project is kept, and commit mecha.lock.",
        ),
    ],
    ids=["another file", "another revision", "another digest"],
)
def test_a_catalog_that_disagrees_with_the_lock_is_refused_when_frozen(
    bench: Bench, change: tuple[str, str], message: str, hint: str, mirror: RunningMirror
) -> None:
    first = published_by_a_pull(bench)
    asked = len(mirror.requests)
    bench.write_catalog(entry().replace(*change))
    for arguments in (("pull", "arena", "--frozen"), ("pull", "arena", "--frozen", "--dry-run")):
        done = bench.command("models", *arguments)
        assert done.returncode == 3
        assert done.stderr == f"error: {message.format(sha256=first)}\n  next: {hint}\n"
    assert len(mirror.requests) == asked
    assert published(bench) == first


def test_what_would_change_the_lock_is_refused_in_a_frozen_fleet(bench: Bench) -> None:
    published_by_a_pull(bench)
    for command in (("update",), ("rollback", "arena"), ("add", "x.onnx", "--name", "x")):
        done = bench.command("models", *command, MECHA_FROZEN="1")
        assert done.returncode == 2
        what = f"mecha models {command[0]}"
        assert done.stderr == (
            f"error: {what}: MECHA_FROZEN is 1, so mecha.lock must not change; expected it unset\n"
            f"  next: Run `{what}` where the project is kept, commit mecha.lock, and run `mecha models pull` here.\n"
        )
    ran(bench, "outdated", MECHA_FROZEN="1")
