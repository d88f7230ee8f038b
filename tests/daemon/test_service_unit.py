"""The unit of systemd: how it is installed, brought up to date and removed, and who may write then."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mecha.daemon.identity import Identity, barrier
from mecha.daemon.place import DaemonPlace
from mecha.daemon.service_unit import Host, InstalledUnit, install, installed_unit, planned, run_command, uninstall
from mecha.daemon.unit_text import UnitPlan, unit_text
from mecha.daemon.write_access import grant_group
from mecha.errors import DiskError, MechaError, NodeError, NotFoundError, UsageError
from mecha.project import Project, Settings
from mecha.store.locks import exclusive
from tests.daemon.units import lines_of, plan


@dataclass
class System:
    """A system of its own folder that notes which commands are run."""

    unit_dir: Path
    programs: tuple[str, ...] = ("systemctl", "systemd-sysusers")
    is_root: bool = True
    users: dict[str, tuple[int, int]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host(
            unit_dir=self.unit_dir,
            secrets_dir=self.unit_dir / "secrets",
            run=self.run,
            find=lambda name: f"/usr/bin/{name}" if name in self.programs else None,
            is_root=self.is_root,
            user=self.users.get,
            groups=lambda: frozenset({"video", "audio"}),
        )

    def run(self, command: Sequence[str]) -> None:
        self.commands.append(" ".join(command))
        if command[0] in {"systemd-sysusers", "useradd"}:
            self.users["mecha"] = (54321, os.getgid())


@pytest.fixture
def system(tmp_path: Path) -> System:
    (tmp_path / "units").mkdir()
    return System(tmp_path / "units")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody may reach; those of pytest are its user's alone."""
    folder = Path("/var/tmp") / f"mecha-unit-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def planned_here(project: Project, system: System, user: str = "mecha") -> UnitPlan:
    """Of a Python that everybody may reach."""
    plan = planned(project, user=user, host=system.host)
    return replace(plan, python=Path(shutil.which("env") or "/usr/bin/env"), needed=(Path("/usr"),))


@pytest.fixture
def project(reachable: Path) -> Project:
    root = reachable / "robot"
    for folder in ("models", "configs/common/nodes/camera", "nodes/camera"):
        (root / folder).mkdir(parents=True)
    (root / "model_catalog.toml").write_text("")
    return Project(root=root, user_level=False, environment=None, settings=Settings())


def test_installing_makes_the_user_and_starts_what_systemd_was_told(system: System, project: Project) -> None:
    install(planned_here(project, system), system.host, say=system.said.append)
    file = system.unit_dir / "mecha.service"
    assert system.commands == [
        'systemd-sysusers --inline u mecha - "mecha" /var/lib/mecha /usr/sbin/nologin',
        "systemctl daemon-reload",
        "systemctl enable mecha.service",
        "systemctl restart mecha.service",
    ]
    assert lines_of(file.read_text(), "SupplementaryGroups") == ["video"]
    assert installed_unit(project.root, system.unit_dir) == InstalledUnit("mecha", project.root, "mecha")
    assert system.said[0] == "made the user mecha"
    assert system.said[-2:] == [f"wrote {file}", "started mecha.service; its log: journalctl -u mecha -f"]
    assert stat_of(project.models_dir) & 0o070 == 0o070


def stat_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_installing_again_brings_the_unit_up_to_date(system: System, project: Project) -> None:
    system.users["robot"] = (project.root.stat().st_uid, os.getgid())
    for environment in (None, "field"):
        named = Project(root=project.root, user_level=False, environment=environment, settings=Settings())
        install(planned_here(named, system, "robot"), system.host, start=False, say=system.said.append)
    assert 'Environment="MECHA_ENV=field"' in (system.unit_dir / "mecha.service").read_text()
    assert system.said[-1] == "enabled mecha.service; it starts with the system, or with: systemctl start mecha"
    assert all("made the user" not in line for line in system.said)


