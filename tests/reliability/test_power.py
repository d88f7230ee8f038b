"""Some of the power cuts of `python -m tests.reliability.power`."""

import random
import sys
from pathlib import Path

import pytest

from tests.reliability.disk import KINDS, Recording, after_power_cut
from tests.reliability.power import SIZE_BYTES, STORIES, Story, told
from tests.reliability.robot import hubs
from tests.reliability.trace import recorded, works
from tests.store.example import environment

STATES = 30

pytestmark = pytest.mark.skipif(not works(), reason="records with strace")


@pytest.mark.parametrize("story", [story for story in STORIES if story.quick], ids=lambda story: story.name)
def test_whatever_a_power_cut_leaves_is_the_old_model_or_the_new_one_and_the_next_pull_recovers(
    tmp_path: Path, story: Story
) -> None:
    with hubs(tmp_path / "hubs", size_bytes=SIZE_BYTES) as served:
        result = told(story, served, tmp_path, states=STATES, chance=random.Random(2))
    assert result.wrong == ()
    assert result.steps > 0


def kept_of(tmp_path: Path, script: str) -> list[set[str]]:
    """Return what each kind of power cut leaves after a script that works in the folder `disk`."""
    root = tmp_path / "disk"
    root.mkdir()
    recording = Recording(root, without=root / "nothing")
    calls, code = recorded(
        [sys.executable, "-c", script, str(root)], folder=tmp_path, environment=environment(), output=tmp_path / "calls"
    )
    assert code == 0
    recording.play(calls)
    chance = random.Random(0)
    return [set(after_power_cut(recording, len(recording.steps), kind, chance)) for kind in KINDS]


def test_folders_that_were_made_stay_with_what_was_written_into_them(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mecha.store.atomic import make_dir, write_file\n"
        "folder = Path(sys.argv[1]) / 'a' / 'b'\n"
        "make_dir(folder)\n"
        "write_file(folder / 'c', b'content')\n"
    )
    assert kept_of(tmp_path, script) == [{"a", "a/b", "a/b/c"}] * len(KINDS)


def test_what_is_not_synced_may_be_lost(tmp_path: Path) -> None:
    """The model of the disk is strict enough to find a missing fsync."""
    script = "import sys, pathlib\n(pathlib.Path(sys.argv[1]) / 'a').write_bytes(b'content')\n"
    kept = dict(zip(KINDS, kept_of(tmp_path, script), strict=True))
    assert (kept["all"], kept["none"], kept["names"], kept["bytes"]) == ({"a"}, set(), {"a"}, set())
