"""Processes that wait for a download of another one show how far it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub.rough_server import Reply
from tests.reliability.faulty_hub import CATALOG, SIZE, FaultyHub, faulty_hub, model_of
from tests.service.conftest import Bench


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    """A Hub that takes 4 s for the file."""
    content = model_of(SIZE)
    with faulty_hub(content) as running:
        running.fetches = [lambda seen: Reply(200, running.honest(seen).headers, content, drip=(2500, 0.1))]
        yield running


def bench(root: Path, home: Path, hub: FaultyHub) -> Bench:
    bench = Bench(root, home, {"HF_ENDPOINT": hub.server.endpoint})
    root.mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    bench.write_catalog(CATALOG)
    return bench


def test_eight_processes_share_one_download_and_its_progress(tmp_path: Path, hub: FaultyHub) -> None:
    # Four wait for the model of their project, the others for the download in the cache that all share.
    benches = [bench(tmp_path / f"project{number // 4}", tmp_path / "home", hub) for number in range(8)]
    running = [each.start("models", "pull", "m", "--no-quantize", "--json") for each in benches]
    said = [process.communicate(timeout=120)[0] for process in running]

    assert [process.returncode for process in running] == [0] * 8, said
    assert [seen.range_start for seen in hub.requests("GET")] == [0]
    lines = [[json.loads(line) for line in text.splitlines()] for text in said]
    assert sum(each[-1]["downloaded_bytes"] for each in lines) == SIZE
    shown = [[line for line in each if line.get("stage") in ("download", "attached download")] for each in lines]
    # Who started only when all was there has nothing to show; the first two of each project came in time.
    assert sum(len({line["completed"] for line in each}) > 3 for each in shown) >= 3
    assert all(line["total"] == SIZE and line["completed"] <= SIZE for each in shown for line in each)
