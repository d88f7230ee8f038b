"""The systemd unit of `mecha daemon`, as text. docs/daemon.md says of each line why it is there."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import mecha
from mecha.daemon.identity import Identity, barrier
from mecha.errors import UsageError
from mecha.words import is_printable

DEFAULT_NAME = "mecha"
DEFAULT_USER = "mecha"
CAMERA_GROUPS = ("video", "render")
"""What devices of cameras and accelerators belong to, where a system has such groups."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome= hides."""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What a unit is made of.

    Attributes:
        root: of the project, absolute.
        environment: laid over common, None for none.
        name: of the unit, and of its folders in /var/lib, /var/cache and /run.
        user: who runs it; its group has the same name where `own_group` is set.
        groups: further groups; each must exist, or the service does not start.
        listen: an address on the network to answer at too, None for the socket alone.
        tls: certificate and key for it, absolute, None for plain http.
        python: the interpreter that has mecha.
        needed: folders that the interpreter and mecha are in.
    """

    root: Path
    environment: str | None = None
    name: str = DEFAULT_NAME
    user: str = DEFAULT_USER
    groups: tuple[str, ...] = ()
    listen: str | None = None
    tls: tuple[Path, Path] | None = None
    python: Path = Path(sys.executable)
    needed: tuple[Path, ...] = (Path(sys.prefix), Path(sys.base_prefix), Path(mecha.__file__).parent.parent)

    def __post_init__(self) -> None:
        """Refuse what cannot stand in a unit.

        Raises:
            UsageError: the name, the user or a path cannot.
        """
        if not _NAME.fullmatch(self.name):
            raise UsageError(f'--name: got "{self.name}"; expected up to 64 letters, digits, "_" and "-"')
        if not _USER.fullmatch(self.user):
            raise UsageError(f'--user: got "{self.user}"; expected the name of a user of this system')
        if self.listen is not None:
            from mecha.daemon.server import parsed_address

            if not is_printable(parsed_address(self.listen)[0]):
                raise UsageError(f"--listen: got {self.listen!r}; expected HOST:PORT, as in 0.0.0.0:8765")
        for path in (self.root, self.python, *self.needed, *(self.tls or ())):
            if not is_printable(str(path)) or "\\" in str(path) or str(path).strip() != str(path):
                raise UsageError(
                    f"{str(path)!r}: cannot stand in a unit; expected a path without backslashes, control characters "
                    "and a space at its end",
                    hint="Rename the folder.",
                )

    @property
    def file_name(self) -> str:
        """The name of the unit's file."""
        return f"{self.name}.service"

    @property
    def at_home(self) -> bool:
        """Whether the project lies in a folder that the service sees nothing else of."""
        return is_at_home(self.root)


def hidden_from(plan: UnitPlan, who: Identity) -> tuple[Path, Path] | None:
    """Return what the user of a service cannot reach of what it needs, and the folder that stops it; None for nothing.

    A project or a Python in a home folder is bound where the service sees it, so that what is above does not matter.
    """
    bound = (plan.root, *_bound(plan))
    for path in (plan.root, plan.python, plan.python.resolve(), *plan.needed):
        within = next((folder for folder in bound if path.is_relative_to(folder)), None) if is_at_home(path) else None
        if (stopped := barrier(path, who, within=within)) is not None:
            return path, stopped
    return None


def is_at_home(path: Path) -> bool:
    """Tell whether a service sees a path only where it is bound into a home folder that is empty otherwise."""
    return any(path.is_relative_to(home) for home in _HOMES)


