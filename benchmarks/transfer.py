"""What a pull costs where nothing goes wrong: its rate beside that of curl, and commands that have little to do.

    python benchmarks/transfer.py [--rounds 5] [--megabytes 200] [--models 200] [--folder DIR]

A transfer goes on at a tenth of the file, over loopback, from a process that sends the file as fast as the kernel can.
curl and mecha take turns; each figure is the median of the rounds. mecha hashes what it has and what comes, and waits
until it is on the disk; curl does neither, so the same is timed once more after `sync` of its file.
"""

import argparse
import hashlib
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mecha.hub.source import RemoteFile

COMMIT = "0" * 40
CATALOG = """
[[models]]
name = "{name}"
task = "object-detection"
path = "{file}"

[models.quantize]
enabled = false
"""


def main() -> None:
    """Measure, and print two tables; or be the server."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--megabytes", type=int, default=200)
    arguments.add_argument("--models", type=int, default=200)
    arguments.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    arguments.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        transfers(Path(work), options.megabytes * 1_000_000, options.rounds)
        commands(Path(work), options.models, options.rounds)


class Sender(BaseHTTPRequestHandler):
    """Answers every GET with the file, or what is asked of it."""

    protocol_version = "HTTP/1.1"
    file: Path

    def do_GET(self) -> None:
        """Send by the kernel: no byte passes through Python."""
        size = self.file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", '"benchmark"')
        self.end_headers()
        self.wfile.flush()
        with self.file.open("rb") as source:
            self.connection.sendfile(source, start)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the class above
        """Say nothing."""


def serve(file: Path) -> None:
    """Serve one file on a free port, which is written to standard output, until the process is ended."""
    Sender.file = file
    socketserver.TCPServer.request_queue_size = 64
    with ThreadingHTTPServer(("127.0.0.1", 0), Sender) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


@contextmanager
def served(file: Path) -> Iterator[str]:
    """Serve a file from a process of its own; give its address."""
    command = [sys.executable, __file__, "--serve", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/{file.name}"
        finally:
            process.kill()


def transfers(work: Path, size: int, rounds: int) -> None:
    """Print the rates of transfers that go on at a tenth of the file."""
    file, kept = work / "file", size // 10
    with file.open("wb") as out:
        for _ in range(0, size, 1_000_000):
            out.write(os.urandom(1_000_000))
    start = file.read_bytes()[:kept]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    ways: dict[str, Callable[[str, Path], None]] = {
        "curl": curl,
        "curl, synced": curl_synced,
        "mecha": lambda url, target: mecha(url, target, size, digest),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with served(file) as url:
        for _ in range(rounds):
            for way, transfer in ways.items():
                target = work / "target"
                target.write_bytes(start)
                sidecar(target, size, digest)
                os.sync()
                began = perf_counter()
                transfer(url, target)
                rates[way].append((size - kept) / 1e6 / (perf_counter() - began))
                assert target.stat().st_size == size
                for left in work.glob("target*"):
                    left.unlink()
    curl_rate = median(rates["curl"])
    print(f"\n{size / 1e6:.0f} MB, {kept / 1e6:.0f} MB of it there; {rounds} rounds in turns\n")
    print("| transfer | MB/s | against curl |\n|---|--:|--:|")
    for way, values in rates.items():
        print(f"| {way} | {median(values):.0f} | {median(values) / curl_rate:.2f} |")


def curl(url: str, target: Path) -> None:
    """Go on with a file."""
    subprocess.run(["curl", "-sS", "-C", "-", "-o", str(target), url], check=True)


def curl_synced(url: str, target: Path) -> None:
    """Go on with a file, and wait until it is on the disk."""
    curl(url, target)
    subprocess.run(["sync", str(target)], check=True)


def mecha(url: str, target: Path, size: int, digest: str) -> None:
    """Go on with a file as a pull does."""
    from mecha.hub.download import download
    from mecha.progress import silent

    done = download(remote(url, size, digest), target, progress=silent)
    assert done.resumed_from == size // 10, "it did not go on"


def remote(url: str, size: int, digest: str) -> "RemoteFile":
    """Describe the file as a Hub would."""
    from mecha.hub.source import RemoteFile

    return RemoteFile("a/b", "file", "model", COMMIT, url, digest, size, digest)


def sidecar(target: Path, size: int, digest: str) -> None:
    """Note what an earlier process had begun to fetch."""
    import json

    document = {"repo": "a/b", "repo_type": "model", "filename": "file", "commit": COMMIT, "etag": digest}
    document |= {"sha256": digest, "size_bytes": size, "validator": '"benchmark"'}  # type: ignore[dict-item]
    target.with_name(f"{target.name}.json").write_text(json.dumps(document), encoding="utf-8")


def commands(work: Path, models: int, rounds: int) -> None:
    """Print how long commands take that have little to do."""
    project = work / "project"
    (project / "home").mkdir(parents=True)
    import mecha as package

    shutil.copy(Path(package.__file__).parent / "arena" / "arena-n.onnx", project / "arena.onnx")
    names = [f"model-{number:03d}" for number in range(models)]
    (project / "model_catalog.toml").write_text(
        "".join(CATALOG.format(name=name, file="arena.onnx") for name in names), encoding="utf-8"
    )
    environment = os.environ | {"HOME": str(project / "home"), "MECHA_CACHE_DIR": str(project / "home" / "cache")}
    timed(project, environment, "pull", names[0])
    for name in names[1:]:
        copied(project / "models", names[0], name)
    rows = {"list": ("list",), "list --json": ("list", "--json"), "pull of what is complete": ("pull", names[-1])}
    times: dict[str, list[tuple[float, float]]] = {row: [] for row in rows}
    for _ in range(rounds):
        for row, command in rows.items():
            times[row].append(timed(project, environment, *command))
    print(f"\n{models} models published; {rounds} rounds in turns\n\n| command | s | CPU s |\n|---|--:|--:|")
    for row, values in times.items():
        print(
            f"| `models {row}` | {median(clock for clock, _ in values):.2f} | {median(cpu for _, cpu in values):.2f} |"
        )


def copied(folder: Path, one: str, other: str) -> None:
    """Publish a model once more under another name."""
    shutil.copytree(folder / one, folder / other, copy_function=os.link)
    for file in ("manifest.json", "config.json"):
        content = (folder / one / file).read_text(encoding="utf-8").replace(f'"{one}"', f'"{other}"')
        (folder / other / file).unlink()
        (folder / other / file).write_text(content, encoding="utf-8")
    digest = hashlib.sha256((folder / other / "config.json").read_bytes()).hexdigest()
    manifest = folder / other / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    before = hashlib.sha256((folder / one / "config.json").read_bytes()).hexdigest()
    manifest.write_text(text.replace(before, digest), encoding="utf-8")


def timed(project: Path, environment: Mapping[str, str], *command: str) -> tuple[float, float]:
    """Run a command of `mecha models` in a new process and return its seconds, of the clock and of CPU."""
    began, used = perf_counter(), children_s()
    subprocess.run(
        [sys.executable, "-m", "mecha", "models", *command],
        cwd=project,
        env=dict(environment),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return perf_counter() - began, children_s() - used


def children_s() -> float:
    """Return the CPU seconds of all processes that were started and have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
