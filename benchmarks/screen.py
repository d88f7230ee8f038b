"""Runs `mecha dev` in a real terminal: takes the pictures of docs/dev.md, and measures what the screen costs.

    python -m benchmarks.screen [--pictures docs/pictures] [--seconds 30]

It needs tmux; where it is absent and this is root, apt-get installs it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from benchmarks.tmux import Tmux
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

SIZES = ((80, 24), (200, 50))
MECHA = [sys.executable, "-m", "mecha"]
DEADLINE_S = 120
THEME = TerminalTheme(
    (24, 26, 31),
    (205, 208, 214),
    [(60, 64, 72), (232, 104, 104), (128, 196, 120), (224, 188, 96), (104, 160, 232), (192, 136, 216), (92, 188, 200),
     (205, 208, 214)],
    [(110, 116, 126), (240, 128, 128), (150, 214, 142), (236, 206, 124), (130, 180, 240), (208, 160, 228),
     (120, 206, 216), (240, 242, 245)],
)  # fmt: skip


def main() -> None:
    """Run it at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=Path, help="folder for dev-80x24.svg and the others")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the cost is measured")
    options = parser.parse_args()
    have_tmux()
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        folder = Path(name)
        environ = {**os.environ, "XDG_RUNTIME_DIR": name, "MECHA_CACHE_DIR": str(folder / "cache")}
        project = make_project(folder / "robot", environ)
        for size in SIZES:
            terminal = Tmux(folder, size, environ, project)
            try:
                look(terminal, size, options.pictures, folder, options.seconds)
            finally:
                terminal.close()


def have_tmux() -> None:
    """Install tmux where it is absent."""
    if shutil.which("tmux") is None:
        subprocess.run(["apt-get", "install", "-y", "tmux"], check=True)


def make_project(folder: Path, environ: dict[str, str]) -> Path:
    """Lay out a project that runs the packaged detector at 30 frames a second; returns its root."""
    subprocess.run([*MECHA, "init", str(folder)], check=True, env=environ, stdout=subprocess.DEVNULL)
    for words in (
        ["models", "pull", "arena-n"],
        ["config", "set", "camera", "source", "arena://?fps=30"],
        ["config", "set", "object-detector", "use_int8", "true"],
    ):
        subprocess.run([*MECHA, *words], check=True, cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    return folder


def look(terminal: Tmux, size: tuple[int, int], pictures: Path | None, folder: Path, seconds: float) -> None:
    """Run the screen at one size, press keys, take a picture, and measure."""
    columns, lines = size
    terminal.run(f"exec {' '.join(MECHA)} dev")
    wait(lambda: "INT8" in terminal.screen()[3], "a detector that runs INT8")
    time.sleep(4)
    terminal.type("i")
    wait(lambda: "FP32" in terminal.screen()[3], "a detector that runs FP32")
    time.sleep(3)
    terminal.type("i")
    wait(lambda: any("FP32" in line and "-> INT8" in line for line in terminal.screen()), "the line of the switch")
    time.sleep(2)
    picture(terminal.screen(styled=True), columns, pictures, f"dev-{columns}x{lines}")
    if size == SIZES[0]:
        terminal.type("?")
        wait(lambda: any("help" in line for line in terminal.screen()[:-1]), "the help")
        picture(terminal.screen(styled=True), columns, pictures, "dev-help")
        terminal.type("?")
    written = folder / f"written-{columns}"
    process = psutil.Process(int(terminal.told("#{pane_pid}")))
    terminal("pipe-pane", f"cat > {written}")
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    took, cpu = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    terminal("pipe-pane")
    text = written.read_text(errors="replace")
    frames = text.count("\x1b[?2026h")
    print(
        f"{columns}x{lines}: {cpu / took * 100:.1f} % of a core (supervisor and screen), {frames / took:.1f} frames/s, "
        f"{len(text.encode()) / took / 1e3:.1f} kB/s, {text.count(chr(27) + '[2J')} times the whole screen"
    )
    terminal.type("q")


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is seen."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} was not seen in {DEADLINE_S} s")
        time.sleep(0.2)


def picture(lines: list[str], columns: int, folder: Path | None, name: str) -> None:
    """Write what a terminal shows as an SVG that needs nothing from elsewhere."""
    if folder is None:
        return
    console = Console(width=columns, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    # Of one piece: tmux says a style once for all the lines that have it.
    for line in AnsiDecoder().decode("\n".join(lines)):
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title="mecha dev", theme=THEME, unique_id=name)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    svg = re.sub(r"\s*<!--.*?-->", "", svg)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
