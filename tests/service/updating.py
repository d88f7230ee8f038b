"""A project whose model changes upstream: its catalog, its commands, and what of it is published."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli
from tests.service.conftest import CATALOG, PLAIN, Bench, make_bench

from mecha.hub.mirror import RunningMirror

LABELS = "cone\nball\ncrate\ntag\n"


def following(folder: Path, mirror: RunningMirror) -> Bench:
    """Make a project whose catalog asks for FP32 of what is published upstream."""
    made = make_bench(folder / "project", folder / "home", mirror.endpoint)
    made.write_catalog(entry())
    return made


def entry(name: str = "arena", *, quantize: bool = False, extra: str = "", labels: str = "") -> str:
    text = CATALOG.format(method="static_int8", options=f"escalate = false\n{PLAIN}{extra}")
    text = text.replace('name = "arena"', f'name = "{name}"').replace("enabled = true", f"enabled = {quantize}".lower())
    return text.replace("\n[models.quantize]", f'labels = "{labels}"\n\n[models.quantize]') if labels else text


def ran(bench: Bench, *arguments: str, code: int = 0, **extra: str) -> str:
    done = bench.command("models", *arguments, **extra)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def told(bench: Bench, *arguments: str, code: int = 0, **extra: str) -> dict[str, Any]:
    """The last line of a command's JSON."""
    found: dict[str, Any] = json.loads(ran(bench, *arguments, "--json", code=code, **extra).splitlines()[-1])
    return found


def published(bench: Bench, name: str = "arena") -> str:
    return sha256((bench.root / "models" / name / "model.onnx").read_bytes()).hexdigest()


def published_by_a_pull(bench: Bench) -> str:
    ran(bench, "pull", "arena")
    return published(bench)


def locked(bench: Bench) -> dict[str, dict[str, Any]]:
    files = tomli.loads((bench.root / "mecha.lock").read_text()).get("files", [])
    return {file["filename"]: file for file in files}


def everything(bench: Bench) -> dict[str, bytes]:
    """mecha.lock and all files of models/, but for lock files."""
    files = [bench.root / "mecha.lock", *(bench.root / "models").rglob("*")]
    return {
        str(file.relative_to(bench.root)): file.read_bytes()
        for file in files
        if file.is_file() and ".lock" not in file.suffixes and file.suffix not in (".guard", ".holder")
    } | {"mecha.lock": (bench.root / "mecha.lock").read_bytes()}