def unit_text(plan: UnitPlan) -> str:
    """Return the unit; the text is a function of the plan alone."""
    environment = [f'Environment="MECHA_ENV={_escaped(plan.environment)}"'] if plan.environment else []
    groups = [f"SupplementaryGroups={' '.join(plan.groups)}"] if plan.groups else []
    lines = [
        "# Written by `mecha daemon install`, which writes it again: put changes of your own into a drop-in",
        f"# (`systemctl edit {plan.name}`). docs/daemon.md says of each line why it is there.",
        "[Unit]",
        f"Description=mecha: models and nodes of {_specifiers(str(plan.root))}",
        "After=network.target time-set.target",
        f"RequiresMountsFor={_quoted(plan.root)}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_argument(plan.python)} -m mecha daemon run{_options(plan)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_specifiers(str(plan.root))}",
        "Restart=on-failure",
        "RestartSec=2",
        "RestartPreventExitStatus=2",
        "WatchdogSec=30",
        "TimeoutStartSec=90",
        "TimeoutStopSec=15",
        "KillMode=mixed",
        "",
        f"User={plan.user}",
        *groups,
        "UMask=0022",
        f"StateDirectory={plan.name}",
        "StateDirectoryMode=0750",
        f"CacheDirectory={plan.name}",
        "CacheDirectoryMode=0750",
        f"RuntimeDirectory={plan.name}",
        "RuntimeDirectoryMode=0700",
        f"Environment=HOME=%S/{plan.name} XDG_RUNTIME_DIR=%t/{plan.name} MECHA_CACHE_DIR=%C/{plan.name}",
        *environment,
        f"EnvironmentFile=-/etc/mecha/{plan.name}.env",
        "",
        *_file_system(plan),
        "PrivateTmp=yes",
        "DevicePolicy=closed",
        "DeviceAllow=char-video4linux rw",
        "DeviceAllow=char-media rw",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=char-dma_heap rw",
        "",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "LockPersonality=yes",
        "KeyringMode=private",
        "RemoveIPC=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        "SystemCallErrorNumber=EPERM",
        "",
        "LimitNOFILE=4096",
        "LimitMEMLOCK=64M",
        "LimitCORE=0",
        "TasksMax=1024",
        "MemoryMax=90%",
        "OOMPolicy=continue",
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={plan.name}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
        "[X-Mecha]",
        f"Project={plan.root}",
        f"User={plan.user}",
        "",
    ]
    return "\n".join(lines)


def _file_system(plan: UnitPlan) -> list[str]:
    """Return what the service sees of the disk: all of it read-only, no home folders, the project to write in."""
    outermost = _bound(plan)
    lines = ["ProtectSystem=strict"]
    lines.append("ProtectHome=tmpfs" if plan.at_home or outermost else "ProtectHome=yes")
    lines.append(f"{'BindPaths' if plan.at_home else 'ReadWritePaths'}={_quoted(plan.root)}")
    lines += [f"BindReadOnlyPaths={_quoted(path)}" for path in outermost]
    return lines


def _bound(plan: UnitPlan) -> list[Path]:
    """Return the folders of homes that the service must see to run mecha, those in the project apart."""
    needed = {path for path in plan.needed if is_at_home(path) and not path.is_relative_to(plan.root)}
    return sorted(path for path in needed if not needed & set(path.parents))


def _specifiers(text: str) -> str:
    """Return a text in which systemd sees none of its specifiers."""
    return text.replace("%", "%%")


def _escaped(text: str) -> str:
    return _specifiers(text.replace("\\", "\\\\").replace('"', '\\"'))


def _quoted(path: Path) -> str:
    """Return a path as one word of a list; within quotes a colon separates nothing."""
    return f'"{_escaped(str(path))}"'


def _options(plan: UnitPlan) -> str:
    """Return the options of a daemon on the network; its token comes by the environment."""
    words = [] if plan.listen is None else ["--listen", _argument(plan.listen)]
    for option, file in zip(("--tls-cert", "--tls-key"), plan.tls or (), strict=False):
        words += [option, _argument(file)]
    return "".join(f" {word}" for word in words)


def _argument(word: Path | str) -> str:
    """Return one word of a command line, where systemd also looks for variables."""
    return f'"{_escaped(str(word)).replace("$", "$$")}"'
