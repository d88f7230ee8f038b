"""`mecha hub serve --upstream`: a real gateway between a real upstream and real clients."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from mecha.hub.mirror import running_mirror
from tests.hub.rough_server import Reply, always, rough_server
from tests.hub.test_mirror_client import run_client
from tests.reliability.faulty_hub import CATALOG, COMMIT, SIZE, FaultyHub, faulty_hub, model_of
from tests.service.conftest import Bench

FILE = f"/owner/name/resolve/{COMMIT}/model.onnx"
CUT = 40_000
SETTINGS = "[hub]\nanswer_timeout_s = 2\nstall_timeout_s = 1\ntries = 2\nlongest_wait_s = 0.05\n"


@pytest.fixture(scope="module")
def content() -> bytes:
    return model_of(SIZE)


@pytest.fixture
def upstream(content: bytes) -> Iterator[FaultyHub]:
    with faulty_hub(content) as hub:
        yield hub


@contextmanager
def gateway(
    folder: Path, upstream: str, *, kill: bool = False, options: tuple[str, ...] = (), **environ: str
) -> Iterator[str]:
    """A gateway in a process of its own; gives its address."""
    project = folder.with_name("gateway-project")
    (project / "configs/common").mkdir(parents=True, exist_ok=True)
    (project / "model_catalog.toml").write_text("")
    (project / "configs/common/mecha.toml").write_text(SETTINGS)
    serve = ("-m", "mecha", "hub", "serve", str(folder), "--port", "0", "--upstream", upstream)
    command = [sys.executable, *serve, *options]
    environment = {**Bench(project, project).environment, **environ}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        room = f", and {options[1]} GB of it are kept" if options else ""
        assert process.stdout.readline() == f"  what is not there is fetched from {upstream}, once{room}\n"
        try:
            yield first.split()[-1]
        finally:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)


def robot(folder: Path, address: str, **environ: str) -> Bench:
    bench = Bench(folder / "project", folder / "home", {"HF_ENDPOINT": address, **environ})
    bench.root.mkdir(parents=True)
    bench.home.mkdir()
    bench.write_catalog(CATALOG)
    (bench.root / "configs/common").mkdir(parents=True)
    (bench.root / "configs/common/mecha.toml").write_text(SETTINGS)
    return bench


def test_the_bytes_leave_the_upstream_once_for_all_who_ask_at_once(
    tmp_path: Path, upstream: FaultyHub, content: bytes
) -> None:
    upstream.fetches = [lambda seen: Reply(200, upstream.honest(seen).headers, content, drip=(20_000, 0.1))]
    with gateway(tmp_path / "kept", upstream.server.endpoint) as address:
        robots = [robot(tmp_path / f"robot{number}", address) for number in range(4)]
        running = [bench.start("models", "pull", "m", "--no-quantize") for bench in robots]
        said = [process.communicate(timeout=120)[0] for process in running]
        assert [process.returncode for process in running] == [0] * 4, said
    assert all((bench.root / "models/m/model.onnx").read_bytes() == content for bench in robots)
    assert [seen.range_start for seen in upstream.requests("GET")] == [0]


def test_what_was_fetched_is_served_without_the_upstream_also_by_the_next_gateway(
    tmp_path: Path, upstream: FaultyHub, content: bytes
) -> None:
    kept = tmp_path / "kept"
    with gateway(kept, upstream.server.endpoint) as address:
        assert httpx2.get(address + FILE).content == content
        assert httpx2.head(f"{address}/owner/name/resolve/main/model.onnx").headers["x-repo-commit"] == COMMIT
    with gateway(kept, "http://127.0.0.1:9") as address:
        bench = robot(tmp_path / "robot", address)
        done = bench.command("models", "pull", "m", "--no-quantize")
        assert done.returncode == 0, done.stderr
        part = httpx2.get(address + FILE, headers={"Range": f"bytes={CUT}-", "If-Range": f'"{upstream.sha256}"'})
    assert (part.status_code, part.content) == (206, content[CUT:])
    assert len(upstream.requests("GET")) == 1


def test_what_is_not_here_while_the_upstream_is_down_is_told_in_a_sentence(tmp_path: Path) -> None:
    with gateway(tmp_path / "kept", "http://127.0.0.1:9") as address:
        answer = httpx2.get(address + FILE)
        done = robot(tmp_path / "robot", address).command("models", "pull", "m", "--no-quantize")
    refused = "http://127.0.0.1:9: connection refused: nothing listens there"
    said = f"the upstream of this gateway: owner/name/model.onnx: {refused}"
    assert (answer.status_code, answer.json()) == (502, {"error": said})
    assert done.returncode == 5
    assert f"error: owner/name/model.onnx: {address} answered 502 Bad Gateway: {said}\n" in done.stderr


def test_an_upstream_that_is_silent_is_a_timeout_of_the_gateway(tmp_path: Path) -> None:
    with rough_server(always(Reply(silent=True))) as silent, gateway(tmp_path / "kept", silent.endpoint) as address:
        answer = httpx2.get(address + FILE, timeout=20)
    assert answer.status_code == 504
    assert answer.json()["error"].endswith(": the server went silent")


def test_the_token_of_the_gateway_goes_to_the_upstream_and_that_of_a_client_does_not(
    tmp_path: Path, upstream: FaultyHub
) -> None:
    with gateway(tmp_path / "kept", upstream.server.endpoint, HF_TOKEN="hf_of_the_gateway") as address:
        bench = robot(tmp_path / "robot", address, HF_TOKEN="hf_of_a_robot")
        done = bench.command("models", "pull", "m", "--no-quantize")
    assert done.returncode == 0, done.stderr
    assert {seen.headers["authorization"] for seen in upstream.server.seen} == {"Bearer hf_of_the_gateway"}


def test_a_client_gets_bytes_while_they_come(tmp_path: Path, upstream: FaultyHub, content: bytes) -> None:
    upstream.fetches = [
        lambda seen: Reply(200, upstream.honest(seen).headers, content, cut_after=CUT, stall=True),
        upstream.honest,
    ]
    with (
        gateway(tmp_path / "kept", upstream.server.endpoint) as address,
        httpx2.stream("GET", address + FILE) as answer,
    ):
        came = bytearray()
        for chunk in answer.iter_raw():
            came += chunk
            if len(came) == CUT:
                # The upstream is silent at this byte; nothing after it has been asked for yet.
                assert len(upstream.requests("GET")) == 1
    assert bytes(came) == content
    assert [seen.range_start for seen in upstream.requests("GET")] == [0, CUT]


def test_a_file_that_is_not_what_the_upstream_said_never_becomes_whole_for_a_client(
    tmp_path: Path, upstream: FaultyHub, content: bytes
) -> None:
    upstream.fetches = [always(Reply(200, {}, content[:-1] + b"?"))]
    with gateway(tmp_path / "kept", upstream.server.endpoint) as address:
        done = robot(tmp_path / "robot", address).command("models", "pull", "m", "--no-quantize")
        assert done.returncode != 0
    assert list((tmp_path / "kept/.upstream").glob("blobs/*")) == []


def test_a_killed_gateway_goes_on_where_it_was(tmp_path: Path, upstream: FaultyHub, content: bytes) -> None:
    kept = tmp_path / "kept"
    upstream.fetches = [
        lambda seen: Reply(200, upstream.honest(seen).headers, content, cut_after=CUT, stall=True),
        upstream.honest,
    ]
    with gateway(kept, upstream.server.endpoint, kill=True) as address, httpx2.stream("GET", address + FILE) as answer:
        came = 0
        for chunk in answer.iter_raw():
            came += len(chunk)
            if came == CUT:
                break
    with gateway(kept, upstream.server.endpoint) as address:
        assert httpx2.get(address + FILE).content == content
    assert [seen.range_start for seen in upstream.requests("GET")] == [0, CUT]


def test_what_the_folder_has_is_not_asked_of_the_upstream(tmp_path: Path, upstream: FaultyHub) -> None:
    own = tmp_path / "kept/owner/name/model.onnx"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"one of our own")
    with gateway(tmp_path / "kept", upstream.server.endpoint) as address:
        assert httpx2.get(f"{address}/owner/name/resolve/main/model.onnx").content == b"one of our own"
        assert upstream.server.seen == []
        assert len(httpx2.get(address + FILE).content) == SIZE, "another revision than the folder's"
        assert httpx2.get(f"{address}/owner/name/resolve/main/..%2F.upstream/x").status_code == 404


def test_any_client_of_the_hub_finds_a_whole_repo_through_it_and_again_without_the_upstream(
    tmp_path: Path, private_home: Path
) -> None:
    repo = tmp_path / "far/owner/name"
    (repo / "sub").mkdir(parents=True)
    (repo / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (repo / "sub/model.onnx").write_bytes(bytes(3000))
    script = """
