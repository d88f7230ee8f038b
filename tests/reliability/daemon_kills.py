"""A daemon that is killed at a random moment, again and again in one project: what is left, and how it comes back."""

import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.project import find_project
from mecha.service.models import ModelService
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.kept import CATALOG, hub_folder, kept_project

_ORPHANS_S = 10.0
_POLL_S = 0.002
_LONGEST_S = 60.0
USER = """
    import subprocess
    from mecha.runtime.node import Node, NodeConfig

    class UserConfig(NodeConfig):
        model: str = ""
        pace_s: float = 0.05

    class User(Node[UserConfig]):
        config_model = UserConfig

        def setup(self) -> None:
            self.size = (self.root / "models" / self.config.model / "model.onnx").stat().st_size
            # What a node starts has to end with it.
            self.started = subprocess.Popen(["sleep", "600"])

        def step(self, message: None) -> None:
            self.wait(self.config.pace_s)
            self.report_inference(1.0, "FP32", 0)

        def close(self) -> None:
            self.started.kill()
            self.started.wait()
"""
INT8 = CATALOG.replace("enabled = false", 'enabled = true\nmethod = "static_int8"\nescalate = false')


@dataclass(frozen=True, slots=True)
class Kind:
    """What the daemon does when it is killed.

    Attributes:
        fresh: it is started for this, from what `before` left; otherwise it is ready already.
        before: changes the robot, while no daemon runs if `fresh`.
        marker: a file that has to be there first, below the folder of the robot; "" for none.
        window_s: the kill comes within so many seconds after that.
    """

    name: str
    fresh: bool
    before: Callable[["Robot"], None]
    marker: str
    window_s: float
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Kill:
    """What became of one kill; `faults` is empty when all was as it must be, `ready_s` how soon it was ready again."""

    kind: str
    moment: str
    faults: tuple[str, ...]
    ready_s: float


class Robot:
    """A project, its cache, its mirror, and its daemon."""

    def __init__(self, folder: Path, mirror: RunningMirror) -> None:
        self.folder = folder
        self.root = kept_project(folder / "project", user=USER)
        self.daemon = DaemonProcess(self.root, folder / "home", {"HF_ENDPOINT": mirror.endpoint})
        self._beside: list[threading.Thread] = []

    def kill(self, kind: Kind, chance: random.Random) -> Kill:
        """Kill the daemon while it does that, and see what is left, and that it comes back."""
        if kind.fresh:
            self.daemon.stop()
            kind.before(self)
            self.daemon.start()
        else:
            kind.before(self)
        self._wait_for(kind.marker)
        delay_s = chance.uniform(0.0, kind.window_s)
        time.sleep(delay_s)
        self.daemon.kill()
        for thread in self._beside:
            thread.join()
        self._beside.clear()
        faults = list(self._orphans())
        self.write_catalog(CATALOG)
        began_s = time.monotonic()
        self.daemon.start()
        try:
            self.daemon.wait_until_ready()
            ready_s = time.monotonic() - began_s
            self.daemon.wait_until(lambda: self.daemon.model()["state"] == "ready", "the model is ready")
        except AssertionError as error:
            return Kill(kind.name, f"{delay_s:.3f} s", (*faults, str(error)), time.monotonic() - began_s)
        faults += self._corruption()
        return Kill(kind.name, f"{delay_s:.3f} s after {kind.marker or 'its begin'}", tuple(faults), ready_s)

    def write_catalog(self, text: str) -> None:
        (self.root / "model_catalog.toml").write_text(text)

    def beside(self, ask: Callable[[], object]) -> None:
        """Ask the daemon something that it does not live to answer."""

        def asked() -> None:
            with suppress(OSError, HTTPException):
                ask()

        self._beside.append(threading.Thread(target=asked))
        self._beside[-1].start()

    def _orphans(self) -> Iterator[str]:
        deadline_s = time.monotonic() + _ORPHANS_S
        while left := self.daemon.left():
            if time.monotonic() > deadline_s:
                for process in left:
                    yield f"left behind: {process.pid} {process.name()}"
                    process.kill()
                return
            time.sleep(0.05)

    def _corruption(self) -> Iterator[str]:
        service = ModelService(find_project(self.root, self.daemon.environ), self.daemon.environ)
        yield from (f"{fault.file}: got {fault.got}; expected {fault.expected}" for fault in service.verify("arena"))
        log = self.daemon.log.read_text(encoding="utf-8", errors="replace")
        if "Traceback" in log or "failed where it should not" in log:
            yield log[-2000:]
        self.daemon.log.write_text("")

    def _wait_for(self, marker: str) -> None:
        deadline_s = time.monotonic() + _LONGEST_S
        while marker and self.daemon.process.poll() is None and not any(self.folder.glob(marker)):
            assert time.monotonic() < deadline_s, f"{marker} does not appear"
            time.sleep(_POLL_S)


