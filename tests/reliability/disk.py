"""A disk whose power goes: which names and bytes are there afterwards.

What the model assumes:
- `fsync` of a file brings its bytes to the disk, not its name; `fsync` of a folder brings the names in it.
- Bytes that were not synced are there, or not, or in part, with zeros for the rest, whatever was written after them.
- Names of one folder reach the disk in the order they were changed; between folders there is no order ("by folder"), or
  that of the changes ("names"), as in a file system with a journal. A rename is there whole or not at all.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.reliability.trace import Call

Content = dict[str, bytes | None]
"""A tree by path relative to its root: the bytes of a file, None for a folder."""


@dataclass(frozen=True, slots=True)
class Names:
    """Entries of folders that change together: (folder, name, file or folder from now on, None for gone)."""

    changes: tuple[tuple[int, str, int | None], ...]

    @property
    def folders(self) -> frozenset[int]:
        return frozenset(folder for folder, _, _ in self.changes)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of a file that change: `data` from `offset` on, or its size becomes `offset`."""

    file: int
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Sync:
    """A file or folder is brought to the disk."""

    node: int


Step = Names | Bytes | Sync


class Recording:
    """The steps of a command on a tree, from its calls.

    Args:
        root: where the tree was; what happens elsewhere is left out.
        without: a folder in it that is left out too.
    """

    def __init__(self, root: Path, *, without: Path) -> None:
        self._root, self._without = root, without
        self.folders: dict[int, dict[str, int]] = {0: {}}
        self.files: dict[int, bytearray] = {}
        self._next = 1
        self._positions: dict[int, int] = {}
        self.steps: list[Step] = []
        inodes: dict[tuple[int, int], int] = {}
        for path in filter(lambda path: self._inside(str(path)), sorted(root.rglob("*"))):
            folder, name = self._parent(str(path))
            status = path.stat()
            node = inodes.get((status.st_dev, status.st_ino)) or self._new(
                None if path.is_dir() else bytearray(path.read_bytes())
            )
            inodes[status.st_dev, status.st_ino] = node
            self.folders[folder][name] = node
        self.before = Tree(
            {node: dict(names) for node, names in self.folders.items()},
            {node: bytes(data) for node, data in self.files.items()},
        )

    def play(self, calls: Sequence[Call]) -> "Recording":
        """Follow the calls."""
        for call in calls:
            self._follow(call)
        return self

    def _follow(self, call: Call) -> None:
        name, arguments = call.name, call.arguments
        words = [argument for argument in arguments if isinstance(argument, str)]
        match name:
            case "open" | "openat" | "creat":
                self._open(words[0], words[1] if len(words) > 1 else "O_CREAT|O_TRUNC")
            case "mkdir" | "mkdirat":
                self._enter(words[0], lambda: self._new(None))
            case "write" | "pwrite64" | "sendfile" | "copy_file_range" | "truncate" | "ftruncate" | "lseek":
                self._bytes(call, words)
            case "writev":
                self._write(words[0], b"".join(item for item in arguments if isinstance(item, bytes))[: call.result])
            case "link" | "linkat":
                source = self._node(words[0])
                if source is not None:
                    self._enter(words[1], lambda: source)
            case "rename" | "renameat" | "renameat2":
                self._rename(words[0], words[1], exchange="RENAME_EXCHANGE" in words)
            case "unlink" | "unlinkat" | "rmdir":
                if self._node(words[0]) is not None:
                    folder, entry = self._parent(words[0])
                    self._change((folder, entry, None))
            case "fsync" | "fdatasync":
                node = self._node(words[0])
                if node is not None:
                    self.steps.append(Sync(node))

    def _open(self, path: str, flags: str) -> None:
        node = self._node(path)
        if node is None and "O_CREAT" in flags:
            self._enter(path, lambda: self._new(bytearray()))
            node = self._node(path)
        elif node is not None and "O_TRUNC" in flags and self.files.get(node):
            self._put(Bytes(node, 0, None))
        if node is not None:
            self._positions.pop(node, None)

    def _bytes(self, call: Call, words: list[str]) -> None:
        if call.name in ("sendfile", "copy_file_range"):
            target, source = (words[0], words[1]) if call.name == "sendfile" else (words[2], words[0])
            node, size = self._node(source), self._size(target)
            content = bytes(self.files[node]) if node is not None else Path(source).read_bytes() if source else b""
            self._write(target, content[size : size + call.result])
            return
        node = self._node(words[0])
        if node is None or node not in self.files:
            return
        if call.name == "lseek":
            self._positions[node] = call.result
        elif call.name in ("truncate", "ftruncate"):
            if len(self.files[node]) != int(words[1]):
                self._put(Bytes(node, int(words[1]), None))
        else:
            data = next(item for item in call.arguments if isinstance(item, bytes))[: call.result]
            self._write(words[0], data, int(words[-1]) if call.name == "pwrite64" else None)

    def _write(self, path: str, data: bytes, offset: int | None = None) -> None:
        node = self._node(path)
        if node is None or node not in self.files or not data:
            return
        start = self._positions.get(node, len(self.files[node])) if offset is None else offset
        if offset is None and node in self._positions:
            self._positions[node] = start + len(data)
        self._put(Bytes(node, start, data))

    def _put(self, step: Bytes) -> None:
        changed(self.files[step.file], step)
        self.steps.append(step)

    def _rename(self, source: str, target: str, *, exchange: bool) -> None:
        node, other = self._node(source), self._node(target)
        if node is None:
            return
        self._change((*self._parent(source), other if exchange else None), (*self._parent(target), node))

    def _enter(self, path: str, make: Callable[[], int]) -> None:
        if self._inside(path):
            folder, name = self._parent(path)
            self._change((folder, name, make()))

    def _change(self, *changes: tuple[int, str, int | None]) -> None:
        step = Names(changes)
        enter(self.folders, step)
        self.steps.append(step)

    def _new(self, content: bytearray | None) -> int:
        node, self._next = self._next, self._next + 1
        if content is None:
            self.folders[node] = {}
        else:
            self.files[node] = content
        return node

    def _size(self, path: str) -> int:
        node = self._node(path)
        return len(self.files[node]) if node is not None and node in self.files else 0

    def _inside(self, path: str) -> bool:
        return bool(path) and Path(path).is_relative_to(self._root) and not Path(path).is_relative_to(self._without)

    def _parent(self, path: str) -> tuple[int, str]:
        node = self._node(str(Path(path).parent))
        assert node is not None, f"{path}: in no folder that was seen"
        return node, Path(path).name

    def _node(self, path: str) -> int | None:
        if not self._inside(path):
            return None
        node = 0
        for part in Path(path).relative_to(self._root).parts:
            found = self.folders.get(node, {}).get(part)
            if found is None:
                return None
            node = found
        return node


