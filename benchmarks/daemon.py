"""What the daemon takes where nothing happens, and whether a day of work leaves anything in its memory.

    python -m benchmarks.daemon idle [--seconds 60]
    python -m benchmarks.daemon day [--frames 100000]

`idle` runs it in a project without nodes, and counts the time and the memory of all its processes.

`day` runs it with the camera and the object-detector of this repository, small frames and a small model from a mirror,
and lays out a day over so many frames: what happens each minute or hour of a day happens each time the detector has
done its share of them. Each minute metrics and status are asked for; each hour a picture is
detected, the settings of the detector change, the catalog is broken and mended, the mirror goes and comes back, a model
is pulled again, events are listened to, SIGHUP comes, and the camera is started again. The memory of the first hours,
in which all is loaded that ever is, is left out: what is compared are two hours after them and the last two.
"""

import argparse
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import psutil
from tests.daemon.daemon_process import PATIENCE_S, DaemonProcess
from tests.detect.blob_detector import GREEN, RED, blob_detector, scene
from tests.runtime.projects import configure, make_project

from mecha.hub.mirror import running_mirror

HOURS, MINUTES = 24, 60
MOST_FPS = 250
"""What the detector cannot do would only take its time."""
SETTLED_AFTER_H = 4
COMPARED_H = 2
REPOSITORY = Path(__file__).parents[1]
CATALOG = """
[[models]]
name = "blobs"
task = "object-detection"
repo = "mecha/blobs"
filename = "blobs.onnx"
license = "Apache-2.0"

[models.quantize]
enabled = false
"""
SETTINGS = "[hub]\ntries = 1\nconnect_timeout_s = 2\nanswer_timeout_s = 5\n"


