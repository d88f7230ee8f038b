"""A user of this system, and what the modes of files let it do."""

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from mecha.errors import NotFoundError

_READ, _WRITE, _ENTER = 4, 2, 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who does something.

    Attributes:
        name: for messages.
        uid: of the user; groups: all that it is in.
        own: it is the user of this process, whom the system itself can be asked about.
    """

    name: str
    uid: int
    groups: frozenset[int]
    own: bool

    @classmethod
    def current(cls) -> "Identity":
        """Return the user of this process."""
        if sys.platform == "win32":
            return cls(os.environ.get("USERNAME", "this user"), 0, frozenset(), own=True)
        return cls(_name_of(os.geteuid()), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}), own=True)

    @classmethod
    def named(cls, name: str, *also_in: str) -> "Identity":
        """Return another user of this system.

        Args:
            name: of the user.
            also_in: groups that it will be in besides its own; those that do not exist are left out.

        Raises:
            NotFoundError: there is no such user.
        """
        if sys.platform == "win32":
            raise NotFoundError(f'no user "{name}" can be looked at on Windows', hint="Leave out --user.")
        import grp
        import pwd

        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise NotFoundError(
                f'no user "{name}" on this system', hint="`mecha daemon install` makes the user of the service."
            ) from None
        groups = {*os.getgrouplist(name, entry.pw_gid)}
        groups |= {group.gr_gid for group in grp.getgrall() if group.gr_name in also_in}
        return cls(name, entry.pw_uid, frozenset(groups), own=entry.pw_uid == os.geteuid())

    def may_read(self, path: Path) -> bool:
        """Tell whether it may read a file or device."""
        return self._may(path, _READ, os.R_OK)

    def may_use(self, path: Path) -> bool:
        """Tell whether it may read and write a file or device."""
        return self._may(path, _READ | _WRITE, os.R_OK | os.W_OK)

    def may_write_in(self, folder: Path) -> bool:
        """Tell whether it may make, replace and remove files in a folder."""
        return self._may(folder, _WRITE | _ENTER, os.W_OK | os.X_OK)

    def may_enter(self, folder: Path) -> bool:
        """Tell whether it may reach what is in a folder."""
        return self._may(folder, _ENTER, os.X_OK)

    def _may(self, path: Path, bits: int, access: int) -> bool:
        if self.own:
            return os.access(path, access)
        try:
            status = path.stat()
        except OSError:
            return False
        return self.uid == 0 or _granted(status, self) & bits == bits


def barrier(path: Path, who: Identity, *, within: Path | None = None) -> Path | None:
    """Return the outermost folder that does not let a user through to a path, or the path itself; None where all do.

    Args:
        within: what is above this folder does not matter; None where all of it does.
    """
    above = [folder for folder in reversed(path.parents) if within is None or folder.is_relative_to(within)]
    closed = next((folder for folder in above if not who.may_enter(folder)), None)
    return closed or (None if who.may_read(path) else path)


def _granted(status: os.stat_result, who: Identity) -> int:
    """Return the three bits of the mode that hold for a user: of the owner, of the group, or of all others."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == who.uid:
        return mode >> 6
    return (mode >> 3 if status.st_gid in who.groups else mode) & 7


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
