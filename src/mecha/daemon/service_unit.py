"""`mecha daemon install` and `uninstall`: the daemon as a service of systemd, with a user of its own."""

import configparser
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mecha.daemon.identity import Identity
from mecha.daemon.unit_text import (
    CAMERA_GROUPS,
    DEFAULT_NAME,
    DEFAULT_USER,
    UnitPlan,
    hidden_from,
    unit_text,
)
from mecha.daemon.write_access import grant_group
from mecha.errors import BusyError, DiskError, NodeError, NotFoundError, UsageError
from mecha.project import Project
from mecha.store.atomic import make_dir, write_file
from mecha.store.faults import disk_error

UNIT_DIR = Path("/etc/systemd/system")
SECRETS_DIR = Path("/etc/mecha")
"""Holds NAME.env of each service, which systemd reads as root."""

_NOLOGIN = "/usr/sbin/nologin"
_LINES_SHOWN = 3
_ASK_SYSTEMD_S = 10.0


@dataclass(frozen=True, slots=True)
class InstalledUnit:
    """A service that mecha has installed.

    Attributes:
        name: of the unit, without `.service`.
        project: the root it serves; user: who runs it.
    """

    name: str
    project: Path
    user: str

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which the service's socket and bus are found; only root and its user may use them.

        Args:
            environ: of this process.
        """
        return {**environ, "XDG_RUNTIME_DIR": f"/run/{self.name}"}


def run_command(command: Sequence[str]) -> None:
    """Run a command of the system.

    Raises:
        NodeError: it says no.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[:_LINES_SHOWN]
        said = "; ".join(line.strip() for line in lines) or f"exit code {done.returncode}"
        raise NodeError(
            f"`{' '.join(command)}`: {said}", hint="`systemctl status` and `journalctl -xe` tell more; then try again."
        )


def user_numbers(name: str) -> tuple[int, int] | None:
    """Return the numbers of a user and of its group, None where there is no such user."""
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def group_names() -> frozenset[str]:
    """Return the groups of this system; none where it has no such thing."""
    if sys.platform == "win32":
        return frozenset()
    import grp

    return frozenset(group.gr_name for group in grp.getgrall())


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Host:
    """What an installation touches of the system.

    Attributes:
        unit_dir: where units are; secrets_dir: where the environments of services are.
        run: runs a command, or raises a MechaError.
        find: returns the path of a program, None where there is none.
        is_root: this process may install a service.
        user: returns the numbers of a user and of its group, None where there is no such user.
        groups: returns the names of the groups of this system.
    """

    unit_dir: Path = UNIT_DIR
    secrets_dir: Path = SECRETS_DIR
    run: Callable[[Sequence[str]], None] = run_command
    find: Callable[[str], str | None] = shutil.which
    is_root: bool = field(default_factory=_is_root)
    user: Callable[[str], tuple[int, int] | None] = user_numbers
    groups: Callable[[], frozenset[str]] = group_names


def planned(
    project: Project,
    *,
    name: str = DEFAULT_NAME,
    user: str = DEFAULT_USER,
    listen: str | None = None,
    tls: tuple[Path | None, Path | None] = (None, None),
    host: Host,
) -> UnitPlan:
    """Return what the service of a project is made of.

    Args:
        listen: an address on the network to answer at too; tls: certificate and key for it.

    Raises:
        UsageError: the name, the user, the address or a path cannot stand in a unit; or one of the options for the
            network is there without another.
    """
    cert, key = tls
    if (cert is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key: got one of them; expected both, or none")
    if cert is not None and listen is None:
        raise UsageError("--tls-cert: is for TCP, and there is no --listen", hint="Add --listen 0.0.0.0:8765.")
    both = None if cert is None or key is None else (cert.absolute(), key.absolute())
    plan = UnitPlan(project.root, environment=project.environment, name=name, user=user, listen=listen, tls=both)
    there = host.groups()
    return replace(plan, groups=tuple(group for group in CAMERA_GROUPS if group in there))


def install(plan: UnitPlan, host: Host, *, start: bool = True, say: Callable[[str], None]) -> None:
    """Make the user, let it write in the project, write the unit, and start it. Doing it again brings it up to date.

    Args:
        say: gets a line for each step.

    Raises:
        UsageError: a unit of this name is somebody else's, or of another project.
        NotFoundError: there is no systemd here.
        DiskError: this user may not install a service.
        NodeError: a command of the system says no.
    """
    _require_systemd(host, "install")
    _require_own(plan.name, host, plan.root)
    found = host.user(plan.user)
    if found is None:
        _make_user(plan, host)
        say(f"made the user {plan.user}")
        found = host.user(plan.user)
    if found is not None:
        _require_reach(plan, Identity(plan.user, found[0], frozenset({found[1]}), own=False))
    if found is not None and found[0] not in {0, plan.root.stat().st_uid}:
        changed = grant_group(plan.root, found[1])
        if changed:
            say(f"the group of {plan.user} may now write in {plan.root} (changed: {changed})")
    if plan.listen is not None and _make_token(secrets_file := host.secrets_dir / f"{plan.name}.env"):
        say(f"made a token for who asks at {plan.listen}: MECHA_TOKEN in {secrets_file}")
    file = host.unit_dir / plan.file_name
    write_file(file, unit_text(plan).encode())
    say(f"wrote {file}")
    host.run(("systemctl", "daemon-reload"))
    host.run(("systemctl", "enable", plan.file_name))
    if not start:
        say(f"enabled {plan.file_name}; it starts with the system, or with: systemctl start {plan.name}")
        return
    host.run(("systemctl", "restart", plan.file_name))
    say(f"started {plan.file_name}; its log: journalctl -u {plan.name} -f")


def uninstall(name: str, root: Path, host: Host, *, say: Callable[[str], None]) -> None:
    """Stop the service of a project and remove its unit. The project, the user and their data stay.

    Args:
        say: gets a line for each step.

    Raises:
        NotFoundError: there is no such unit, or no systemd.
        UsageError: the unit is somebody else's, or of another project.
        DiskError: this user may not remove a service.
        NodeError: a command of the system says no.
    """
    _require_systemd(host, "uninstall")
    file = host.unit_dir / f"{name}.service"
    if not file.exists():
        raise NotFoundError(
            f"{file}: no such unit", hint=f"`mecha daemon install --name {name}` writes one; --name takes another name."
        )
    _require_own(name, host, root)
    found = read_unit(file)
    host.run(("systemctl", "disable", "--now", file.name))
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, file, "remove") from error
    host.run(("systemctl", "daemon-reload"))
    say(f"stopped the service and removed {file}")
    user = found.user if found else DEFAULT_USER
    say(f"left as they are: the project, the user {user}, /var/lib/{name}, /var/cache/{name}, /etc/mecha/{name}.env")


