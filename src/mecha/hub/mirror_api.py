"""The JSON that the Hub's read API answers with, made from a snapshot of a folder."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from huggingface_hub import metadata_load
from yaml import YAMLError  # type: ignore[import-untyped]  # PyYAML ships no types

from mecha.hub.mirror_files import ServedFile, Snapshot, require_answered

Json = dict[str, Any]

PAGE_ENTRIES = 1000
"""How many entries of a tree one answer holds at most; the Hub's own limit."""

_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing; `next_cursor` is None on the last one."""

    entries: tuple[Json, ...]
    next_cursor: int | None


def repo_info(snapshot: Snapshot, *, blobs: bool, private: bool) -> Json:
    """Return what `/api/models/<repo>` and `/api/datasets/<repo>` say; with `blobs`, sizes and digests too."""
    info: Json = {
        "id": snapshot.repo_id,
        "author": snapshot.repo_id.partition("/")[0],
        "sha": snapshot.commit,
        "lastModified": _timestamp(max((file.mtime_ns for file in snapshot.files), default=0)),
        "private": private,
        "gated": False,
        "disabled": False,
        "tags": [],
        "siblings": [_sibling(file, blobs=blobs) for file in snapshot.files],
    }
    if snapshot.repo_type == "model":
        info["modelId"] = snapshot.repo_id
    licence = card_licence(snapshot.find("README.md"))
    if licence is not None:
        info["cardData"] = {"license": licence}
        info["tags"] = [f"license:{licence}"]
    return info


def tree_page(
    snapshot: Snapshot, folder: str, *, recursive: bool, expand: bool, limit: int, cursor: int
) -> Page | None:
    """Return a page of the entries below a folder ("" for the root), or None when there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    below = [file for file in snapshot.files if file.path.startswith(prefix)]
    if folder and not below:
        return None
    entries = _entries(snapshot, below, prefix, recursive=recursive, expand=expand)
    end = cursor + min(max(limit, 1), PAGE_ENTRIES)
    return Page(tuple(entries[cursor:end]), end if end < len(entries) else None)


def paths_info(snapshot: Snapshot, paths: Iterable[str], *, expand: bool) -> list[Json]:
    """Return the entries at the given paths; a path that does not exist is left out."""
    wanted = {path.strip("/") for path in paths}
    entries = _entries(snapshot, snapshot.files, "", recursive=True, expand=expand)
    return [entry for entry in entries if entry["path"] in wanted]


def card_licence(card: ServedFile | None) -> str | None:
    """Return `license:` of a README's front matter; None when there is none or it cannot be read.

    Raises:
        DiskError: whether there is one cannot be told now.
    """
    if card is None or card.size_bytes > _CARD_BYTES:
        return None
    try:
        metadata = metadata_load(card.location)
    except OSError as error:
        require_answered(card.location, error)
        return None
    except (ValueError, YAMLError):
        return None
    licence = metadata.get("license") if metadata else None
    return licence if isinstance(licence, str) else None


def _entries(
    snapshot: Snapshot, files: Sequence[ServedFile], prefix: str, *, recursive: bool, expand: bool
) -> list[Json]:
    folders = _folder_entries(files, prefix)
    entries = [entry for entry in folders if recursive or "/" not in entry["path"][len(prefix) :]]
    entries += [_file_entry(file) for file in files if recursive or "/" not in file.path[len(prefix) :]]
    if expand:
        entries = [entry | {"lastCommit": _last_commit(snapshot)} for entry in entries]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _folder_entries(files: Sequence[ServedFile], prefix: str) -> list[Json]:
    contents: dict[str, Any] = {}
    for file in files:
        parts = file.path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = prefix + "/".join(parts[:depth])
            digest = contents.setdefault(folder, hashlib.sha1(usedforsecurity=False))
            digest.update(f"{file.sha256}  {file.path}\n".encode())
    return [{"type": "directory", "path": path, "size": 0, "oid": sha1.hexdigest()} for path, sha1 in contents.items()]


def _file_entry(file: ServedFile) -> Json:
    pointer = _lfs_pointer(file)
    lfs = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": len(pointer)}
    return {"type": "file", "path": file.path, "size": file.size_bytes, "oid": _git_blob(pointer), "lfs": lfs}


def _sibling(file: ServedFile, *, blobs: bool) -> Json:
    if not blobs:
        return {"rfilename": file.path}
    pointer = _lfs_pointer(file)
    lfs = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": len(pointer)}
    return {"rfilename": file.path, "size": file.size_bytes, "blobId": _git_blob(pointer), "lfs": lfs}


def _lfs_pointer(file: ServedFile) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size_bytes}\n".encode()


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _last_commit(snapshot: Snapshot) -> Json:
    newest_ns = max((file.mtime_ns for file in snapshot.files), default=0)
    return {"id": snapshot.commit, "title": "Files as they are in the served folder", "date": _timestamp(newest_ns)}


def _timestamp(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
