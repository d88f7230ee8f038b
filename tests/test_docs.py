"""What the documentation shows is what happens: its commands run, its links lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mecha.arena.leaves import calibration_scene
from mecha.catalog.catalog import load_catalog
from mecha.detect.images import write_image
from mecha.project import find_project

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def headings(page: Path) -> set[str]:
    """The names by which the sections of a page are linked to."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_section_leads_to_its_heading(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [(file, name) for file, name in targets if name not in headings(page.parent / file if file else page)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_catalog_entry_that_a_page_shows_is_taken(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "toml")):
        if "[[models]]" in block or "[models." in block:
            project = tmp_path / str(number)
            project.mkdir()
            entry = "" if "[[models]]" in block else '[[models]]\nname = "mine"\npath = "mine.onnx"\n'
            (project / "model_catalog.toml").write_text(entry + block, encoding="utf-8")
            load_catalog(find_project(project, {}))


def ran(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = f'set -e\nmecha() {{ "{sys.executable}" -m mecha "$@"; }}\n' + script
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=240, check=False)


def test_the_model_of_ones_own_that_the_page_of_int8_shows_is_built(tmp_path: Path, private_home: Path) -> None:
    assert ran("mecha init .", tmp_path).returncode == 0
    for folder in ("custom", "photos"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "src/mecha/arena/arena-n.onnx", tmp_path / "custom/cones.onnx")
    for number in range(8):
        write_image(tmp_path / f"photos/{number}.png", calibration_scene(0, number, 320, 320))
    script = next(
        block for block in blocks(ROOT / "docs/quantization.md", "sh") if block.startswith("mecha models add")
    )

    done = ran(script, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "models/cones/model-int8.onnx").is_file()
    assert "calibrated" in done.stdout
    assert "photos" in done.stdout


def test_the_tour_of_the_readme_runs(tmp_path: Path, private_home: Path) -> None:
    tour = next(block for block in blocks(ROOT / "README.md", "sh") if block.startswith("mecha init"))
    done = ran(tour, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "robot" / "found.png").is_file()
    assert (tmp_path / "robot" / "models" / "arena-n" / "model-int8.onnx").is_file()
    assert "[INFO] object-detector: Loading model models/arena-n/model-int8.onnx (INT8)" in done.stdout + done.stderr


def test_the_first_two_shell_blocks_of_the_readme_are_one_line_each() -> None:
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    assert first.strip().endswith("mecha demo")
    assert second.strip().endswith("pytest")
    assert "\n" not in first.strip() + second.strip()
