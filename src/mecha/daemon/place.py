"""Where a daemon is found: its lock and its socket, in the private run-time folder of the project."""

from collections.abc import Mapping
from pathlib import Path

from mecha.runtime.bus.place import BusPlace
from mecha.store.locks import holder

SOCKET_VARIABLE = "MECHA_SOCKET"
"""Names the socket where it is not the default one, for the daemon and for those who look for it."""
_LOCK_NAME = "daemon.lock"
_SOCKET_NAME = "daemon.sock"


class DaemonPlace:
    """The folder of a project's daemon.

    Args:
        root: of the project. Its settings are not asked: the daemon is found whatever they say.

    Attributes:
        folder: mode 0700; made by `make`.
        lock_file: held by the daemon that runs.
        socket: where one that is started answers, unless it is told otherwise.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._place = BusPlace(root, environ)
        self.folder = self._place.folder
        self.lock_file = self.folder / _LOCK_NAME
        named = environ.get(SOCKET_VARIABLE)
        self.socket = Path(named).absolute() if named else self.folder / _SOCKET_NAME

    @classmethod
    def of_running(cls, root: Path, environ: Mapping[str, str], *, unit_dir: Path | None = None) -> "DaemonPlace":
        """Return where the daemon that runs is looked for: at this user's, else at the project's service.

        The folder of a service belongs to its user: only that one and root see that it runs.

        Args:
            unit_dir: where services are installed; systemd's own by default.
        """
        from mecha.daemon.service_unit import UNIT_DIR, installed_unit

        own = cls(root, environ)
        unit = None if own.pid is not None else installed_unit(root, unit_dir or UNIT_DIR)
        if unit is None:
            return own
        service = cls(root, unit.environ(environ))
        return service if service.pid is not None else own

    def make(self) -> None:
        """Make the folder. Raises DiskError: it cannot be made, or others can enter it."""
        self._place.make()

    def note(self, address: Path) -> None:
        """Write down where the daemon answers, for those who look for it."""
        self._note.write_text(str(address), encoding="utf-8")

    @property
    def address(self) -> Path:
        """Where the daemon that runs answers."""
        try:
            return Path(self._note.read_text(encoding="utf-8"))
        except OSError:
            return self.socket

    @property
    def _note(self) -> Path:
        return self.folder / "daemon.address"

    @property
    def pid(self) -> int | None:
        """Of the daemon that runs in this project, None where none does."""
        by = holder(self.lock_file)
        return by.pid if by is not None else None
