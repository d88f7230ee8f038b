"""Every line of the table in docs/reliability.md: a real pull against a real server that does what the line says."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.rough_server import Move, Reply, Seen, always
from tests.reliability.faulty_hub import CATALOG, SIZE, FaultyHub, faulty_hub, model_of
from tests.service.conftest import Bench

PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"
# Set as a user would: nobody waits 30 s for silence in a test.
SETTINGS = """
[hub]
answer_timeout_s = 2
connect_timeout_s = 2
stall_timeout_s = 0.5
tries = 2
longest_wait_s = 0.05
"""
TOKEN = "hf_of_the_first_host_alone"
LOGIN_PAGE = b"<!DOCTYPE html><title>Hotel Wi-Fi</title>" + b" " * 2000
CUT = 40_000


@dataclass(frozen=True)
class Row:
    """A line of the table: what the server does, and what must come of it."""

    fault: str
    exit_code: int
    said: str
    kept: str
    next_pull: str


def rows() -> Iterator[Row]:
    section = (
        PAGE.read_text(encoding="utf-8").partition("## A server or a line that misbehaves")[2].partition("\n## ")[0]
    )
    for line in re.findall(r"^\|(.+)\|$", section, re.MULTILINE)[2:]:
        fault, exit_code, said, kept, next_pull = (cell.strip() for cell in line.split("|"))
        yield Row(fault, int(exit_code), said.strip("`"), kept, next_pull)


ROWS = tuple(rows())


@dataclass(frozen=True)
class Fault:
    """How questions and fetches are answered; as a Hub does where nothing is said."""

    fetches: tuple[Callable[[FaultyHub], Move], ...] = ()
    questions: tuple[Callable[[FaultyHub], Move], ...] = ()


def changed(**how: object) -> Callable[[FaultyHub], Move]:
    """As a Hub does, with the answer changed on its way."""

    def on(hub: FaultyHub) -> Move:
        def move(seen: Seen) -> Reply:
            reply = hub.honest(seen)
            fields = {name: getattr(reply, name) for name in Reply.__dataclass_fields__}
            headers = {**reply.headers, **how.get("headers", {})}  # type: ignore[dict-item]  # a table cannot be typed
            return Reply(**{**fields, **how, "headers": headers})

        return move

    return on


def plain(status: int, body: bytes = b"", **headers: str) -> Callable[[FaultyHub], Move]:
    return lambda _: always(Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body))


def honest(hub: FaultyHub) -> Move:
    return hub.honest


def deaf(hub: FaultyHub) -> Move:
    return always(Reply(200, {"ETag": f'"{hub.sha256}"'}, hub.content))


def flipped(hub: FaultyHub) -> Move:
    wrong = hub.content[:30_000] + bytes([hub.content[30_000] ^ 1]) + hub.content[30_001:]
    return lambda seen: Reply(200, {"ETag": f'"{hub.sha256}"'}, wrong)


def flipped_and_cut(hub: FaultyHub) -> Move:
    wrong = hub.content[:30_000] + bytes([hub.content[30_000] ^ 1]) + hub.content[30_001:]
    return always(Reply(200, {"ETag": f'"{hub.sha256}"'}, wrong, cut_after=CUT))


def another_file(hub: FaultyHub) -> Move:
    return always(Reply(200, {"ETag": '"v2"'}, hub.content[:-4] + b"more"))


def another_etag(hub: FaultyHub) -> Move:
    return always(Reply(200, {"ETag": '"v2"'}, hub.content))


def elsewhere(hub: FaultyHub) -> Move:
    """Redirect to what is another host to a client, and the same server."""

    def move(seen: Seen) -> Reply:
        if seen.headers["host"].startswith("localhost"):
            return hub.honest(seen)
        return Reply(302, {"Location": f"http://localhost:{hub.server.server_port}/storage?signature=x"})

    return move


def in_a_circle(hub: FaultyHub) -> Move:
    def move(seen: Seen) -> Reply:
        return Reply(302, {"Location": "/a" if seen.path != "/a" else "/b"})

    return move


CUT_ONCE = changed(cut_after=CUT)
FAULTS: dict[str, Fault] = {
    "cuts the connection after 40000 bytes, once": Fault((CUT_ONCE, honest)),
    "cuts it after 40000 bytes, then before each answer": Fault((CUT_ONCE, changed(cut_after=0))),
    "is silent after 40000 bytes, once": Fault((changed(cut_after=CUT, stall=True), honest)),
    "is silent after 40000 bytes, then for ever": Fault((CUT_ONCE, lambda _: always(Reply(silent=True)))),
    "drips 5000 bytes each 0.1 s": Fault((changed(drip=(5000, 0.1)),)),
    "cuts after 40000 bytes, then ignores ranges": Fault((CUT_ONCE, deaf)),
    "cuts after 40000 bytes, then sends another range than asked for": Fault(
        (CUT_ONCE, changed(headers={"Content-Range": f"bytes 5-{SIZE - 1}/{SIZE}"}), honest)
    ),
    "cuts after 40000 bytes, then has the file under another etag": Fault((CUT_ONCE, another_etag)),
    "cuts after 40000 bytes, then has another file under another etag": Fault((CUT_ONCE, another_file)),
    "answers the question with 401": Fault(questions=(plain(401),)),
    "answers the question with 403": Fault(questions=(plain(403),)),
    "answers the question with 404": Fault(questions=(plain(404),)),
    "answers the question with 500": Fault(questions=(plain(500),)),
    "answers the question with 429": Fault(questions=(plain(429, Retry_After="7"),)),
    "answers the fetch with 401": Fault((plain(401),)),
    "cuts after 40000 bytes, then answers 403": Fault((CUT_ONCE, plain(403))),
    "answers the fetch with 404": Fault((plain(404),)),
    "cuts after 40000 bytes, then answers 416": Fault((CUT_ONCE, plain(416), honest)),
    "answers every fetch with 416": Fault((plain(416),)),
    "answers 429 with Retry-After: 1, once": Fault((plain(429, Retry_After="1"), honest)),
    "answers 429 with Retry-After: 3600": Fault((plain(429, Retry_After="3600"),)),
    "answers 500, once": Fault((plain(500), honest)),
    "answers 500 for ever": Fault((plain(500),)),
    "redirects in a circle": Fault((in_a_circle,)),
    "redirects to another host": Fault((elsewhere,)),
    "sends a login page in place of the file": Fault((plain(200, LOGIN_PAGE, Content_Type="text/html"),)),
    "cuts after 40000 bytes, then sends a login page": Fault(
        (CUT_ONCE, plain(200, LOGIN_PAGE, Content_Type="text/html"))
    ),
    "answers the question with a login page": Fault(questions=(plain(200, LOGIN_PAGE, Content_Type="text/html"),)),
    "compresses the file": Fault((plain(200, gzip.compress(b"x" * SIZE), Content_Encoding="gzip"),)),
    "sends 4 bytes more": Fault((lambda hub: always(Reply(200, {}, hub.content + b"more")),)),
    "flips a bit": Fault((flipped,)),
    "flips a bit and cuts after 40000 bytes, once": Fault((flipped_and_cut, honest)),
}


@pytest.fixture(scope="module")
def content() -> bytes:
    return model_of(SIZE)


@pytest.fixture
def hub(content: bytes) -> Iterator[FaultyHub]:
    with faulty_hub(content) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, hub: FaultyHub) -> Bench:
    bench = Bench(tmp_path / "project", tmp_path / "home", {"HF_ENDPOINT": hub.server.endpoint, "HF_TOKEN": TOKEN})
    (bench.root / "configs/common").mkdir(parents=True)
    bench.home.mkdir()
    bench.write_catalog(CATALOG)
    (bench.root / "configs/common/mecha.toml").write_text(SETTINGS)
    return bench


def kept(bench: Bench) -> str:
    if (bench.root / "models/m/model.onnx").is_file():
        return "the model"
    folder = bench.home / "cache/partial"
    sizes = [path.stat().st_size for path in folder.iterdir() if not path.suffix] if folder.is_dir() else []
    return f"{max(sizes, default=0)} bytes" if max(sizes, default=0) else "nothing"


def test_the_table_and_the_server_know_the_same_faults() -> None:
    assert sorted(row.fault for row in ROWS) == sorted(FAULTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_what_comes_of_it_when_the_server(row: Row, bench: Bench, hub: FaultyHub, content: bytes) -> None:
    fault = FAULTS[row.fault]
    hub.fetches = [make(hub) for make in fault.fetches]
    hub.questions = [make(hub) for make in fault.questions]

    done = bench.command("models", "pull", "m", "--no-quantize")

    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    said = row.said.replace("{hub}", hub.server.endpoint).replace("{url}", hub.url).replace("{sha256}", hub.sha256)
    told = errors[0].removeprefix("error: ") if errors else "nothing"
    assert re.sub(r"(?<=got )[0-9a-f]{64}", "{other}", told) == said
    assert done.returncode == row.exit_code
    assert kept(bench) == row.kept
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert not any("authorization" in seen.headers for seen in hub.server.seen if "localhost" in seen.headers["host"])
    assert all(seen.headers["authorization"] == f"Bearer {TOKEN}" for seen in hub.requests("HEAD"))

    hub.fetches, hub.questions = [], []
    again = bench.command("models", "pull", "m", "--no-quantize", "--json")

    assert again.returncode == 0, again.stderr
    assert f"fetches {json.loads(again.stdout.splitlines()[-1])['downloaded_bytes']} bytes" == row.next_pull
    assert (bench.root / "models/m/model.onnx").read_bytes() == content
