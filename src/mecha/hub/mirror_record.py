"""Which commit of the Hub a folder is a copy of, where the Hub's own client left word of it.

`hf download owner/name --local-dir DIR` notes beside the files, in `.cache/huggingface/download/<file>.metadata`, the
commit they are of and each one's digest at the Hub. When all files still have those digests, the folder may go by that
commit's name: then a catalog or a mecha.lock that names a revision of the Hub finds it on the mirror too.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOTE_BYTES = 1000


def recorded_commit(repo: Path, digests: Iterable[tuple[str, frozenset[str]]]) -> str | None:
    """Return the one commit that every file of a folder is recorded to be of, or None.

    Args:
        repo: the folder.
        digests: of every file its path and the digests of what it holds now; the Hub uses sha256 for large files and
            git's for small ones.

    Raises:
        OSError: what is recorded cannot be told now, as opposed to a record that is not there or not for this user.
    """
    commits = {_recorded(repo, path, known) for path, known in digests}
    return commits.pop() if len(commits) == 1 else None


def _recorded(repo: Path, path: str, known: frozenset[str]) -> str | None:
    note = repo / ".cache" / "huggingface" / "download" / f"{path}.metadata"
    try:
        with note.open(encoding="utf-8") as file:
            commit, _, rest = file.read(_NOTE_BYTES).partition("\n")
    except (FileNotFoundError, NotADirectoryError, PermissionError, UnicodeDecodeError):
        return None
    etag = rest.partition("\n")[0]
    return commit if _COMMIT.fullmatch(commit) and etag in known else None