def test_a_service_on_the_network_gets_a_token_once_that_only_root_reads(system: System, project: Project) -> None:
    unit = replace(planned_here(project, system), listen="0.0.0.0:8765", tls=(Path("/etc/a.pem"), Path("/etc/$k.pem")))
    assert lines_of(unit_text(unit), "ExecStart") == [
        f'"{unit.python}" -m mecha daemon run --listen "0.0.0.0:8765" --tls-cert "/etc/a.pem" --tls-key "/etc/$$k.pem"'
    ]
    file = system.unit_dir / "secrets/mecha.env"
    file.parent.mkdir()
    file.write_text("HTTPS_PROXY=http://proxy:8080")
    for _ in range(2):
        install(unit, system.host, say=system.said.append)
    first, second = file.read_text().splitlines()
    assert first == "HTTPS_PROXY=http://proxy:8080"
    assert len(second.removeprefix("MECHA_TOKEN=")) >= 32
    assert stat_of(file) == 0o600
    told = f"made a token for who asks at 0.0.0.0:8765: MECHA_TOKEN in {file}"
    assert [line for line in system.said if "token" in line] == [told]


def test_options_for_the_network_make_sense_together_only(system: System, project: Project) -> None:
    for listen, tls in (
        ("0.0.0.0:8765", (Path("a"), None)),
        (None, (Path("a"), Path("b"))),
        ("nowhere", (None, None)),
        ("a\nb:1", (None, None)),
    ):
        with pytest.raises(UsageError):
            planned(project, listen=listen, tls=tls, host=system.host)


def test_uninstalling_removes_the_unit_and_says_what_stays(system: System, project: Project) -> None:
    install(planned_here(project, system), system.host, say=system.said.append)
    system.commands.clear()
    uninstall("mecha", project.root, system.host, say=system.said.append)
    assert system.commands == ["systemctl disable --now mecha.service", "systemctl daemon-reload"]
    assert not (system.unit_dir / "mecha.service").exists()
    assert installed_unit(project.root, system.unit_dir) is None
    assert system.said[-1] == (
        "left as they are: the project, the user mecha, /var/lib/mecha, /var/cache/mecha, /etc/mecha/mecha.env"
    )


def refused(doing: Callable[[], None]) -> tuple[type[MechaError], str]:
    with pytest.raises(MechaError) as error:
        doing()
    return type(error.value), str(error.value)


def test_a_unit_of_somebody_else_or_of_another_project_stays(system: System, project: Project) -> None:
    file = system.unit_dir / "mecha.service"
    file.write_text("[Service]\nExecStart=/usr/bin/something\n")
    doing = lambda: install(planned(project, host=system.host), system.host, say=system.said.append)  # noqa: E731
    assert refused(doing) == (UsageError, f"{file}: was not written by mecha; it stays")
    file.write_text(unit_text(plan(Path("/opt/other"))))
    expected = f"{file}: is the service of /opt/other; expected that of {project.root}"
    assert refused(doing) == (UsageError, expected)
    assert refused(lambda: uninstall("mecha", project.root, system.host, say=system.said.append)) == (
        UsageError,
        expected,
    )
    assert system.commands == []


def test_a_service_that_is_not_there_cannot_be_uninstalled(system: System, project: Project) -> None:
    assert refused(lambda: uninstall("mecha", project.root, system.host, say=system.said.append)) == (
        NotFoundError,
        f"{system.unit_dir}/mecha.service: no such unit",
    )


def test_only_root_installs_and_only_where_there_is_systemd(system: System, project: Project) -> None:
    system.is_root = False
    doing = lambda: install(planned(project, host=system.host), system.host, say=system.said.append)  # noqa: E731
    assert refused(doing) == (DiskError, f"{system.unit_dir}: only root may install a service")
    system.programs = ()
    assert refused(doing) == (NotFoundError, "no systemctl here: services are systemd's")


def test_a_project_that_the_user_of_the_service_cannot_reach_is_refused_before_the_unit_is_written(
    system: System, project: Project
) -> None:
    private = project.root.parent
    private.chmod(0o700)
    doing = lambda: install(planned_here(project, system), system.host, say=system.said.append)  # noqa: E731
    assert refused(doing) == (
        DiskError,
        f"{project.root}: mecha cannot read it: {private} does not let others through",
    )
    assert list(system.unit_dir.iterdir()) == []


def test_what_is_above_a_folder_that_is_bound_does_not_matter(project: Project) -> None:
    who = Identity("somebody", 54321, frozenset(), own=False)
    project.root.parent.chmod(0o700)
    assert barrier(project.models_dir, who) == project.root.parent
    assert barrier(project.models_dir, who, within=project.root) is None
    project.models_dir.chmod(0o700)
    assert barrier(project.models_dir, who, within=project.root) == project.models_dir


