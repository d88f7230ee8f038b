"""The licence is said before the first byte of a model, and kept with it."""

import json
from pathlib import Path

import pytest
from tests.service.conftest import Bench, make_bench

from mecha.hub.mirror import running_mirror

NO_INT8 = "[models.quantize]\nenabled = false\n"
STATED = (
    f'[[models]]\nname = "arena"\nrepo = "mecha/arena-n"\nfilename = "arena-n.onnx"\nlicense = "Apache-2.0"\n{NO_INT8}'
)
UNSTATED = STATED.replace('license = "Apache-2.0"\n', "")


def test_the_licence_of_the_entry_is_said_first(bench: Bench) -> None:
    bench.write_catalog(STATED)

    done = bench.command("models", "pull", "arena")

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "licence of arena: Apache-2.0"
    assert done.stderr.splitlines()[1].startswith("downloading ")


def test_json_has_it_as_an_event_before_the_download(bench: Bench) -> None:
    bench.write_catalog(STATED)

    done = bench.command("models", "pull", "arena", "--json")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0] == {"event": "licence", "name": "arena", "licence": "Apache-2.0"}
    assert events[1]["stage"] == "download"


@pytest.mark.parametrize(
    ("card", "licence"), [("license: mit", "mit"), ('license: "a\\e[31mb"', "a [31mb"), ("", "unknown")]
)
def test_what_the_repo_states_is_said_and_kept(tmp_path: Path, served: bytes, card: str, licence: str) -> None:
    repo = tmp_path / "hub/mecha/arena-n"
    repo.mkdir(parents=True)
    (repo / "arena-n.onnx").write_bytes(served)
    if card:
        (repo / "README.md").write_text(f"---\n{card}\n---\n")
    with running_mirror(tmp_path / "hub") as mirror:
        bench = make_bench(tmp_path / "project", tmp_path / "home", mirror.endpoint)
        bench.write_catalog(UNSTATED)
        done = bench.command("models", "pull", "arena")
        again = bench.command("models", "pull", "arena")

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"licence of arena: {licence}"
    assert json.loads((bench.root / "models/arena/manifest.json").read_text())["licence"] == licence
    assert "licence of" not in again.stderr
