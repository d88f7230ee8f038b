"""A bundle: models carried on a stick. An uncompressed tar of an index, and of files by content, each of them once.

    index.json          which models, what of them, and every file that follows (bundle_index.py)
    files/<sha256>      one file

The same models give the same bytes. It is read as a stream, in constant memory, and no name of it ever becomes a path:
a member is one that the index names, with the size and the digest that the index says, or the bundle is refused.
"""

import json
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mecha.errors import IntegrityError
from mecha.progress import Progress, silent
from mecha.store.bundle_index import (
    AGAIN,
    INDEX_FILE,
    LARGEST_FILE_BYTES,
    LARGEST_INDEX_BYTES,
    Content,
    Index,
    read_index,
    serialised_index,
)
from mecha.store.faults import disk_error
from mecha.words import size_words

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(_BLOCK)
_CHUNK_BYTES = 1 << 20
_LONGEST_NAME_SHOWN = 80
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd", b"PK": "zip"}


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle as it was written."""

    sha256: str
    size_bytes: int


def bundle_bytes(index: Index) -> int:
    """Return the size that a bundle will have."""
    sizes = (len(serialised_index(index)), *(content.size_bytes for content in index.files))
    return sum(_BLOCK + size + _padding(size) for size in sizes) + 2 * _BLOCK


def write_bundle(
    stream: BinaryIO, index: Index, sources: Mapping[str, Path], where: Path, progress: Progress = silent
) -> Written:
    """Write a bundle.

    Args:
        stream: takes it from its start to its end.
        sources: a file with each content that the index names, by sha256.
        where: names the bundle in messages.

    Raises:
        IntegrityError: a file is not what the index says any more.
        DiskError: a file cannot be read, or the bundle not be written.
    """
    sink, total = _Sink(stream, where), bundle_bytes(index)
    progress("export", 0, total)
    text = serialised_index(index)
    sink.write(_header(INDEX_FILE, len(text)) + text + bytes(_padding(len(text))))
    for content in index.files:
        sink.write(_header(content.member, content.size_bytes))
        for chunk in _checked(sources[content.sha256], content):
            sink.write(chunk)
            progress("export", sink.size_bytes, total)
        sink.write(bytes(_padding(content.size_bytes)))
    sink.write(2 * _END)
    progress("export", sink.size_bytes, total)
    return Written(sink.digest.hexdigest(), sink.size_bytes)


class BundleReader:
    """Reads one bundle, from its start to its end.

    Args:
        stream: gives its bytes; need not know how to go back.
        where: names it in messages.

    Attributes:
        index: what is in it.

    Raises:
        ConfigError: a newer mecha wrote it.
        IntegrityError: it is no bundle.
        DiskError: it cannot be read.
    """

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream, self._where = stream, where
        self.index = read_index(self._first(), where)

    def extract(self, wanted: Collection[str], folder: Path, progress: Progress = silent) -> dict[str, Path]:
        """Read the bundle to its end, compare every file with the index, and keep some of them.

        Args:
            wanted: their sha256.
            folder: takes them, each under its sha256; an own one, since what came before a fault stays in it.

        Returns:
            The files by sha256. They are whole, and so is all of the bundle.

        Raises:
            IntegrityError: something is not as the index says.
            DiskError: the bundle cannot be read, or a file not be written.
        """
        expected = {content.member: content for content in self.index.files}
        missing, total, done = dict(expected), sum(content.size_bytes for content in self.index.files), 0
        progress("import", 0, total)
        while (member := self._next()) is not None:
            content = missing.pop(member.name, None)
            if content is None:
                raise self._fault(self._stranger(member.name, known=member.name in expected))
            if member.size != content.size_bytes:
                raise self._fault(
                    f"{member.name} has {size_words(member.size)} ({member.size} bytes); "
                    f"the index says {content.size_bytes} bytes"
                )
            target = folder / content.sha256 if content.sha256 in wanted else None
            self._keep(content, target)
            done += content.size_bytes
            progress("import", done, total)
        if missing:
            raise self._fault(f"{next(iter(missing))} is missing")
        self._require_end()
        return {digest: folder / digest for digest in wanted}

    def check(self, progress: Progress = silent) -> None:
        """Read the bundle to its end and compare every file with the index, as `extract` does; nothing is written."""
        self.extract((), Path(), progress)

    def _first(self) -> bytes:
        """Return the bytes of the index."""
        block = self._read(_BLOCK)
        if not block:
            raise IntegrityError(f"{self._where}: the file is empty; expected a bundle", hint=AGAIN)
        packed = _PACKED.get(block[:2])
        if packed is not None:
            raise IntegrityError(
                f"{self._where}: packed with {packed}; expected a bundle as it was written, a plain tar",
                hint="Nothing was imported. Unpack it, and import what comes out.",
            )
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise IntegrityError(
                f"{self._where}: not a tar; expected a bundle",
                hint="`mecha models export NAME -o bundle.tar` writes one, on a device that has the model.",
            ) from error
        if member.name != INDEX_FILE or not member.isreg():
            raise IntegrityError(
                f"{self._where}: begins with {_shown(member.name)}; expected {INDEX_FILE}, as in every bundle",
                hint="`mecha models export NAME -o bundle.tar` writes one, on a device that has the model.",
            )
        if not 0 < member.size <= LARGEST_INDEX_BYTES:
            raise self._fault(f"{INDEX_FILE} has {member.size} bytes; expected 1 to {LARGEST_INDEX_BYTES}")
        return b"".join(self._content(INDEX_FILE, member.size))

    def _next(self) -> tarfile.TarInfo | None:
        """Return the next member, None behind the last."""
        block = self._read(_BLOCK)
        if block == _END:
            return None
        if len(block) < _BLOCK:
            raise self._cut_off("between two files")
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._fault("what follows a file is no header of a tar") from error
        if not member.isreg() or member.issparse():
            kind = _KINDS.get(member.type, f"of kind {member.type!r}")
            raise self._fault(f"{_shown(member.name)} is {kind}; expected plain files only")
        if not 0 <= member.size <= LARGEST_FILE_BYTES:
            raise self._fault(f"{_shown(member.name)} has {member.size} bytes; at most {LARGEST_FILE_BYTES} are taken")
        return member

    def _stranger(self, name: str, *, known: bool) -> str:
        if known:
            return f"{name} is there twice"
        if name.startswith("/"):
            return f"{_shown(name)} is an absolute path; expected files of the index only"
        if ".." in PurePosixPath(name).parts:
            return f"{_shown(name)} leads out of the bundle; expected files of the index only"
        return f"{_shown(name)} is not in the index"

    def _keep(self, content: Content, target: Path | None) -> None:
        state = sha256()
        file = None
        try:
            file = target.open("xb") if target is not None else None
            for chunk in self._content(content.member, content.size_bytes):
                state.update(chunk)
                if file is not None:
                    file.write(chunk)
        except OSError as error:
            raise disk_error(error, target or Path(), "write", needed_bytes=content.size_bytes) from error
        finally:
            if file is not None:
                file.close()
        if state.hexdigest() != content.sha256:
            raise self._fault(f"{content.member}: the content has sha256 {state.hexdigest()}")

    def _content(self, name: str, size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = self._read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise self._cut_off(f"in {name}, after {size - left} of {size} bytes")
            left -= len(chunk)
            yield chunk
        if len(self._read(_padding(size))) < _padding(size):
            raise self._cut_off(f"behind {name}")

    def _require_end(self) -> None:
        """Refuse what is hidden behind the end; zeros are what a tar is filled up with."""
        while block := self._read(_CHUNK_BYTES):
            if any(block):
                raise self._fault("there are bytes behind the end of the archive")

    def _read(self, count: int) -> bytes:
        """Return so many bytes, less only at the end of the stream: a pipe gives what it has."""
        parts: list[bytes] = []
        left = count
        try:
            while left and (part := self._stream.read(left)):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise disk_error(error, Path(self._where), "read") from error
        return b"".join(parts)

    def _fault(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._where}: {what}", hint=AGAIN)

    def _cut_off(self, place: str) -> IntegrityError:
        return self._fault(f"ends {place}: the bundle was cut off")


class _Sink:
    """Writes, counts and digests."""

    def __init__(self, stream: BinaryIO, where: Path) -> None:
        self._stream, self._where = stream, where
        self.digest, self.size_bytes = sha256(), 0

    def write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            raise disk_error(error, self._where, "write", needed_bytes=len(data)) from error
        self.digest.update(data)
        self.size_bytes += len(data)


def _checked(source: Path, content: Content) -> Iterator[bytes]:
    """Give the bytes of a file, never more than its content has."""
    state, left = sha256(), content.size_bytes
    try:
        with source.open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                state.update(chunk)
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise disk_error(error, source, "read") from error
    if state.hexdigest() != content.sha256:
        raise IntegrityError(f"{source}: was changed while it was exported", hint="Export again.")


def _header(name: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padding(size_bytes: int) -> int:
    return -size_bytes % _BLOCK


def _shown(name: str) -> str:
    """Write the name of a member so that it cannot do anything to a terminal."""
    return json.dumps(name)[:_LONGEST_NAME_SHOWN]
