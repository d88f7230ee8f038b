"""All that `mecha doctor` looks at, in the order in which one thing explains the next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mecha.daemon.identity import Identity
from mecha.daemon.service_unit import installed_unit
from mecha.daemon.unit_text import CAMERA_GROUPS
from mecha.doctor.cameras import camera_findings
from mecha.doctor.clock import clock_findings
from mecha.doctor.cpu import cpu_findings
from mecha.doctor.files import project_findings, read_configs
from mecha.doctor.finding import Finding, wrong
from mecha.doctor.folders import disk_findings, folder_findings
from mecha.doctor.heat import heat_findings
from mecha.doctor.hubs import hub_findings
from mecha.doctor.limits import limit_findings
from mecha.doctor.proxies import proxy_findings
from mecha.doctor.runtime import runtime_findings
from mecha.doctor.service import service_findings
from mecha.errors import MechaError
from mecha.project import Project, Settings, find_project


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be looked at.

    Attributes:
        start: the folder whose project it is.
        environ: of this process.
        environment: laid over common, None for MECHA_ENV.
        user: whose permissions matter, None for the user of the service, else of this process.
        offline: ask no server.
    """

    start: Path
    environ: Mapping[str, str]
    environment: str | None = None
    user: str | None = None
    offline: bool = False


def examined(asked: Asked) -> Iterator[Finding]:
    """Look at everything; a finding comes as soon as it is known.

    Raises:
        NotFoundError: there is no such user.
    """
    who = Identity.named(asked.user, *CAMERA_GROUPS) if asked.user else None
    yield from runtime_findings(asked.environ)
    yield from cpu_findings()
    project = _project(asked)
    yield from limit_findings(Settings() if isinstance(project, Finding) else project.settings)
    yield from heat_findings()
    yield from clock_findings()
    if isinstance(project, Finding):
        yield project
    else:
        yield from _of_project(project, asked, who)


def _of_project(project: Project, asked: Asked, who: Identity | None) -> Iterator[Finding]:
    environ = asked.environ
    unit = installed_unit(project.root)
    user, fault = who, None
    if user is None and unit is not None:
        try:
            user = Identity.named(unit.user, *CAMERA_GROUPS)
        except MechaError as error:
            fault = wrong("daemon", f"{error}, which the service {unit.name} runs as", "It does not start.", error.hint)
    user = user or Identity.current()
    configs = read_configs(project, environ)
    yield from project_findings(project, configs)
    yield from folder_findings(project, environ, user)
    yield from disk_findings(project, environ)
    yield from camera_findings(configs.read, user)
    if fault is not None:
        yield fault
    yield from service_findings(project, environ, unit)
    if not asked.offline:
        yield from proxy_findings(project, environ)
    hubs = {**environ, "HF_HUB_OFFLINE": "1"} if asked.offline else environ
    yield from hub_findings(project, hubs, now=lambda: datetime.now(UTC))


def _project(asked: Asked) -> Project | Finding:
    """Return the project; where its settings have faults, what is wrong with them."""
    try:
        return find_project(asked.start, asked.environ, asked.environment)
    except MechaError as error:
        remedy = error.hint or "Correct the line that it names, and run `mecha doctor` again."
        return wrong("project", str(error), "Nothing of this project can be used.", remedy)
