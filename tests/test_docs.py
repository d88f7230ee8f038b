"""What the documentation shows is what happens: its commands run, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_tour_of_the_readme_runs(tmp_path: Path, private_home: Path) -> None:
    tour = next(block for block in blocks(ROOT / "README.md", "sh") if block.startswith("mecha init"))
    script = f'set -e\nmecha() {{ "{sys.executable}" -m mecha "$@"; }}\n' + tour
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "robot" / "found.png").is_file()
    assert (tmp_path / "robot" / "models" / "arena-n" / "model-int8.onnx").is_file()
    assert "[INFO] object-detector: Loading model models/arena-n/model-int8.onnx (INT8)" in done.stdout + done.stderr


def test_the_first_two_shell_blocks_of_the_readme_are_one_line_each() -> None:
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    assert first.strip().endswith("mecha demo")
    assert second.strip().endswith("pytest")
    assert "\n" not in first.strip() + second.strip()