@dataclass(frozen=True, slots=True)
class Tree:
    """Folders by number, with the numbers of what is in them, and the bytes of files by number."""

    folders: dict[int, dict[str, int]]
    files: dict[int, bytes]

    def content(self, node: int = 0, at: str = "") -> Content:
        """Return the tree by paths."""
        found: Content = {}
        for name, child in sorted(self.folders[node].items()):
            path = f"{at}/{name}" if at else name
            if child in self.files:
                found[path] = self.files[child]
            else:
                found[path] = None
                found |= self.content(child, path)
        return found


Unsynced = Literal["all", "none", "names", "bytes", "torn", "by folder"]
KINDS: tuple[Unsynced, ...] = ("all", "none", "names", "bytes", "torn", "by folder")
"""What of the unsynced is there: all of it, as after a kill; nothing; all names and no bytes; all bytes and no names;
all names and the bytes in part; names up to another moment in each folder, and bytes in part."""


def after_power_cut(recording: Recording, count: int, kind: Unsynced, chance: random.Random) -> Content:
    """Return what is on the disk when the power goes after so many steps."""
    steps = recording.steps[:count]
    kept = set(_synced_names(steps)) | set(_names(steps, kind, chance))
    folders = {node: dict(names) for node, names in recording.before.folders.items()}
    for node in recording.folders:
        folders.setdefault(node, {})
    for index, step in enumerate(steps):
        if isinstance(step, Names) and index in kept:
            enter(folders, step)
    files = {node: bytearray(recording.before.files.get(node, b"")) for node in recording.files}
    last = {step.node: index for index, step in enumerate(steps) if isinstance(step, Sync)}
    for index, step in enumerate(steps):
        if isinstance(step, Bytes):
            part = step if index < last.get(step.file, -1) else _part(step, kind, chance)
            if part is not None:
                changed(files[part.file], part)
    return Tree(folders, {node: bytes(data) for node, data in files.items()}).content()


def _synced_names(steps: Sequence[Step]) -> Iterator[int]:
    """Give the changes of names that are on the disk for certain: all before one that is, in the same folders."""
    synced: set[int] = set()
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        if isinstance(step, Sync):
            synced.add(step.node)
        elif isinstance(step, Names) and step.folders & synced:
            synced |= step.folders
            yield index


def _names(steps: Sequence[Step], kind: Unsynced, chance: random.Random) -> Iterator[int]:
    ends: dict[int, int] = {}
    stopped: set[int] = set()
    synced = set(_synced_names(steps))
    for index, step in enumerate(steps):
        if not isinstance(step, Names) or index in synced:
            continue
        if kind in ("all", "names", "torn"):
            yield index
        elif kind == "by folder":
            for folder in step.folders:
                ends.setdefault(folder, chance.randint(0, len(steps)))
            if step.folders & stopped or any(index >= ends[folder] for folder in step.folders):
                stopped |= step.folders
            else:
                yield index


def _part(step: Bytes, kind: Unsynced, chance: random.Random) -> Bytes | None:
    """Return what of an unsynced change of bytes is there."""
    if kind in ("all", "bytes"):
        return step
    if kind in ("none", "names"):
        return None
    fate = chance.choice(("whole", "gone", "torn", "zeros"))
    if step.data is None or fate in ("whole", "gone"):
        return step if fate == "whole" else None
    half = chance.randint(0, len(step.data))
    return Bytes(step.file, step.offset, step.data[:half] + (b"" if fate == "torn" else bytes(len(step.data) - half)))


def changed(content: bytearray, step: Bytes) -> None:
    """Change the bytes of a file."""
    if step.data is None:
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    content.extend(bytes(max(0, step.offset - len(content))))
    content[step.offset : step.offset + len(step.data)] = step.data


def enter(folders: dict[int, dict[str, int]], step: Names) -> None:
    """Change the names in folders."""
    for folder, name, node in step.changes:
        if node is None:
            folders[folder].pop(name, None)
        else:
            folders[folder][name] = node
