"""Where the bus of a project is: a folder that only its owner can enter, found again from the project's path."""

import hashlib
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mecha.errors import BusyError, DiskError, NotFoundError
from mecha.project import BusSettings
from mecha.runtime.bus.zenoh import ZenohBus
from mecha.store.faults import disk_error
from mecha.store.locks import exclusive, holder
from mecha.store.process import NOT_TOLD, ProcessId

BUS_VARIABLE = "MECHA_BUS"

# sun_path holds 104 bytes on macOS and 108 on Linux; Zenoh puts a lock file beside the socket.
_LONGEST_SOCKET_PATH = 95
_LONGEST_NAME = "/4294967295.sock"
_HOST = "bus"


class BusPlace:
    """The run-time folder of a project.

    Attributes:
        folder: made when it is first needed, mode 0700.
    """

    def __init__(self, project_root: Path, environ: Mapping[str, str]) -> None:
        digest = hashlib.sha256(str(project_root.resolve()).encode()).hexdigest()[:12]
        self.folder = _fitting(folder / digest for folder in _candidates(environ))

    def make(self) -> None:
        """Make the folder, where it is not there.

        Raises:
            DiskError: it cannot be made, or others can enter it.
        """
        _make_private(self.folder)

    @contextmanager
    def hosted(self, settings: BusSettings) -> Iterator[tuple[ZenohBus, str]]:
        """Host the bus while the context lasts; yields it and the endpoint at which others join.

        Raises:
            BusyError: another process hosts the bus of this project, or an endpoint of the settings is taken.
            NetworkError: an endpoint of the settings is none.
            DiskError: the folder cannot be made, or is not ours.
        """
        self.make()
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(self._lock_file, timeout_s=0))
            except BusyError as error:
                raise _already_runs(self._lock_file) from error
            self._sweep()
            endpoint = self._endpoint_of(_HOST)
            bus = ZenohBus.host(endpoint, listen=settings.listen, connect=settings.connect)
            try:
                self._note.write_text(endpoint, encoding="utf-8")
                yield bus, endpoint
            finally:
                self._note.unlink(missing_ok=True)
                bus.close()

    def live_endpoint(self) -> str | None:
        """Return the endpoint of the bus that another process of this project hosts now, None when there is none."""
        if holder(self._lock_file) is None:
            return None
        try:
            return self._note.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def join(self, endpoint: str) -> ZenohBus:
        """Join the bus at `endpoint`.

        Raises:
            NetworkError: no bus answers there.
            DiskError: the folder cannot be made, or is not ours.
        """
        self.make()
        # Of a process that had this one's number before.
        self.forget(os.getpid())
        return ZenohBus.join(endpoint, listen=self._endpoint_of(str(os.getpid())))

    @contextmanager
    def joined(self) -> Iterator[ZenohBus]:
        """Be on the bus that another process of this project hosts, while the context lasts.

        Raises:
            NotFoundError: nobody hosts it.
            NetworkError: it ended at this moment.
            DiskError: the folder is not ours.
        """
        endpoint = self.live_endpoint()
        if endpoint is None:
            raise NotFoundError(
                "nothing runs in this project: nobody hosts its bus",
                hint="Start its nodes first, by `mecha dev` in another terminal.",
            )
        bus = self.join(endpoint)
        try:
            yield bus
        finally:
            bus.close()
            self.forget(os.getpid())

    def forget(self, pid: int) -> None:
        """Remove what a member left behind that ended without leaving the bus."""
        for leftover in self.folder.glob(f"{pid}.sock*"):
            leftover.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove sockets of processes that are gone; who outlives a host is found again by the next one."""
        for leftover in self.folder.glob("*.sock*"):
            whose = leftover.name.partition(".")[0]
            # Of the other names only the host's own: a daemon has a socket here too.
            gone = not ProcessId(int(whose), NOT_TOLD).alive() if whose.isdecimal() else whose == _HOST
            if gone:
                leftover.unlink(missing_ok=True)

    @property
    def _lock_file(self) -> Path:
        return self.folder / "bus.lock"

    @property
    def _note(self) -> Path:
        return self.folder / "endpoint"

    def _endpoint_of(self, member: str) -> str:
        if sys.platform == "win32" or not _fits(self.folder):
            return f"tcp/127.0.0.1:{_free_port() if member == _HOST else 0}"
        return f"unixsock-stream/{self.folder / member}.sock"


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime) / "mecha"
    own = f"mecha-{os.getuid()}" if hasattr(os, "getuid") else "mecha"
    yield Path(tempfile.gettempdir()) / own
    if sys.platform != "win32":
        yield Path("/tmp") / own  # noqa: S108 - private, see _make_private; macOS' own folder can be too long


def _fitting(folders: Iterable[Path]) -> Path:
    """Return the first folder in which the path of a socket is short enough, the last one when there is none."""
    folder = Path()
    for folder in folders:
        if _fits(folder):
            break
    return folder


def _fits(folder: Path) -> bool:
    return len(os.fsencode(f"{folder}{_LONGEST_NAME}")) <= _LONGEST_SOCKET_PATH


def _make_private(folder: Path) -> None:
    """Make a folder that only its owner enters.

    Raises:
        DiskError: it cannot be made; or somebody else made it first, in a place where everybody may.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = [(path, path.lstat()) for path in (folder.parent, folder)]
    except OSError as error:
        raise disk_error(error, folder, "make the folder of the bus") from error
    if sys.platform == "win32":
        return
    for path, status in found:
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise DiskError(
                f"{path}: got a folder that others can enter; expected one of mode 0700 that belongs to this user",
                hint="Remove it, or set XDG_RUNTIME_DIR to a folder of your own.",
            )


def _already_runs(lock_file: Path) -> BusyError:
    by = holder(lock_file)
    who = "another process" if by is None else f"process {by.pid}"
    return BusyError(
        f"this project runs already: {who} hosts its bus",
        hint="Stop it first; `mecha run NODE` adds one more node to what runs.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
