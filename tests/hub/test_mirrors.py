"""Several mirrors in a project's settings: who is asked, what goes on to the next one, and who gets a token."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mecha.errors import AccessDeniedError, NetworkError, NotFoundError
from mecha.hub.mirrors import MirroredSource, hub_source, refused_by_all
from mecha.project import HubSettings
from tests.hub.rough_server import Move, Reply, always
from tests.reliability.faulty_hub import CATALOG, SIZE, FaultyHub, faulty_hub, model_of
from tests.service.conftest import Bench

NOBODY = "http://127.0.0.1:9"
CUT = 40_000


@pytest.fixture(scope="module")
def content() -> bytes:
    return model_of(SIZE)


@pytest.fixture
def hubs(content: bytes) -> Iterator[tuple[FaultyHub, FaultyHub]]:
    with ExitStack() as stack:
        yield stack.enter_context(faulty_hub(content)), stack.enter_context(faulty_hub(content))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "project", tmp_path / "home")
    (bench.root / "configs/common").mkdir(parents=True)
    bench.home.mkdir()
    bench.write_catalog(CATALOG)
    return bench


def pull(bench: Bench, *addresses: str, **environ: str) -> tuple[int, str, int]:
    """Exit code, what was said on standard error, bytes fetched."""
    settings = f"[hub]\nendpoints = {json.dumps(addresses)}\ntries = 1\nstall_timeout_s = 5\nlongest_wait_s = 0.05\n"
    (bench.root / "configs/common/mecha.toml").write_text(settings)
    done = bench.command("models", "pull", "m", "--no-quantize", "--json", **environ)
    lines = done.stdout.splitlines()
    return done.returncode, done.stderr, json.loads(lines[-1])["downloaded_bytes"] if done.returncode == 0 else 0


def test_a_mirror_that_cannot_be_reached_is_passed_over(bench: Bench, hubs: tuple[FaultyHub, FaultyHub]) -> None:
    first, second = hubs
    assert pull(bench, NOBODY, first.server.endpoint, second.server.endpoint)[::2] == (0, SIZE)
    assert len(first.server.seen) == 2, "one question, one fetch"
    assert second.server.seen == []


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_mirror_that_refuses_the_question_is_passed_over(
    bench: Bench, hubs: tuple[FaultyHub, FaultyHub], status: int
) -> None:
    hubs[0].questions = [always(Reply(status))]
    assert pull(bench, *(hub.server.endpoint for hub in hubs))[::2] == (0, SIZE)
    assert len(hubs[0].server.seen) == 1


def truncated(hub: FaultyHub) -> Move:
    return always(Reply(200, {"ETag": '"only-here"'}, hub.content, cut_after=CUT))


def test_a_download_goes_on_at_the_next_mirror_where_the_first_one_stopped(
    bench: Bench, hubs: tuple[FaultyHub, FaultyHub]
) -> None:
    first, second = hubs
    first.fetches = [truncated(first), always(Reply(503))]
    assert pull(bench, first.server.endpoint, second.server.endpoint)[::2] == (0, SIZE)
    (rest,) = second.requests("GET")
    assert rest.range_start == CUT
    # The second one never gave an etag for the bytes that are there: sha256 decides.
    assert "if-range" not in rest.headers


def test_wrong_bytes_of_one_mirror_are_dropped_and_the_next_one_is_asked(
    bench: Bench, hubs: tuple[FaultyHub, FaultyHub], content: bytes
) -> None:
    first, second = hubs
    first.fetches = [always(Reply(200, {}, content[:-1] + b"?"))]
    assert pull(bench, first.server.endpoint, second.server.endpoint)[::2] == (0, 2 * SIZE - SIZE)
    assert second.requests("GET")[0].range_start == 0
    assert (bench.root / "models/m/model.onnx").read_bytes() == content


def test_a_mirror_with_another_file_of_that_name_does_not_take_over(
    bench: Bench, hubs: tuple[FaultyHub, FaultyHub]
) -> None:
    first, second = hubs
    first.fetches, second.content = [truncated(first), always(Reply(503))], model_of(SIZE - 1)
    code, said, _ = pull(bench, first.server.endpoint, second.server.endpoint)
    assert code == 5
    assert f"{first.url} answered 503 Service Unavailable; gave up after 1 tries" in said
    assert second.requests("GET") == []


def test_what_each_mirror_said_is_told_when_none_gives_it(bench: Bench, hubs: tuple[FaultyHub, FaultyHub]) -> None:
    first, second = (hub.server.endpoint for hub in hubs)
    for hub in hubs:
        hub.questions = [always(Reply(404))]
    code, said, _ = pull(bench, first, second)
    assert code == 4
    assert said.splitlines()[0] == (
        "error: owner/name/model.onnx: none of 2 mirrors gave it: "
        f"1. owner/name: no such model repo on {first}; 2. owner/name: no such model repo on {second}"
    )


def test_one_that_only_could_not_be_asked_keeps_the_file_from_being_called_missing() -> None:
    faults = [NotFoundError("a: no"), AccessDeniedError("b: refused", hint="log in"), NetworkError("c: silent")]
    error = refused_by_all("x/y", faults)
    assert type(error) is AccessDeniedError
    assert str(error) == "x/y: none of 3 mirrors gave it: 1. a: no; 2. b: refused; 3. c: silent"
    assert error.hint == "log in"
    assert refused_by_all("x/y", faults[:1]) is faults[0]


def test_the_token_is_shown_to_the_first_mirror_alone(bench: Bench, hubs: tuple[FaultyHub, FaultyHub]) -> None:
    first, second = hubs
    first.fetches = [always(Reply(503))]
    pull(bench, first.server.endpoint, second.server.endpoint, HF_TOKEN="hf_of_the_first")
    assert {seen.headers.get("authorization") for seen in first.server.seen} == {"Bearer hf_of_the_first"}
    assert {seen.headers.get("authorization") for seen in second.server.seen} == {None}


def test_hf_endpoint_is_asked_alone(bench: Bench, hubs: tuple[FaultyHub, FaultyHub]) -> None:
    first, second = hubs
    code, said, _ = pull(bench, second.server.endpoint, HF_ENDPOINT=NOBODY)
    assert code == 5
    assert "nothing listens there" in said
    assert first.server.seen == second.server.seen == []


def test_the_public_hub_gets_its_stored_login_also_as_the_last_of_several_mirrors(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_stored")
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN": "of-the-lan"}
    settings = HubSettings(endpoint="http://lan", endpoints=("https://other", "https://huggingface.co"))
    source = hub_source(environ, settings)
    assert isinstance(source, MirroredSource)
    assert [(hub.address, hub.token) for hub in source.sources] == [
        ("http://lan", "of-the-lan"),
        ("https://other", None),
        ("https://huggingface.co", "hf_stored"),
    ]


def test_a_full_disk_or_a_wrong_setting_is_not_taken_to_the_next_mirror(
    bench: Bench, hubs: tuple[FaultyHub, FaultyHub]
) -> None:
    code, said, _ = pull(bench, *(hub.server.endpoint for hub in hubs), HTTPS_PROXY="nonsense://x")
    assert code == 3
    assert "HTTPS_PROXY" in said
    assert [hub.server.seen for hub in hubs] == [[], []]


def test_an_address_that_is_none_is_refused_with_its_line(bench: Bench) -> None:
    code, said, _ = pull(bench, "http://lan", "gateway.local:8090")
    assert code == 3
    assert said.splitlines()[0] == (
        'error: configs/common/mecha.toml:2: hub.endpoints[1]: got "gateway.local:8090"; '
        "expected the address of a Hub, as in https://huggingface.co"
    )
