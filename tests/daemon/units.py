"""The plan of a unit for tests, and lines of its text."""

from pathlib import Path

from mecha.daemon.unit_text import UnitPlan

PYTHON = Path("/opt/mecha/bin/python")
NEEDED = (Path("/opt/mecha"), Path("/usr"))


def plan(root: Path = Path("/opt/robot"), **changes: object) -> UnitPlan:
    return UnitPlan(root, **({"python": PYTHON, "needed": NEEDED} | changes))  # type: ignore[arg-type]  # by name


def lines_of(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]