def read_unit(file: Path) -> InstalledUnit | None:
    """Return what a unit serves, None where mecha did not write it."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys of systemd have capitals
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
        ours = parser["X-Mecha"]
        return InstalledUnit(file.stem, Path(ours["Project"]), ours["User"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError):
        return None


def installed_unit(root: Path, unit_dir: Path = UNIT_DIR) -> InstalledUnit | None:
    """Return the service that runs the daemon of a project, None where none is installed."""
    try:
        files = sorted(unit_dir.glob("*.service"))
    except OSError:
        return None
    found = (read_unit(file) for file in files if file.is_file())
    return next((unit for unit in found if unit is not None and unit.project == root), None)


def require_no_service(project: Project, environ: Mapping[str, str], unit_dir: Path | None = None) -> None:
    """Refuse to keep a project that a service keeps: its lock is another user's, and may not be seen from here.

    Args:
        environ: of this process, which may be that of the service itself.
        unit_dir: where services are installed; systemd's own by default.

    Raises:
        BusyError: the service runs.
    """
    unit = installed_unit(project.root, unit_dir or UNIT_DIR)
    if unit is None or unit.environ(environ) == dict(environ):
        return
    try:
        asked = ["systemctl", "is-active", "--quiet", unit.name]
        done = subprocess.run(asked, env=environ, capture_output=True, timeout=_ASK_SYSTEMD_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return  # no systemd runs here, or one that does not answer
    if done.returncode == 0:
        raise BusyError(
            f"the service {unit.name} keeps {project.root} already",
            hint=f"`sudo mecha daemon status` tells what it does, `sudo systemctl stop {unit.name}` ends it.",
        )


def _require_systemd(host: Host, command: str) -> None:
    if sys.platform != "linux" or host.find("systemctl") is None:
        raise NotFoundError(
            "no systemctl here: services are systemd's",
            hint="`mecha daemon install --print` shows the unit; elsewhere let the system's own supervisor run "
            "the daemon.",
        )
    if not host.is_root:
        raise DiskError(
            f"{host.unit_dir}: only root may {command} a service",
            hint=f'sudo "{sys.executable}" -m mecha daemon {command}; --print of install shows the unit without it.',
        )


def _require_own(name: str, host: Host, root: Path) -> None:
    file = host.unit_dir / f"{name}.service"
    if not file.exists():
        return
    found = read_unit(file)
    if found is None:
        raise UsageError(f"{file}: was not written by mecha; it stays", hint="Choose another --name.")
    if found.project != root:
        raise UsageError(
            f"{file}: is the service of {found.project}; expected that of {root}",
            hint="Choose another --name: one service for each project.",
        )


def _require_reach(plan: UnitPlan, who: Identity) -> None:
    hidden = hidden_from(plan, who)
    # The project itself is opened to the user in the next step.
    if hidden is None or hidden[1] == plan.root:
        return
    path, stopped = hidden
    raise DiskError(
        f"{path}: {who.name} cannot read it: {stopped} does not let others through",
        hint="`chmod o+rx` that folder, put project and Python where others may read (/opt), or name the owner of "
        "the project by --user.",
    )


def _make_token(file: Path) -> bool:
    """Add a token to the environment of a service that has none; False where it has one.

    Raises:
        DiskError: the file cannot be read or written.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DiskError(f"{file}: cannot be read as text: {error}", hint="Correct it, or remove it.") from error
    if any(line.strip().startswith("MECHA_TOKEN=") for line in text.splitlines()):
        return False
    make_dir(file.parent)
    before = text if not text or text.endswith("\n") else f"{text}\n"
    write_file(file, f"{before}MECHA_TOKEN={secrets.token_urlsafe()}\n".encode(), mode=0o600)
    return True


def _make_user(plan: UnitPlan, host: Host) -> None:
    home = f"/var/lib/{plan.name}"
    if host.find("systemd-sysusers") is not None:
        host.run(("systemd-sysusers", "--inline", f'u {plan.user} - "mecha" {home} {_NOLOGIN}'))
    elif host.find("useradd") is not None:
        host.run(("useradd", "--system", "--user-group", "--home-dir", home, "--shell", _NOLOGIN, plan.user))
    else:
        raise NotFoundError(
            f'no user "{plan.user}", and neither systemd-sysusers nor useradd to make it',
            hint="Make the user, or name one that exists by --user.",
        )
