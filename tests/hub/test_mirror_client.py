"""The unmodified client of the Hub works against the mirror, told only by its environment."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mecha.hub.mirror import RunningMirror, running_mirror

MODEL = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
PHOTO = b"\xff\xd8\xff" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    for path, content in {
        "owner/name/sub/model.onnx": MODEL,
        "owner/name/README.md": b"---\nlicense: apache-2.0\n---\n# A model\n",
        "owner/name/.env": b"secret",
        "datasets/owner/photos/1.jpg": PHOTO,
        "datasets/owner/photos/2.jpg": PHOTO + b"2",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture
def mirror(root: Path) -> Iterator[RunningMirror]:
    with running_mirror(root) as mirror:
        yield mirror


def run_client(script: str, private_home: Path, **environ: str) -> Any:
    """Run a script that uses huggingface_hub in a process of its own; return what it prints as JSON."""
    program = f"import json, huggingface_hub as hub\nfrom pathlib import Path\n{script}"
    quiet = {"HF_HOME": str(private_home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **quiet, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def answered(mirror: RunningMirror) -> list[tuple[str, int]]:
    return [(seen.method, seen.status) for seen in mirror.requests]


def test_a_file_is_downloaded_and_comes_from_the_cache_the_second_time(
    mirror: RunningMirror, private_home: Path
) -> None:
    script = """
first = hub.hf_hub_download("owner/name", "sub/model.onnx")
second = hub.hf_hub_download("owner/name", "sub/model.onnx")
print(json.dumps([first == second, first]))
"""
    same, path = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint)

    assert same
    assert Path(path).read_bytes() == MODEL
    assert answered(mirror) == [("HEAD", 200), ("GET", 200), ("HEAD", 200)]
    assert mirror.bytes_served == len(MODEL)


def test_a_whole_repo_is_downloaded_for_models_and_datasets(mirror: RunningMirror, private_home: Path) -> None:
    script = """
model = Path(hub.snapshot_download("owner/name"))
photos = Path(hub.snapshot_download("owner/photos", repo_type="dataset"))
files = {str(p.relative_to(top)): p.stat().st_size for top in (model, photos) for p in top.rglob("*") if p.is_file()}
print(json.dumps([files, model.name == hub.model_info("owner/name").sha]))
"""
    files, is_named_by_commit = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint)

    assert files == {"README.md": 38, "sub/model.onnx": len(MODEL), "1.jpg": len(PHOTO), "2.jpg": len(PHOTO) + 1}
    assert is_named_by_commit


def test_a_pattern_and_a_commit_choose_what_is_downloaded(mirror: RunningMirror, private_home: Path) -> None:
    script = """
sha = hub.dataset_info("owner/photos").sha
path = Path(hub.snapshot_download("owner/photos", repo_type="dataset", revision=sha, allow_patterns="2.*"))
print(json.dumps([p.name for p in path.iterdir()]))
"""
    assert run_client(script, private_home, HF_ENDPOINT=mirror.endpoint) == ["2.jpg"]


def test_what_was_downloaded_is_found_offline(root: Path, private_home: Path) -> None:
    script = """
print(json.dumps([hub.hf_hub_download("owner/name", "sub/model.onnx"), hub.snapshot_download("owner/name")]))
"""
    with running_mirror(root) as mirror:
        online = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint)
    offline = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint, HF_HUB_OFFLINE="1")

    assert offline == online


def test_a_private_mirror_asks_for_the_token(root: Path, private_home: Path) -> None:
    script = """
from huggingface_hub.errors import RepositoryNotFoundError, HfHubHTTPError
def attempt(token):
    try:
        return Path(hub.hf_hub_download("owner/name", "README.md", token=token)).name
    except HfHubHTTPError as error:
        return f"{type(error).__name__} {error.response.status_code}"
print(json.dumps([attempt(False), attempt("wrong"), attempt(None)]))
"""
    with running_mirror(root, token="right") as mirror:
        answers = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint, HF_TOKEN="right")

    assert answers == ["RepositoryNotFoundError 401", "HfHubHTTPError 401", "README.md"]


def test_what_is_missing_is_understood(mirror: RunningMirror, private_home: Path) -> None:
    script = """
def attempt(**what):
    try:
        hub.hf_hub_download(**{"repo_id": "owner/name", "filename": "README.md", **what})
    except Exception as error:
        return type(error).__name__
errors = [attempt(repo_id="owner/x"), attempt(filename="x"), attempt(revision="x")]
print(json.dumps([*errors, hub.file_exists("owner/name", "x")]))
"""
    assert run_client(script, private_home, HF_ENDPOINT=mirror.endpoint) == [
        "RepositoryNotFoundError",
        "RemoteEntryNotFoundError",
        "RevisionNotFoundError",
        False,
    ]


def test_a_repo_can_be_looked_at(mirror: RunningMirror, private_home: Path) -> None:
    script = """
info = hub.model_info("owner/name", files_metadata=True)
tree = [entry.path for entry in hub.list_repo_tree("owner/name", recursive=True, expand=True)]
paths = [entry.path for entry in hub.HfApi().get_paths_info("owner/name", ["sub", "sub/model.onnx", "x"], expand=True)]
print(json.dumps([info.card_data.license, info.siblings[-1].lfs.sha256, info.last_modified.year > 2000, tree, paths,
                  hub.list_repo_files("owner/photos", repo_type="dataset")]))
"""
    assert run_client(script, private_home, HF_ENDPOINT=mirror.endpoint) == [
        "apache-2.0",
        hashlib.sha256(MODEL).hexdigest(),
        True,
        ["README.md", "sub", "sub/model.onnx"],
        ["sub", "sub/model.onnx"],
        ["1.jpg", "2.jpg"],
    ]


def test_a_file_can_be_read_in_parts(mirror: RunningMirror, private_home: Path) -> None:
    script = """
with hub.HfFileSystem().open("owner/name/sub/model.onnx", "rb", block_size=1000) as file:
    file.seek(2_000_000)
    print(json.dumps(file.read(16).hex()))
"""
    assert run_client(script, private_home, HF_ENDPOINT=mirror.endpoint) == MODEL[2_000_000:2_000_016].hex()
    assert mirror.bytes_served < 100_000


def test_a_mirror_of_a_mirror_knows_the_same_revisions(
    mirror: RunningMirror, tmp_path: Path, private_home: Path
) -> None:
    copy = tmp_path / "copy"
    script = f"""
hub.snapshot_download("owner/name", local_dir={str(copy / "owner/name")!r})
print(json.dumps(hub.model_info("owner/name").sha))
"""
    commit = run_client(script, private_home, HF_ENDPOINT=mirror.endpoint)
    script = f"""
print(json.dumps(Path(hub.hf_hub_download("owner/name", "sub/model.onnx", revision={commit!r})).stat().st_size))
"""
    with running_mirror(copy) as second:
        assert run_client(script, tmp_path / "home", HF_ENDPOINT=second.endpoint) == len(MODEL)
