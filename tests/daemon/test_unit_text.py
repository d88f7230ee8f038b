"""The text of the unit of systemd, as systemd itself reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mecha.daemon.unit_text import unit_text
from mecha.errors import UsageError
from tests.daemon.units import NEEDED, PYTHON, lines_of, plan

ODD = Path('/home/me/50%: my "robot" $HOME')
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def verified(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    # The user and the program must exist for systemd to be content.
    text = text.replace("User=mecha", "User=root").replace(str(PYTHON), shutil.which("true") or "/bin/true")
    file = folder / "mecha.service"
    file.write_text(text)
    return subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
@pytest.mark.parametrize(
    "root", [Path("/opt/robot"), Path("/home/me/my robot"), ODD], ids=["plain", "at home", "odd signs"]
)
def test_systemd_finds_nothing_wrong_with_the_unit(root: Path, tmp_path: Path) -> None:
    needed = (*NEEDED, Path("/home/me/.local/share/python 3"))
    done = verified(unit_text(plan(root, environment="field", groups=("video",), needed=needed)), tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("key", ["BindPaths", "ReadWritePaths", "BindReadOnlyPaths"])
def test_systemd_reads_a_path_of_odd_signs_as_it_is(key: str, tmp_path: Path) -> None:
    """It repeats a path that is not absolute in its own words."""
    word = lines_of(unit_text(plan(ODD)), "BindPaths")[0].replace("/home/", "home/", 1)
    done = verified(unit_text(plan()).replace("ProtectSystem=", f"{key}={word}\nProtectSystem="), tmp_path)
    assert str(ODD).removeprefix("/") in done.stderr


@needs_systemd
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    file = tmp_path / "mecha.service"
    file.write_text(unit_text(plan()))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=30", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_project_outside_of_homes_sees_no_home() -> None:
    text = unit_text(plan())
    assert lines_of(text, "ProtectHome") == ["yes"]
    assert lines_of(text, "ReadWritePaths") == ['"/opt/robot"']
    assert "BindPaths" not in text


def test_of_a_home_a_service_sees_the_project_and_what_runs_mecha() -> None:
    uv = Path("/home/me/.local/share/uv/python/3.12")
    text = unit_text(plan(Path("/home/me/robot"), needed=(Path("/home/me/robot/.venv"), uv, uv / "lib", Path("/usr"))))
    assert lines_of(text, "ProtectHome") == ["tmpfs"]
    assert lines_of(text, "BindPaths") == ['"/home/me/robot"']
    assert lines_of(text, "BindReadOnlyPaths") == [f'"{uv}"']


def test_every_line_of_the_unit_is_explained_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/daemon.md").read_text(encoding="utf-8")
    text = unit_text(plan(Path("/home/me/robot"), environment="field", groups=("video",), needed=(Path("/home/uv"),)))
    keys = {line.partition("=")[0] for line in text.partition("[X-Mecha]")[0].splitlines() if "=" in line}
    assert {key for key in keys if f"`{key}=" not in page} == set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, '--name: got "../x"; expected up to 64 letters, digits, "_" and "-"'),
        ({"user": "Me You"}, '--user: got "Me You"; expected the name of a user of this system'),
        (
            {"root": Path("/opt/a\nExecStart=/bin/sh")},
            "'/opt/a\\nExecStart=/bin/sh': cannot stand in a unit; expected a path without backslashes, control "
            "characters and a space at its end",
        ),
    ],
)
def test_what_would_change_the_meaning_of_the_unit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan(**changes)  # type: ignore[arg-type]  # by name
    assert str(refused.value) == message
