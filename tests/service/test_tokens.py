"""Each way in which a pull can fail, with a token set and everything shown: the token is nowhere."""

import pytest
from tests.hub.rough_server import Move, Reply, always, rough_server
from tests.service.conftest import Bench

TOKEN = "hf-not-so-secret-0123456789"
WAYS: dict[str, Move] = {
    "401": always(Reply(401)),
    "403": always(Reply(403, {"X-Error-Message": f"token {TOKEN} may not"})),
    "404": always(Reply(404)),
    "500": always(Reply(500, {}, TOKEN.encode())),
    "a page": always(Reply(200, {"Content-Type": "text/html"}, f"<html>{TOKEN}</html>".encode())),
    "a redirect": always(Reply(307, {"Location": f"http://user:{TOKEN}@127.0.0.1:9/x?token={TOKEN}"})),
    "no address": always(Reply(307, {"Location": f"http://[{TOKEN}"})),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_failure_of_a_pull_shows_the_token(bench: Bench, way: str) -> None:
    with rough_server(WAYS[way]) as server:
        done = bench.command(
            "-v", "models", "pull", "arena", "--json", HF_TOKEN=TOKEN, HF_ENDPOINT=server.endpoint, MECHA_LOG="debug"
        )
        sent = [seen.headers.get("authorization", "") for seen in server.seen]

    assert done.returncode in {3, 4, 5, 6}, done.stderr
    assert f"Bearer {TOKEN}" in sent
    assert TOKEN not in done.stdout + done.stderr