def _forget_model(robot: Robot) -> None:
    for folder in (robot.root / "models", robot.folder / "home" / "cache"):
        shutil.rmtree(folder, ignore_errors=True)
    (robot.root / "mecha.lock").unlink(missing_ok=True)


def _want_int8(robot: Robot) -> None:
    shutil.rmtree(robot.folder / "home" / "cache" / "builds", ignore_errors=True)
    robot.write_catalog(INT8)


def _damage(robot: Robot) -> None:
    """Flip a bit of the model, as a flash cell would."""
    model = robot.root / "models" / "arena" / "model.onnx"
    content = model.read_bytes()
    model.unlink()  # a link to the cache, which stays as it is
    model.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])


def _pull_by_hand(robot: Robot) -> None:
    robot.beside(lambda: robot.daemon.ask("POST", "/api/pull", b'{"model":"arena"}', content_type="application/json"))


def _change_config(robot: Robot) -> None:
    file = robot.root / "configs/common/nodes/user/config.json"
    file.write_text(file.read_text().replace("{", '{ "pace_s": 0.04,', 1) if "pace_s" not in file.read_text()
                    else '{"model": "arena"}')  # fmt: skip


def _change_code(robot: Robot) -> None:
    file = robot.root / "nodes/user/node.py"
    file.write_text(file.read_text() + "\n# changed\n")


def _restart(robot: Robot) -> None:
    robot.beside(lambda: robot.daemon.ask("POST", "/api/nodes/user/restart"))


def _reload(robot: Robot) -> None:
    robot.daemon.process.send_signal(signal.SIGHUP)


def _end(robot: Robot) -> None:
    robot.daemon.process.send_signal(signal.SIGTERM)


KINDS = (
    Kind("start", True, lambda robot: None, "", 4.0, weight=4),
    Kind("first pull", True, _forget_model, "home/cache/partial/*", 0.3, weight=3),
    Kind("publication", True, _forget_model, "project/models/.*.staging", 0.05, weight=3),
    Kind("first start of a node", True, _forget_model, "project/models/arena/manifest.json", 1.5, weight=2),
    Kind("INT8", False, _want_int8, "home/cache/builds/.*.staging", 3.0, weight=2),
    Kind("healing", True, _damage, "", 4.0, weight=2),
    Kind("nothing", False, lambda robot: None, "", 1.0, weight=2),
    Kind("pull by hand", False, _pull_by_hand, "", 0.5, weight=2),
    Kind("another config", False, _change_config, "", 1.0, weight=2),
    Kind("other code", False, _change_code, "", 2.0),
    Kind("restart of a node", False, _restart, "", 1.5, weight=2),
    Kind("reload", False, _reload, "", 0.5),
    Kind("its end", False, _end, "", 0.6, weight=2),
)


def chosen(count: int, chance: random.Random) -> list[Kind]:
    """Return so many kinds, each about as often as its weight says, in an order of chance."""
    deck = [kind for kind in KINDS for _ in range(kind.weight)]
    many = [deck[(2 * number + 1) * len(deck) // (2 * count)] for number in range(count)]
    chance.shuffle(many)
    return many


@contextmanager
def robot(folder: Path) -> Iterator[Robot]:
    """Give a robot whose daemon is ready."""
    with running_mirror(hub_folder(folder / "hub")) as mirror:
        one = Robot(folder / "robot", mirror)
        with one.daemon as daemon:
            daemon.wait_until_ready()
            yield one
