"""Where things are: the project root, its folders, its settings and the environment that is laid over them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import AfterValidator, Field

from mecha.errors import NotFoundError, UsageError
from mecha.validation import Expected, Frozen, parse_toml, read_text, toml_line_of, validated
from mecha.words import alternatives, did_you_mean

CATALOG_NAME = "model_catalog.toml"
SETTINGS_NAME = "mecha.toml"
_COMMON = "common"
_ENVIRONMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_Endpoint = Annotated[
    str, Field(pattern=r"^https?://[^/\s]+"), Expected("the address of a Hub, as in https://huggingface.co")
]


_Seconds = Annotated[float, Expected("seconds, more than 0"), Field(gt=0, allow_inf_nan=False)]


class HubSettings(Frozen):
    """`[hub]`: where models come from, and how long a bad line is waited for.

    Attributes:
        endpoint: None means HF_ENDPOINT, or the public Hub.
        endpoints: mirrors, asked in this order, `endpoint` before them.
        answer_timeout_s: until a question about a file is answered.
        connect_timeout_s: until a connection stands.
        stall_timeout_s: how long a download may be silent; a slow one that keeps sending is not given up.
        tries: how many in a row may bring nothing before a download gives up.
        longest_wait_s: between two tries, where the doubling ends.
        connections: how many at most for one file; more than one only where that measures faster.
    """

    endpoint: _Endpoint | None = None
    endpoints: tuple[_Endpoint, ...] = ()
    answer_timeout_s: _Seconds = 10
    connect_timeout_s: _Seconds = 15
    stall_timeout_s: _Seconds = 30
    tries: Annotated[int, Expected("a number of tries, 1 to 100"), Field(ge=1, le=100)] = 6
    longest_wait_s: _Seconds = 30
    connections: Annotated[int, Expected("a number of connections, 1 to 8"), Field(ge=1, le=8)] = 4

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses to ask, in order; empty where none is set."""
        return (*((self.endpoint,) if self.endpoint else ()), *self.endpoints)


class CatalogSettings(Frozen):
    """`[catalog]`: whose signature a catalog must have, a public key of minisign; None means nobody's."""

    public_key: Annotated[
        str | None,
        Expected("a public key of minisign, 56 letters that begin with RW"),
        Field(pattern=r"^RW[A-Za-z0-9+/]{54}$"),
    ] = None


class CacheSettings(Frozen):
    """`[cache]`: what the user cache may take after a pull, GB (10^9 bytes); None for what it needs."""

    quota_gb: Annotated[float | None, Expected("gigabytes, 0 or more"), Field(ge=0, allow_inf_nan=False)] = None


class QuantizeSettings(Frozen):
    """`[quantize]`: the limits of one INT8 build, seconds and MB (10^6 bytes)."""

    time_limit_s: Annotated[float, Expected("seconds, more than 0"), Field(gt=0, allow_inf_nan=False)] = 1800
    memory_limit_mb: Annotated[int, Expected("megabytes, at least 256"), Field(ge=256)] = 4096


class BusSettings(Frozen):
    """`[bus]`: Zenoh endpoints ("tcp/0.0.0.0:7447"); empty means loopback only."""

    listen: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()


class SelfCalibrationSettings(Frozen):
    """`[self_calibration]`: INT8 built again from frames that nodes see.

    Attributes:
        enabled: false beats the config of every node.
        frames: kept for one build.
        period_s: seconds between two frames.
        patience_s: seconds after which fewer frames do.
    """

    enabled: bool = True
    frames: Annotated[int, Expected("a number of frames, 16 to 1024"), Field(ge=16, le=1024)] = 64
    period_s: Annotated[float, Expected("seconds, 0 or more"), Field(ge=0, allow_inf_nan=False)] = 1.0
    patience_s: Annotated[float, Expected("seconds, 0 or more"), Field(ge=0, allow_inf_nan=False)] = 600


def _silence_s(seconds: float) -> float:
    if 0 < seconds < 2:  # noqa: PLR2004 - a node that is well is heard once a second
        raise ValueError(seconds)
    return seconds