def main() -> int:
    """Measure and print; 1 when the memory was not flat, or the daemon not ready in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("idle").add_argument("--seconds", type=float, default=60.0)
    commands.add_parser("day").add_argument("--frames", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mecha-", ignore_cleanup_errors=True) as folder:
        if options.command == "idle":
            return idle(Path(folder), options.seconds)
        return Day(Path(folder), options.frames).run()


def idle(folder: Path, seconds: float) -> int:
    """Measure a daemon that has nothing to do."""
    root = make_project(folder / "project")
    with DaemonProcess(root, folder / "home") as daemon:
        daemon.wait_until_ready()
        # What was begun at the start has ended by then.
        time.sleep(5)
        processes = daemon.left()
        before, began_s = [seconds_of(process) for process in processes], time.monotonic()
        time.sleep(seconds)
        took_s = time.monotonic() - began_s
        for process, used_s in zip(processes, before, strict=True):
            share = (seconds_of(process) - used_s) / took_s
            print(f"{process.name():12s} {share:8.3%} of a core {megabytes(process):8.1f} MB resident")
        share = (sum(map(seconds_of, processes)) - sum(before)) / took_s
        print(f"{'all':12s} {share:8.3%} of a core {sum(map(megabytes, processes)):8.1f} MB resident, {took_s:.0f} s")
    return 0


class Day:
    """A daemon, and what happens to it in a day."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.frames = frames
        self.hub = hub_folder(folder / "hub")
        self.root = day_project(folder / "project")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.daemon = DaemonProcess(self.root, folder / "home", {"HF_ENDPOINT": f"http://127.0.0.1:{self.port}"})
        _, encoded = cv2.imencode(".png", scene((16, 16, 32, RED)))
        self.picture = encoded.tobytes()
        self.memory: dict[str, list[list[float]]] = {name: [] for name in ("daemon", "object-detector")}
        self.asked = 0

    def run(self) -> int:
        """Live through it, and tell."""
        began_s = time.monotonic()
        with self.daemon:
            with self.mirror():
                self.daemon.wait_until_ready()
                self.daemon.wait_until(lambda: self.done() > 0, "the first frame")
            for hour in range(HOURS):
                self.live(hour)
            self.daemon.wait_until_ready()
            done, status = self.done(), self.daemon.status()
            ended = self.daemon.stop()
        took_s = time.monotonic() - began_s
        print(f"{done} frames and {self.asked} requests in {took_s:.0f} s; ended with {ended}")
        for node in status["nodes"]:
            print(f"{node['name']}: {node['state']}, {node['restarts']} restarts, {node['stats']['dropped']} dropped")
        return int(not self.flat() or ended != 0 or done < self.frames)

    def live(self, hour: int) -> None:
        """Live through an hour."""
        for hours in self.memory.values():
            hours.append([])
        happenings = list(self.happenings(hour))
        for minute in range(MINUTES):
            due = self.frames * (hour * MINUTES + minute + 1) / (HOURS * MINUTES)
            if minute < len(happenings) * 5 and minute % 5 == 0:
                happenings[minute // 5]()
            self.ask("GET", "/metrics")
            self.remember()
            self.wait_for(due)
        heard = ", ".join(f"{name} {median(hours[-1]):.1f} MB" for name, hours in self.memory.items())
        print(f"hour {hour + 1}: {heard}", flush=True)

    def happenings(self, hour: int) -> Iterator[Callable[[], object]]:
        """Return what happens each five minutes of an hour."""
        catalog = self.root / "model_catalog.toml"
        written = catalog.read_text()

        def mend() -> None:
            self.daemon.wait_until(lambda: "rpeo" in self.daemon.status()["catalog_fault"], "the fault is told")
            catalog.write_text(written)
            self.daemon.wait_until(lambda: not self.daemon.status()["catalog_fault"], "the fault is gone")

        yield lambda: self.ask("POST", "/api/detect?model=blobs", self.picture)
        yield lambda: configure(self.root, "object-detector", **detector_config(0.2 + 0.01 * hour))
        yield lambda: catalog.write_text(written.replace("repo =", "rpeo ="))
        yield mend
        yield lambda: self.ask("POST", "/api/pull", b'{"model":"blobs","stream":false}', expected=(200, 502))
        yield self.pull_again
        yield self.listen
        yield lambda: self.daemon.process.send_signal(signal.SIGHUP)
        yield lambda: self.ask("POST", "/api/nodes/camera/restart")
        yield lambda: self.ask("GET", "/api/nodes/camera/frame.jpg", expected=(200, 404, 503))

    def pull_again(self) -> None:
        """Pull a model that nobody runs, from a mirror that is there for as long as that takes."""
        with self.mirror():
            self.ask("POST", "/api/pull", b'{"model":"spare","stream":false}')
        self.ask("DELETE", "/api/delete", b'{"model":"spare"}')

    def listen(self) -> None:
        """Listen to events, and leave in the middle of them."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
            opened.settimeout(PATIENCE_S)
            opened.connect(str(self.daemon.place.socket))
            opened.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            heard = 0
            while heard < 20_000:
                piece = opened.recv(65536)
                assert piece, "the events have ended"
                heard += len(piece)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, expected: tuple[int, ...] = (200, 202, 204)
    ) -> None:
        """Ask, and see that it is answered well."""
        kind = {"content_type": "application/json"} if body and body.startswith(b"{") else {}
        answer = self.daemon.ask(method, path, body, **kind)
        assert answer.status in expected, (method, path, answer.status, answer.body[:500])
        self.asked += 1

    @contextmanager
    def mirror(self) -> Iterator[None]:
        """Let the mirror run."""
        with running_mirror(self.hub, port=self.port):
            yield

    def done(self) -> int:
        """Return how many frames the detector has done."""
        self.asked += 1
        return int((self.daemon.node("object-detector").get("stats") or {}).get("frames", 0))

    def wait_for(self, frames: float) -> None:
        """Wait until the detector has done so many frames."""
        if self.done() < frames:
            self.daemon.wait_until(lambda: self.done() >= frames, f"{frames:.0f} frames")

    def remember(self) -> None:
        """Note what its processes hold."""
        self.memory["daemon"][-1].append(megabytes(psutil.Process(self.daemon.process.pid)))
        pid = self.daemon.node("object-detector").get("pid")
        if pid is not None:
            self.memory["object-detector"][-1].append(megabytes(psutil.Process(pid)))

    def flat(self) -> bool:
        """Print what was gained, and tell whether that is nothing: less than 2 %, or 2 MB."""
        flat = True
        for name, hours in self.memory.items():
            early = median(chain.from_iterable(hours[SETTLED_AFTER_H : SETTLED_AFTER_H + COMPARED_H]))
            late = median(chain.from_iterable(hours[-COMPARED_H:]))
            gained, highest = late - early, max(chain.from_iterable(hours))
            print(f"{name}: {early:.1f} MB after {SETTLED_AFTER_H} h, {late:.1f} MB at the end ({gained:+.1f}), "
                  f"{highest:.1f} MB at most")  # fmt: skip
            flat = flat and late - early < max(2.0, 0.02 * early)
        return flat


def day_project(root: Path) -> Path:
    """Lay out a project with the nodes of this repository, and frames of 64x64 as fast as they go."""
    make_project(root)
    for node in ("camera", "object-detector"):
        (root / "nodes" / node).mkdir(parents=True)
        shutil.copy(REPOSITORY / "nodes" / node / "node.py", root / "nodes" / node / "node.py")
    pictures = root / "pictures"
    pictures.mkdir()
    for number, colour in enumerate((RED, GREEN)):
        cv2.imwrite(str(pictures / f"{number}.png"), scene((16, 16, 32, colour)))
    spare = CATALOG.replace('name = "blobs"', 'name = "spare"').replace("blobs.onnx", "spare.onnx")
    (root / "model_catalog.toml").write_text(CATALOG + spare)
    configure(root, "camera", source=str(pictures), loop=True, real_time=False, max_fps=MOST_FPS)
    configure(root, "object-detector", **detector_config(0.25))
    (root / "configs/common/mecha.toml").write_text(SETTINGS)
    return root


def detector_config(score: float) -> dict[str, Any]:
    """Return the config of the detector."""
    return {
        "model": "blobs",
        "use_int8": False,
        "score_threshold": round(score, 2),
        "self_calibrate": False,
        "threads": 1,
    }


def hub_folder(folder: Path) -> Path:
    """Lay out what the mirror serves: the model of the detector, and one that nobody runs."""
    repo = folder / "mecha" / "blobs"
    repo.mkdir(parents=True)
    (repo / "blobs.onnx").write_bytes(blob_detector())
    (repo / "spare.onnx").write_bytes(blob_detector() + b"\x72\x04\x0a\x00\x12\x00")  # one more entry of metadata
    return folder


def seconds_of(process: psutil.Process) -> float:
    """Return what a process has computed for."""
    times = process.cpu_times()
    return float(times.user + times.system)


def megabytes(process: psutil.Process) -> float:
    """Return the resident memory of a process, 10^6 bytes."""
    return float(process.memory_info().rss) / 1e6


if __name__ == "__main__":
    sys.exit(main())
