"""Pictures in, detections out: with the real process that detects."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import psutil
import pytest

from mecha.daemon import detect_api
from mecha.daemon.daemon import Daemon
from mecha.daemon.detect_api import DetectCounts, Detection, detect_router
from mecha.daemon.detecting import Detecting, Wanted
from mecha.daemon.waiting_room import Room, WaitingRoom
from mecha.errors import NodeError
from mecha.project import find_project
from mecha.store.models import ModelStore
from tests.daemon.served_device import Served, served
from tests.detect.blob_detector import GREEN, RED, scene
from tests.detect.published_blobs import int8_blobs, publish_blobs
from tests.processes import below
from tests.runtime.projects import make_project
from tests.runtime.supervision import PATIENCE_S
from tests.runtime.waiting import wait_for


def encoded(suffix: str = ".png") -> bytes:
    frame = scene((8, 8, 8, RED), (40, 24, 8, GREEN), size=(64, 64))
    return bytes(cv2.imencode(suffix, frame)[1])


PICTURE = encoded()


class Seats:
    """Who waits, of the daemon of these tests."""

    counts: DetectCounts


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that was not started, of a project with one model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        root = make_project(tmp_path_factory.mktemp("project"))
        publish_blobs(ModelStore(root / "models"), int8=int8_blobs())
        daemon = Daemon(find_project(root, os.environ), os.environ)
        # As eager as the tests: the usual priority would let them wait on a busy machine.
        detecting = Detecting(os.environ, niceness=0)
        detection = Detection(daemon, room=Room(seats=4, size_bytes=8 << 20), body_s=2.0, detecting=detecting)
        Seats.counts = detection.counts
        with served(root, detect_router(detection), daemon=daemon, start=False) as one:
            yield one
        for child in below("mecha.daemon.detect_child"):
            child.kill()
            child.wait()


def test_a_picture_becomes_detections(device: Served) -> None:
    answer = device.ask("POST", "/api/detect?model=blobs&precision=fp32", PICTURE, content_type="image/png")
    assert answer.status == 200, answer.body
    told = answer.json
    assert (told["model"], told["width"], told["height"], told["precision"], told["notice"]) == (
        "blobs", 64, 64, "FP32", "",
    )  # fmt: skip
    assert {found["label"] for found in told["detections"]} == {"red", "green"}
    assert set(told["ms"]) == {"queued", "load", "decode", "pre", "session", "post"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_form_is_taken_too_and_int8_runs_where_asked_for(device: Served, suffix: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + encoded(suffix)
        + b"\r\n--b--\r\n"
    )
    answer = device.ask(
        "POST", "/api/detect?model=blobs&precision=int8", body, content_type="multipart/form-data; boundary=b"
    )
    assert (answer.status, answer.json["precision"]) == (200, "INT8"), answer.body


def test_weak_objects_are_left_out_where_asked_for(device: Served) -> None:
    answer = device.ask("POST", "/api/detect?model=blobs&precision=fp32&score=1", PICTURE)
    assert (answer.status, answer.json["detections"]) == (200, [])


def huge() -> bytes:
    width = (40_000).to_bytes(4, "big")
    return PICTURE[:16] + width + width + PICTURE[24:]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "got no picture; expected one as the body, or as a file of a form"),
        (b"GIF89a", 415, "got 6 bytes that are no JPEG, PNG or WebP; expected one of these"),
        (huge(), 413, "got 1600.0 megapixels; expected 32 at most"),
        (PICTURE[:16] + bytes(8) + PICTURE[24:], 400, "got a PNG of 0x0 pixels; expected at least one"),
        (
            PICTURE[:40], 400, "the picture: got 40 bytes that cannot be decoded; "
            "expected a whole JPEG, PNG, BMP, WebP or TIFF",
        ),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(device: Served, body: bytes, status: int, said: str) -> None:
    answer = device.ask("POST", "/api/detect?model=blobs&precision=fp32", body)
    assert (answer.status, answer.json["error"]) == (status, said)


def test_a_picture_that_is_too_long_is_refused_before_it_is_read(device: Served) -> None:
    connection = device.open()
    connection.putrequest("POST", "/api/detect?model=blobs")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    expected = "got 1099511627776 bytes; expected a picture of 16777216 bytes at most"
    assert json.loads(response.read())["error"] == expected
    connection.close()


def test_a_picture_that_grows_past_the_limit_is_refused(device: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect_api, "MOST_BYTES", 100)
    connection = device.open()
    connection.request("POST", "/api/detect?model=blobs", iter([b"x" * 60, b"x" * 60]), encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]) == (
        413, "got more; expected a picture of 100 bytes at most",
    )  # fmt: skip
    connection.close()


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("model=nobody", 404, '"nobody"'),
        ("model=..%2f..%2fetc", 404, "etc"),
        ("model=blobs&precision=int4", 400, "query.precision: "),
        ("model=blobs&score=2", 400, "query.score: "),
        ("", 400, "model: missing; no node runs one"),
    ],
)
def test_what_cannot_detect_is_said(device: Served, query: str, status: int, said: str) -> None:
    answer = device.ask("POST", f"/api/detect?{query}", PICTURE)
    assert (answer.status, said in answer.json["error"]) == (status, True), answer.body


def begun(device: Served) -> http.client.HTTPConnection:
    """Return a request whose body does not come."""
    connection = device.open()
    connection.putrequest("POST", "/api/detect?model=blobs")
    connection.putheader("Content-Length", "100")
    connection.endheaders()
    return connection


def test_past_the_queue_a_client_is_told_when_to_come_again(device: Served) -> None:
    waiting = [begun(device) for _ in range(4)]
    wait_for(lambda: Seats.counts.waiting == 4, timeout_s=PATIENCE_S)
    answer = device.ask("POST", "/api/detect?model=blobs", PICTURE)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["error"] == "too many pictures wait already"
    assert answer.json["hint"] == f"Send it again after {answer.headers['Retry-After']} s."
    # A body that does not come gives its place back.
    assert [connection.getresponse().status for connection in waiting] == [408] * 4
    for connection in waiting:
        connection.close()
    assert device.ask("POST", "/api/detect?model=blobs", PICTURE).status == 200


def test_one_who_sends_much_while_all_seats_are_taken_gets_a_whole_answer(device: Served) -> None:
    waiting = [begun(device) for _ in range(4)]
    wait_for(lambda: Seats.counts.waiting == 4, timeout_s=PATIENCE_S)
    body = PICTURE + bytes(4 << 20)
    with socket.create_connection(("127.0.0.1", device.port), timeout=PATIENCE_S) as opened:
        head = "POST /api/detect?model=blobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        opened.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert answer.endswith(b"}")
    for connection in waiting:
        connection.close()


def test_a_client_that_leaves_gives_its_seat_back(device: Served) -> None:
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", device.port)) as left:
            head = f"POST /api/detect?model=blobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
            left.sendall(head.encode() + PICTURE)
    wait_for(lambda: device.ask("POST", "/api/detect?model=blobs", PICTURE).status == 200, timeout_s=PATIENCE_S)


def wanted(root: Path, stamp: int = 0) -> Wanted:
    return Wanted(root / "models/blobs", "fp32", (stamp,))


def test_a_process_that_dies_is_told_and_another_takes_its_place(device: Served) -> None:
    root = device.daemon.project.root
    detecting = Detecting(os.environ, niceness=0)
    before = set(below("mecha.daemon.detect_child"))
    assert detecting.detect(wanted(root), PICTURE, 0.25).result(PATIENCE_S)["detections"]
    [child] = set(below("mecha.daemon.detect_child")) - before
    child.suspend()
    told = detecting.detect(wanted(root), PICTURE, 0.25)
    wait_for(told.running, what="the picture is worked on")
    time.sleep(0.5)  # and asked of the process, which nobody sees
    child.kill()
    with pytest.raises(
        NodeError, match=r"^blobs, fp32: its process ended with signal SIGKILL while it worked on the pict"
    ):
        told.result(PATIENCE_S)
    assert detecting.detect(wanted(root), PICTURE, 0.25).result(PATIENCE_S)["detections"]
    # A model that was published anew is loaded anew.
    [second] = set(below("mecha.daemon.detect_child")) - before
    assert detecting.detect(wanted(root, 1), PICTURE, 0.25).result(PATIENCE_S)["ms"]["load"] > 0
    assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE


def test_a_picture_that_takes_too_long_ends_its_process_and_an_idle_model_is_unloaded(device: Served) -> None:
    root = device.daemon.project.root
    before = set(below("mecha.daemon.detect_child"))
    detecting = Detecting(os.environ, idle_s=0.5, run_s=2.0, niceness=0)
    assert detecting.detect(wanted(root), PICTURE, 0.25).result(PATIENCE_S)["detections"]
    [child] = set(below("mecha.daemon.detect_child")) - before
    child.suspend()
    with pytest.raises(NodeError, match=r"^blobs, fp32: no answer within 2 s; its process was ended$"):
        detecting.detect(wanted(root), PICTURE, 0.25).result(PATIENCE_S)
    detecting.detect(wanted(root), PICTURE, 0.25).result(PATIENCE_S)
    wait_for(lambda: detecting.loaded == 0 and set(below("mecha.daemon.detect_child")) <= before, timeout_s=PATIENCE_S)


def test_a_seat_is_for_a_request_and_its_bytes() -> None:
    room = WaitingRoom(Room(seats=3, size_bytes=100))
    assert [room.enter(60), room.enter(60), room.enter(40), room.enter(1)] == [True, False, True, False]
    room.leave(60)
    assert room.enter(60)
    assert (room.taken, room.retry_s) == (2, 1)
    for _ in range(50):
        room.worked(4.0)
    assert room.retry_s == 8
    for _ in range(100):
        room.worked(1e6)
    assert room.retry_s == 60


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="this system has classes of priority")
def test_the_nodes_go_first() -> None:
    code = "import os; from mecha.daemon.detect_child import NICENESS, give_way; give_way(NICENESS); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) >= 13
