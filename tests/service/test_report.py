"""The report beside a build, as a user reads it."""

import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.quantize.frames_of_noise import PatchFrames, spec_of
from tests.quantize.report.a_report import RECORD
from tests.service.conftest import Bench

from mecha.service.build_report import REPORT_FILES, write_report

LARGEST_PAGE = 1_500_000


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_the_report_lies_beside_the_build_and_is_listed_in_the_manifest(pulled_once: Bench) -> None:
    folder = pulled_once.root / "models" / "arena"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(REPORT_FILES) <= set(listed)
    assert pulled_once.command("models", "verify", "arena").returncode == 0
    page = (folder / "report.html").read_text()
    assert len(page) < LARGEST_PAGE
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert tags.seen.count("img") == 6


def test_a_pipe_gets_the_markdown_as_it_is(pulled_once: Bench) -> None:
    done = pulled_once.command("models", "report", "arena")
    assert done.returncode == 0
    assert done.stdout == (pulled_once.root / "models/arena/report.md").read_text()
    assert done.stdout.startswith("# INT8 of arena\n")
    assert "| Op | Var | SNR | MSE | Cosine | Q.MinMax | F.MinMax | F.Hist |" in done.stdout


def test_programs_get_the_figures(pulled_once: Bench) -> None:
    shown = json.loads(pulled_once.command("models", "report", "arena", "--json").stdout)
    assert (shown["schema"], shown["name"], shown["fault"]) == (1, "arena", None)
    snrs = [row["snr"] for row in shown["tensors"]]
    assert snrs == sorted(snrs, reverse=True)
    assert {"activation", "constant", "output"} == {row["kind"] for row in shown["tensors"]}
    assert sum(block["convs"] for block in shown["blocks"]) > 10
    assert shown["int8"]["method"] == "static_int8"
    assert shown["left_float"][0]["place"] == "first"


def test_the_page_can_be_written_to_a_file(pulled_once: Bench) -> None:
    done = pulled_once.command("models", "report", "arena", "--html")
    assert done.stdout == (pulled_once.root / "models/arena/report.html").read_text()


def test_the_page_is_opened_in_the_browser_of_the_user(pulled_once: Bench, tmp_path: Path) -> None:
    page = pulled_once.root / "models/arena/report.html"
    if os.name != "posix":
        pytest.skip("a browser that is a script")
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    done = pulled_once.command("models", "report", "arena", "--open", BROWSER=f"{browser} %s")
    assert (done.returncode, done.stdout) == (0, f"{page}\n")
    assert opened.read_text() == f"{page.as_uri()}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always something that opens a page")
def test_without_a_browser_the_page_can_still_be_found(pulled_once: Bench, tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": str(tmp_path / "none")}
    done = pulled_once.command("models", "report", "arena", "--open", **nothing)
    page = pulled_once.root / "models/arena/report.html"
    assert done.returncode == 4
    assert done.stderr == (
        "error: no browser was found on this device\n"
        f"  next: Copy {page} to one that has a browser: it is a single file.\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_a_terminal_gets_tables_without_the_long_one(pulled_once: Bench) -> None:
    text = _on_a_terminal(pulled_once, "models", "report", "arena")
    assert "INT8 of arena" in text
    assert "Worst tensors" in text
    assert "F.Hist" not in text
    assert f"Every tensor is in {pulled_once.root / 'models/arena/report.md'}." in text.replace("\r\n", "\n")


def _on_a_terminal(bench: Bench, *arguments: str) -> str:
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "mecha", *arguments],
        cwd=bench.root,
        env={**bench.environment, "TERM": "xterm", "COLUMNS": "160"},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as child:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # what a terminal gives once nobody is left on its other side
                break
            if not part:
                break
            text += part
        os.close(ours)
        assert child.wait(60) == 0
    return text.decode("utf-8")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (
            ("arena", "--html", "--json"),
            2,
            "error: --open, --html and --json: got more than one; expected one of them at most\n",
        ),
        (
            ("other",),
            4,
            'error: model "other" is not pulled: {root}/models/other has no manifest.json, and it is not '
            "in the catalog\n  next: `mecha models list` shows what can be pulled.\n",
        ),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(pulled_once: Bench, command: tuple[str, ...], code: int, text: str) -> None:
    done = pulled_once.command("models", "report", *command)
    assert (done.returncode, done.stderr) == (code, text.format(root=pulled_once.root))


@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        (
            "disabled",
            'model "arena" has no report: it has no INT8 build (disabled)',
            "`mecha models quantize arena` makes INT8 and its report.",
        ),
        (
            "rejected",
            'model "arena" has no report: it has no INT8 build (rejected)',
            "`mecha models show arena` tells why; `mecha models quantize arena` makes INT8 and its report.",
        ),
        ("built", 'model "arena" has no report', "`mecha models quantize arena` makes INT8 and its report."),
        ("published", 'model "arena" has no report: it was published in INT8, with no FP32 to compare it with', ""),
    ],
)
def test_a_model_without_a_report_says_why_and_how_to_get_one(
    pulled: Bench, state: str, message: str, hint: str
) -> None:
    file = pulled.root / "models/arena/manifest.json"
    manifest = json.loads(file.read_text())
    manifest["int8"]["state"] = state
    manifest["files"] = {name: record for name, record in manifest["files"].items() if name not in REPORT_FILES}
    file.write_text(json.dumps(manifest))
    done = pulled.command("models", "report", "arena")
    after = f"  next: {hint}\n" if hint else ""
    assert (done.returncode, done.stderr) == (4, f"error: {message}\n{after}")


def test_what_cannot_be_measured_costs_the_figures_and_not_the_report(tmp_path: Path) -> None:
    fp32, int8 = tmp_path / "model.onnx", tmp_path / "model-int8.onnx"
    fp32.write_bytes(b"\x08\x07 no model")
    int8.write_bytes(b"\x08\x07 no model")
    fault = write_report(tmp_path, fp32, int8, PatchFrames(), spec_of(), RECORD, threads=1)
    assert fault.startswith(f"{fp32}: got 11 bytes that cannot be parsed; expected an ONNX model; ")
    shown = json.loads((tmp_path / "report.json").read_text())
    assert (shown["fault"], shown["tensors"]) == (fault, [])
    assert "2.10x" in (tmp_path / "report.md").read_text()
    assert "could not be measured" in (tmp_path / "report.html").read_text()
