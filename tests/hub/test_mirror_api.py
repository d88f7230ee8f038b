"""What the mirror tells of repos: their cards, their files, their trees; asked by hand over real connections."""

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from mecha.hub.gateway_store import Stored
from mecha.hub.mirror import RunningMirror
from mecha.hub.mirror_app import mirror_app
from mecha.hub.mirror_files import ServedFolder
from tests.hub.asked_mirror import MODEL, SHA256, ask, write

if TYPE_CHECKING:
    from mecha.hub.gateway import Gateway


def test_a_repo_is_described(mirror: RunningMirror) -> None:
    info = ask(mirror, "/api/models/owner/name").json

    assert (info["id"], info["author"], info["private"], info["gated"]) == ("owner/name", "owner", False, False)
    assert info["cardData"] == {"license": "apache-2.0"}
    assert [sibling["rfilename"] for sibling in info["siblings"]] == [
        "README.md",
        "empty.txt",
        "größe 1#.txt",
        "sub/model.onnx",
    ]


@pytest.mark.parametrize(
    "card",
    [
        b"# no front matter",
        b"---\nlicense: [a\n---\n",
        b"---\n- a list\n---\n",
        b"---\nlicense: 7\n---\n",
        b"\xff\xfe---",
        b"---\n" + b"#" * 2_000_000 + b"\nlicense: mit\n---\n",
    ],
    ids=["none", "broken YAML", "a list", "a number", "no text", "too long"],
)
def test_a_card_without_a_readable_licence_states_none(mirror: RunningMirror, root: Path, card: bytes) -> None:
    write(root / "owner/name/README.md", card)

    assert "cardData" not in ask(mirror, "/api/models/owner/name").json


def test_blobs_adds_sizes_and_digests(mirror: RunningMirror) -> None:
    siblings = ask(mirror, "/api/models/owner/name?blobs=True").json["siblings"]

    assert siblings[-1]["size"] == len(MODEL)
    assert siblings[-1]["lfs"] == {"sha256": SHA256, "size": len(MODEL), "pointerSize": 132}


def test_a_tree_is_listed_level_by_level_or_whole(mirror: RunningMirror) -> None:
    def names(path: str) -> list[tuple[str, str]]:
        return [(entry["type"], entry["path"]) for entry in ask(mirror, f"/api/models/owner/name/tree/main{path}").json]

    top = [("file", "README.md"), ("file", "empty.txt"), ("file", "größe 1#.txt"), ("directory", "sub")]
    assert names("") == top
    assert names("?recursive=True") == [*top, ("file", "sub/model.onnx")]
    assert names("/sub") == [("file", "sub/model.onnx")]


def test_a_long_tree_comes_in_pages(mirror: RunningMirror) -> None:
    path, seen = "/api/models/owner/name/tree/main?recursive=True&limit=2", []
    while True:
        answer = ask(mirror, path)
        seen += [entry["path"] for entry in answer.json]
        if "Link" not in answer.headers:
            break
        assert len(answer.json) == 2
        path = answer.headers["Link"].partition(">")[0].removeprefix(f"<{mirror.endpoint}")

    assert seen == ["README.md", "empty.txt", "größe 1#.txt", "sub", "sub/model.onnx"]


def test_paths_can_be_asked_for_together(mirror: RunningMirror) -> None:
    form = urlencode({"paths": ["sub", "README.md", "nowhere"], "expand": "False"}, doseq=True)
    answer = ask(mirror, "/api/models/owner/name/paths-info/main", "POST", form)

    assert [entry["path"] for entry in answer.json] == ["README.md", "sub"]


def test_a_long_question_is_refused(mirror: RunningMirror) -> None:
    answer = ask(mirror, "/api/models/owner/name/paths-info/main", "POST", "paths=" + "x" * 2_000_000)

    assert answer.status == 413


def test_the_next_page_of_an_upstream_is_asked_for_with_its_own_cursor(root: Path) -> None:
    asked = []

    class Kept:
        """A gateway that has been told this page before."""

        def kept_answer(self, path: str, **_: object) -> Stored:
            asked.append(path)
            return Stored("[]")

    app = mirror_app(ServedFolder(root), token=None, gateway=cast("Gateway", Kept()))
    answer = TestClient(app).get("/api/models/owner/large/tree/main?cursor=ZXlKbWFXeGxYMjVoYldV&limit=1000")

    assert (answer.status_code, answer.json()) == (200, [])
    assert asked == ["/api/models/owner/large/tree/main?cursor=ZXlKbWFXeGxYMjVoYldV&limit=1000"]


@pytest.mark.parametrize("cursor", ["ZXlK", "-1", "1e9", "9" * 10])
def test_a_cursor_of_another_server_is_refused(mirror: RunningMirror, cursor: str) -> None:
    answer = ask(mirror, f"/api/models/owner/name/tree/main?cursor={cursor}")

    assert (answer.status, answer.json) == (400, {"error": "cursor: expected that of a page of this mirror"})