def test_a_user_that_nothing_can_make_is_told(system: System, project: Project) -> None:
    system.programs = ("systemctl",)
    assert refused(lambda: install(planned(project, host=system.host), system.host, say=system.said.append)) == (
        NotFoundError,
        'no user "mecha", and neither systemd-sysusers nor useradd to make it',
    )


def test_a_command_that_says_no_is_told_with_what_it_says() -> None:
    assert refused(lambda: run_command(("sh", "-c", "echo it is broken >&2; exit 3"))) == (
        NodeError,
        "`sh -c echo it is broken >&2; exit 3`: it is broken",
    )


def test_the_socket_of_a_service_is_looked_for_in_its_own_folder() -> None:
    unit = InstalledUnit("arm", Path("/opt/robot"), "mecha")
    assert unit.environ({"XDG_RUNTIME_DIR": "/run/user/0", "A": "b"}) == {"XDG_RUNTIME_DIR": "/run/arm", "A": "b"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes folders in /run")
def test_the_daemon_of_a_service_is_found_by_root_where_it_runs(
    system: System, project: Project, tmp_path: Path
) -> None:
    name, environ = f"mecha-test-{os.getpid()}", {"XDG_RUNTIME_DIR": str(tmp_path / "own")}
    unit = replace(planned_here(project, system), name=name)
    (system.unit_dir / unit.file_name).write_text(unit_text(unit))
    folder = Path("/run") / name
    folder.mkdir(mode=0o700)
    try:
        service = DaemonPlace(project.root, InstalledUnit(name, project.root, "mecha").environ(environ))
        service.make()
        found = DaemonPlace.of_running(project.root, environ, unit_dir=system.unit_dir)
        assert found.folder == DaemonPlace(project.root, environ).folder
        with exclusive(service.lock_file, timeout_s=0):
            found = DaemonPlace.of_running(project.root, environ, unit_dir=system.unit_dir)
            assert (found.folder, found.pid) == (service.folder, os.getpid())
    finally:
        shutil.rmtree(folder)


def other_group() -> int:
    """A group that this user may give files to."""
    if os.geteuid() == 0:
        return 54321
    return next((group for group in os.getgroups() if group != os.getgid()), os.getgid())


def test_the_group_gets_what_the_daemon_writes_and_reads_what_it_reads(project: Project) -> None:
    root, group = project.root, other_group()
    model, node = root / "models/a/model.onnx", root / "nodes/camera/node.py"
    model.parent.mkdir(mode=0o700)
    for file, mode in ((model, 0o600), (node, 0o600)):
        file.write_text("")
        file.chmod(mode)
    kept = root / "src"
    kept.mkdir(mode=0o700)
    assert grant_group(root, group) > 0
    assert [stat_of(path) & 0o070 for path in (root, model.parent, model, node, node.parent)] == [
        0o070,
        0o070,
        0o060,
        0o040,
        0o050,
    ]
    assert {path.stat().st_gid for path in (root, model, node)} == {group}
    assert stat_of(kept) == 0o700
    assert grant_group(root, group) == 0


def test_the_folder_of_the_models_is_there_before_the_daemon_and_stays_the_owners(project: Project) -> None:
    project.models_dir.rmdir()
    grant_group(project.root, other_group())
    assert stat_of(project.models_dir) & 0o775 == 0o775
    assert project.models_dir.stat().st_uid == project.root.stat().st_uid


def test_links_and_files_with_a_second_name_are_left_alone(project: Project, tmp_path: Path) -> None:
    secret, linked, blob = tmp_path / "secret", tmp_path / "private", tmp_path / "blob"
    linked.mkdir(mode=0o700)
    for file in (secret, blob):
        file.write_text("")
        file.chmod(0o600)
    (project.models_dir / "link").symlink_to(secret)
    (project.models_dir / "folder").symlink_to(linked)
    os.link(blob, project.models_dir / "model.onnx")
    os.mkfifo(project.models_dir / "pipe", 0o600)
    grant_group(project.root, other_group())
    assert [stat_of(path) for path in (secret, blob, linked, project.models_dir / "pipe")] == [
        0o600,
        0o600,
        0o700,
        0o600,
    ]