class NodeSettings(Frozen):
    """`[nodes.NAME]`: what the supervisor does for one node.

    Attributes:
        restart: when its process is started again.
        restart_limit: failures within `restart_window_s` after which it is not.
        ready_s: how long its `setup` may take before it counts as a failure.
        heartbeat_s: how long it may show no sign of life before it counts as hung; 0 never.
        essential: its failing for good ends the run.
    """

    restart: Literal["on-failure", "never", "always"] = "on-failure"
    restart_limit: Annotated[int, Expected("a number of restarts, 0 or more"), Field(ge=0)] = 5
    restart_window_s: _Seconds = 60
    ready_s: _Seconds = 60
    heartbeat_s: Annotated[
        float,
        Expected("seconds, 2 or more; or 0, for as long as it likes"),
        Field(ge=0, allow_inf_nan=False),
        AfterValidator(_silence_s),
    ] = 15
    essential: bool = True


class Settings(Frozen):
    """configs/common/mecha.toml."""

    hub: HubSettings = HubSettings()
    catalog: CatalogSettings = CatalogSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    cache: CacheSettings = CacheSettings()
    bus: BusSettings = BusSettings()
    self_calibration: SelfCalibrationSettings = SelfCalibrationSettings()
    nodes: dict[str, NodeSettings] = Field(default_factory=dict)


def user_data_dir() -> Path:
    """Return the root of the user-level project; it may not exist yet."""
    return platformdirs.user_data_path("mecha", appauthor=False)


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that holds model_catalog.toml, configs/, nodes/ and models/.

    Attributes:
        root: absolute.
        user_level: this is the project used outside of any other; its catalog file may be absent.
        environment: name of the folder in configs/ that is laid over common, None for none.
        user_root: root of the user-level project, whose catalog every project starts from.
        catalog_key: public key of minisign that a catalog must be signed with, those that come with mecha apart; None
            for none.
    """

    root: Path
    user_level: bool
    environment: str | None
    settings: Settings
    user_root: Path = field(default_factory=user_data_dir)
    catalog_key: str | None = None

    @property
    def catalog_file(self) -> Path:
        """The project's model_catalog.toml."""
        return self.root / CATALOG_NAME

    @property
    def models_dir(self) -> Path:
        """Where models are published."""
        return self.root / "models"

    @property
    def nodes_dir(self) -> Path:
        """Where the node programs are."""
        return self.root / "nodes"

    @property
    def configs_dir(self) -> Path:
        """Where settings and node configs are, a folder for each environment."""
        return self.root / "configs"

    @property
    def settings_file(self) -> Path:
        """mecha.toml; it may not exist."""
        return self.configs_dir / _COMMON / SETTINGS_NAME

    @property
    def lock_file(self) -> Path:
        """Revision and sha256 of every pulled file."""
        return self.root / "mecha.lock"

    def node_config_files(self, node: str) -> tuple[Path, ...]:
        """Return the config.json files of a node, existing or not, in the order they are laid over each other."""
        environments = (_COMMON,) if self.environment is None else (_COMMON, self.environment)
        return tuple(self.configs_dir / name / "nodes" / node / "config.json" for name in environments)


def find_project(start: Path, environ: Mapping[str, str], environment: str | None = None) -> Project:
    """Return the project around `start`: the nearest folder upwards with a model_catalog.toml, else the user-level one.

    Args:
        start: usually the working directory.
        environ: MECHA_ENV names the environment when `environment` does not; MECHA_CATALOG_KEY goes before
            catalog.public_key of the settings, which lie beside the catalog that they are to guard.
        environment: folder in configs/ that is laid over common.

    Raises:
        ConfigError: the settings have faults.
        NotFoundError: the project has no such environment.
        UsageError: the environment cannot be the name of a folder.
    """
    location = _located(start, environ, environment)
    settings = _read_settings(location.root / "configs" / _COMMON / SETTINGS_NAME, location.root)
    return Project(
        root=location.root,
        user_level=location.user_level,
        environment=location.environment,
        settings=settings,
        user_root=location.user_root,
        catalog_key=environ.get("MECHA_CATALOG_KEY", "").strip() or settings.catalog.public_key,
    )


