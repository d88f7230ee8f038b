"""`mecha dev` without its command line, as a process of its own."""

import subprocess
import sys
import threading
from pathlib import Path

import psutil


class Background:
    """`mecha dev` without its command line, as a process."""

    PROGRAM = """
import json, os, sys
from pathlib import Path
from mecha.project import find_project
from mecha.runtime.dev import DevOptions, run_dev
say = lambda text: print(text, flush=True)
summary = run_dev(find_project(Path(sys.argv[1]), os.environ), (), DevOptions(), say, lambda event: None)
say(json.dumps(summary.to_json()))
sys.exit(summary.exit_code)
"""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def nodes(self) -> list[psutil.Process]:
        return [child for child in self.children() if alive(child) and "mecha.runtime.run" in child.cmdline()]

    def node(self, name: str) -> psutil.Process:
        return next(node for node in self.nodes() if name in node.cmdline())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def alive(process: psutil.Process) -> bool:
    """Tell whether a process still does something: one that has ended waits for its parent to ask how."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
