"""A terminal that a program can look at: tmux, of a given size, with a shell in it."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

TMUX = shutil.which("tmux")


class Tmux:
    """A tmux server of its own with one window.

    Args:
        folder: where its socket goes; a short path.
        environ: of the shell in it.
    """

    def __init__(self, folder: Path, size: tuple[int, int], environ: Mapping[str, str], cwd: Path) -> None:
        self._command = [TMUX or "tmux", "-u", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._environ = dict(environ)
        columns, lines = (str(number) for number in size)
        self("new-session", "-d", "-x", columns, "-y", lines, "-c", str(cwd), "env PS1='$ ' sh")

    def __call__(self, *arguments: str) -> str:
        """Run a command of tmux; returns what it prints."""
        done = subprocess.run(
            [*self._command, *arguments], env=self._environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    def type(self, *keys: str) -> None:
        """Press keys, by their names in tmux."""
        self("send-keys", *keys)

    def run(self, line: str) -> None:
        """Type a line and Enter."""
        self("send-keys", "-l", line)
        self("send-keys", "Enter")

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        self("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, *, styled: bool = False) -> list[str]:
        """Return the lines that are seen, with the sequences of their colours if asked."""
        return self("capture-pane", "-p", *(["-e"] if styled else [])).split("\n")[:-1]

    def told(self, form: str) -> str:
        """Return what tmux knows, as in "#{cursor_flag}"."""
        return self("display-message", "-p", form).strip()

    def close(self) -> None:
        """End the server, and with it what runs in the window."""
        self("kill-server")