folder = Path(hub.snapshot_download("owner/name", local_dir=r"{to}"))
licence = hub.HfApi().model_info("owner/name").card_data["license"]
files = (str(path.relative_to(folder)) for path in folder.rglob("*.*"))
print(json.dumps([sorted(name for name in files if ".cache" not in name), licence]))
"""
    expected = [["README.md", "sub/model.onnx"], "apache-2.0"]
    with running_mirror(tmp_path / "far") as far, gateway(tmp_path / "kept", far.endpoint) as address:
        assert run_client(script.format(to=tmp_path / "1"), private_home, HF_ENDPOINT=address) == expected
    with gateway(tmp_path / "kept", "http://127.0.0.1:9") as address:
        assert run_client(script.format(to=tmp_path / "2"), private_home, HF_ENDPOINT=address) == expected


def test_an_upstream_that_is_no_address_is_refused(tmp_path: Path) -> None:
    done = Bench(tmp_path, tmp_path).command("hub", "serve", str(tmp_path / "kept"), "--upstream", "gateway.local")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == (
        'error: --upstream: got "gateway.local"; expected http://host[:port] or https://host[:port]'
    )
    assert done.stdout == ""


def test_a_gateway_that_starts_removes_downloads_that_nobody_went_on_with_for_three_days(
    tmp_path: Path, upstream: FaultyHub, content: bytes
) -> None:
    kept = tmp_path / "kept"
    partial = kept / ".upstream" / "partial"
    partial.mkdir(parents=True)
    old, young = "0" * 64, "1" * 64
    for key, age_h in ((old, 73), (young, 71)):
        for name in (key, f"{key}.json"):
            (partial / name).write_bytes(b"{}")
            os.utime(partial / name, (time.time() - age_h * 3600,) * 2)
    (kept / ".upstream" / "entries").mkdir()
    (kept / ".upstream" / "entries" / ".a.json.999999999-1-0.tmp").write_bytes(b"{")
    with gateway(kept, upstream.server.endpoint) as address:
        assert httpx2.get(address + FILE).content == content
    assert {path.name for path in partial.iterdir() if path.suffix != ".lock"} >= {young, f"{young}.json"}
    assert not any(path.name.startswith((old, f".{old}")) for path in partial.iterdir())
    assert not any(path.name.endswith(".tmp") for path in (kept / ".upstream" / "entries").iterdir())
    with gateway(kept, "http://127.0.0.1:9") as address:
        assert httpx2.get(address + FILE).content == content
