"""What many requests for detections do to the nodes: 200 clients at a time, from a second process.

    python -m benchmarks.daemon_load [--clients 200] [--seconds 20] [--fps 15]

A daemon runs the camera and the object-detector of this repository, with the model that comes with mecha. The frames of
the detector are counted for a while without clients, then with them, then without them again. Each client sends
a picture, waits for the answer, and sends the next one; where it is told to come again later, it does so.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mecha.arena.camera import ArenaCamera
from mecha.runtime.timing import percentile

ROOT = Path(__file__).parents[1]
PATIENCE_S = 180.0
CATALOG = """
[[models]]
name = "arena-n"
task = "object-detection"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
sha256 = "{sha256}"
preprocessing_preset = "yolo"

[models.quantize]
enabled = false
"""


class Robot:
    """A project with its daemon, in a folder of its own."""

    def __init__(self, folder: Path, fps: float) -> None:
        self.root, home = folder / "project", folder / "home"
        self.socket = folder / "daemon.sock"
        home.mkdir()
        shutil.copytree(ROOT / "nodes", self.root / "nodes")
        self.root.joinpath("model_catalog.toml").write_text(CATALOG.format(sha256=packaged_digest()))
        self.configure("camera", source="arena://", max_fps=fps)
        self.configure("object-detector", model="arena-n", use_int8=False, self_calibrate=False)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "MECHA_", "XDG_"))}
        environ = {**kept, "HOME": str(home), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "mecha", "daemon", "run", "--socket", str(self.socket)]
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, cwd=self.root, env=environ, stdout=self.log, stderr=self.log)

    def configure(self, node: str, **values: object) -> None:
        """Write the config of a node."""
        file = self.root / "configs/common/nodes" / node / "config.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))

    def ask(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of an answer; 0 where nobody answers yet."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
        with socket.socket(socket.AF_UNIX) as opened:
            try:
                opened.connect(str(self.socket))
            except OSError:
                return 0, None
            connection.sock = opened
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def wait(self, path: str) -> None:
        """Wait until a path answers 200."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.ask(path)[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(Path(self.log.name).read_text(encoding="utf-8", errors="replace"))
            time.sleep(0.2)

    def frames(self) -> tuple[int, int]:
        """Return frames and drops of the detector."""
        _, told = self.ask("/api/nodes")
        stats = next(node["stats"] for node in told["nodes"] if node["name"] == "object-detector") or {}
        return stats.get("frames", 0), stats.get("dropped", 0)

    def rate(self, seconds: float) -> float:
        """Return frames a second of the detector; it tells once a second."""
        started, began_s = self._told()
        time.sleep(seconds)
        ended, ended_s = self._told()
        return (ended - started) / (ended_s - began_s)

    def _told(self) -> tuple[int, float]:
        before = self.frames()[0]
        while (now := self.frames()[0]) == before:
            time.sleep(0.02)
        return now, time.monotonic()

    def end(self) -> float:
        """Stop the daemon; returns the seconds that took."""
        began_s = time.monotonic()
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self.log.close()
        return time.monotonic() - began_s


def packaged_digest() -> str:
    """Return the sha256 of the model that comes with mecha."""
    from mecha.store.blobs import packaged_models
    from mecha.store.digests import sha256_of

    return sha256_of(packaged_models()[0])


def picture() -> bytes:
    """Return a frame of the arena as a JPEG."""
    frame = ArenaCamera(seed=1).scene(0).frame_bgr
    return bytes(cv2.imencode(".jpg", np.asarray(frame))[1])


async def client(path: str, body: bytes, until_s: float, seen: list[tuple[str, float]]) -> None:
    """Send one picture after the other until the time is over."""
    head = (
        f"POST /api/detect?model=arena-n&precision=fp32 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    )
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        try:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            answer = await reader.read()
            writer.close()
        except OSError as error:
            answer = f"- {type(error).__name__} ".encode()
        words = answer.split(b" ", 2)
        status = words[1].decode() if len(words) > 1 else "nothing"
        seen.append((status, time.monotonic() - began_s))
        if status != "200":
            told = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"retry-after:")]
            wait_s = float(told[0].split(b":")[1]) if told else 1.0
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.5))


async def clients(path: str, count: int, seconds: float) -> dict[str, Any]:
    """Return what many clients saw."""
    body, seen = picture(), list[tuple[str, float]]()
    until_s = time.monotonic() + seconds
    await asyncio.gather(*(client(path, body, until_s, seen) for _ in range(count)))
    answered = [took_s for status, took_s in seen if status == "200"]
    refused = [took_s for status, took_s in seen if status == "429"]
    return {
        "clients": count,
        "answers": dict(sorted(Counter(status for status, _ in seen).items())),
        "answered_per_s": round(len(answered) / seconds, 1),
        "answered_s": {"p50": percentile(answered, 0.5), "p99": percentile(answered, 0.99)},
        "refused_s": {"p50": percentile(refused, 0.5), "p99": percentile(refused, 0.99)},
    }


def measure(folder: Path, count: int, seconds: float, fps: float) -> dict[str, Any]:
    """Return what the clients saw, and what became of the nodes."""
    robot = Robot(folder, fps)
    try:
        robot.wait("/readyz")
        robot.rate(3.0)
        before = robot.rate(seconds)
        command = [sys.executable, "-m", "benchmarks.daemon_load", "--to", str(robot.socket)]
        beside = subprocess.Popen(
            [*command, "--clients", str(count), "--seconds", str(seconds + 4)], cwd=ROOT, stdout=subprocess.PIPE
        )
        # The first picture waits for the model.
        time.sleep(3.0)
        during = robot.rate(seconds - 2)
        told, _ = beside.communicate(timeout=PATIENCE_S)
        after = robot.rate(seconds)
    finally:
        stopped_s = robot.end()
    usual = (before + after) / 2
    rates = {"before": round(before, 2), "during": round(during, 2), "after": round(after, 2)}
    return {
        **json.loads(told),
        "frames_per_s": rates,
        "drop_percent": round(100 * (1 - during / usual), 1),
        "stopped_s": round(stopped_s, 2),
    }


def main() -> None:
    """Measure and print, or be the second process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=float, default=15.0, help="of the camera")
    parser.add_argument("--to", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.to:
        print(json.dumps(asyncio.run(clients(parsed.to, parsed.clients, parsed.seconds))))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parsed.clients, parsed.seconds, parsed.fps), indent=2))


if __name__ == "__main__":
    main()
