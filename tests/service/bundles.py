"""Bundles with something else in them, and what an import says and leaves."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def changed(bundle: Path, to: Path, change: Callable[[Any], None]) -> Path:
    """Write a bundle with something else in its index."""
    with tarfile.open(bundle) as old, tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]  # plain files
            if member.name == "index.json":
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return to


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return what a user sees of a project: no lock, and nothing unfinished."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