def require_project(start: Path, environ: Mapping[str, str], environment: str | None = None) -> Project:
    """Return the project around `start`, never the user-level one; arguments and errors as in `find_project`.

    Raises:
        NotFoundError: there is none.
    """
    require_root(start, environ, environment)
    return find_project(start, environ, environment)


def require_root(start: Path, environ: Mapping[str, str], environment: str | None = None) -> Path:
    """Return the root of the project around `start`, never the user-level one, whatever its settings say.

    For those who look for what runs in a project: it goes on while a file of settings has a fault. Arguments as in
    `find_project`.

    Raises:
        NotFoundError: there is none, or it has no such environment.
        UsageError: the environment cannot be the name of a folder.
    """
    location = _located(start, environ, environment)
    if location.user_level:
        raise NotFoundError(
            f"no project here: {start.absolute()} and the folders above it have no {CATALOG_NAME}",
            hint="`mecha init DIR` makes a project; or change to the folder of one.",
        )
    return location.root


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of downloads and INT8 builds that all projects share: MECHA_CACHE_DIR, or the user's cache."""
    chosen = environ.get("MECHA_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("mecha", appauthor=False)


def cache_quota_bytes(settings: Settings, environ: Mapping[str, str]) -> int | None:
    """Return what the user cache may take: MECHA_CACHE_QUOTA in GB (10^9 bytes), else `cache.quota_gb`; None for all.

    Raises:
        UsageError: MECHA_CACHE_QUOTA is no number.
    """
    text = environ.get("MECHA_CACHE_QUOTA", "").strip()
    if not text:
        quota_gb = settings.cache.quota_gb
    else:
        try:
            quota_gb = float(text)
        except ValueError:
            quota_gb = -1.0
        if not 0 <= quota_gb < float("inf"):
            raise UsageError(f'MECHA_CACHE_QUOTA: got "{text}"; expected gigabytes, 0 or more')
    return None if quota_gb is None else int(quota_gb * 10**9)


def bundled_dir() -> Path:
    """Return the folder with the catalog, nodes and configs that come with mecha.

    Raises:
        NotFoundError: the installation is not whole.
    """
    package = Path(__file__).parent
    for folder in (package / "bundled", package.parent.parent):
        if (folder / CATALOG_NAME).is_file():
            return folder
    raise NotFoundError(f"{package / 'bundled' / CATALOG_NAME}: no such file", hint="Install mecha again.")


@dataclass(frozen=True, slots=True)
class _Location:
    """What is known of a project before any of its files is read; attributes as of `Project`."""

    root: Path
    user_level: bool
    environment: str | None
    user_root: Path


def _located(start: Path, environ: Mapping[str, str], environment: str | None) -> _Location:
    user_root = user_data_dir()
    root = _root_around(start.absolute())
    user_level = root is None or root == user_root
    root = user_root if root is None else root
    name, origin = (environment, "--env") if environment else (environ.get("MECHA_ENV") or None, "MECHA_ENV")
    if name is not None:
        _require_environment(name, origin, root / "configs", user_level=user_level)
    return _Location(root, user_level, name, user_root)


def _root_around(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        if (folder / CATALOG_NAME).is_file():
            return folder
    return None


def _require_environment(name: str, origin: str, configs: Path, *, user_level: bool) -> None:
    """Refuse an environment that is not there: running on common alone is not what was asked for."""
    if _ENVIRONMENT.fullmatch(name) is None:
        raise UsageError(f'{origin}: got "{name}"; expected the name of a folder in configs/')
    # MECHA_ENV set for a whole device must not break commands outside of its project.
    if user_level or (configs / name).is_dir():
        return
    known = sorted(entry.name for entry in configs.iterdir() if entry.is_dir()) if configs.is_dir() else []
    raise NotFoundError(
        f'{origin}: no environment "{name}": {configs / name} is no folder{did_you_mean(name, known)}',
        hint=f"The environments here are {alternatives(known)}." if known else "",
    )


def _read_settings(file: Path, root: Path) -> Settings:
    if not file.is_file():
        return Settings()
    where = file.relative_to(root).as_posix()
    text = read_text(file, where=where)
    return validated(Settings, parse_toml(text, where=where), where=where, line_of=toml_line_of(text))
