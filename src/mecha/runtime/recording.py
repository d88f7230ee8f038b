r"""A file of messages: what ran on the topics of a robot, to run again on a desk.

    mecha recording 1\n                 18 bytes
    u64  started_at                     nanoseconds since 1970
    then, for each message:
    u32  length                         bytes of the body
    u32  checksum                       CRC-32 of the body
    body:
        u64  at                         nanoseconds since started_at, by a clock that is never set
        u32  length of the topic
        u32  length of the attachment
        topic (UTF-8), attachment, payload

All numbers are little-endian. A file is only ever appended to, a message at a time, so whatever ends a recording (a
signal, a power cut, a full disk) leaves whole messages and at most one that is cut off, which readers pass over.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mecha.errors import IntegrityError, NoSpaceError, NotFoundError, UsageError
from mecha.runtime.bus import Sample, is_topic
from mecha.store.faults import RESERVE_BYTES, disk_error, disk_of, free_bytes
from mecha.words import size_words

MAGIC = b"mecha recording 1\n"
_STARTED = struct.Struct("<Q")
_FRAME = struct.Struct("<II")
_HEAD = struct.Struct("<QII")
_FIRST = len(MAGIC) + _STARTED.size
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message and when it came, nanoseconds since the recording began."""

    at_ns: int
    sample: Sample


@dataclass(slots=True)
class TopicCount:
    """What a recording holds of a topic: messages, and bytes of payload."""

    messages: int = 0
    payload_bytes: int = 0


@dataclass(slots=True)
class Contents:
    """What a recording holds.

    Attributes:
        topics: by name, in the order of their first message.
        duration_ns: from the begin of the recording to its last message.
        cut_off_bytes: what is left of a last message that is not whole.
    """

    topics: dict[str, TopicCount] = field(default_factory=dict)
    duration_ns: int = 0
    cut_off_bytes: int = 0

    @property
    def messages(self) -> int:
        """Of all topics."""
        return sum(count.messages for count in self.topics.values())


class RecordingWriter:
    """Writes a new recording; one that got no message leaves no file.

    Only its owner may read it: it can hold what a camera saw.

    Args:
        path: a file that is not there yet.
        started_at: nanoseconds since 1970.
        free: bytes that can still be written where a path is.

    Raises:
        UsageError: there is such a file.
        DiskError: it cannot be made.
    """

    def __init__(self, path: Path, started_at: int, *, free: Callable[[Path], int] = free_bytes) -> None:
        self.path = path
        self.contents = Contents()
        self._free = free
        try:
            self._file = os.fdopen(os.open(path, _NEW, 0o600), "wb", buffering=0)
        except FileExistsError as error:
            raise UsageError(
                f"{path}: exists; expected a file that is not there yet", hint="Name another file, or remove this one."
            ) from error
        except OSError as error:
            raise disk_error(error, path, "write") from error
        self._end = 0
        self._write(MAGIC, _STARTED.pack(started_at))

    def append(self, message: Recorded) -> None:
        """Add a message; one that came before the last one is taken to have come with it.

        Raises:
            NoSpaceError: the disk is full; what was written before is whole.
            DiskError: the same, for another reason.
        """
        sample, contents = message.sample, self.contents
        at_ns = max(message.at_ns, contents.duration_ns)
        topic = sample.topic.encode()
        head = _HEAD.pack(at_ns, len(topic), len(sample.attachment)) + topic + sample.attachment
        checksum = zlib.crc32(sample.payload, zlib.crc32(head))
        self._write(_FRAME.pack(len(head) + len(sample.payload), checksum) + head, sample.payload)
        count = contents.topics.setdefault(sample.topic, TopicCount())
        count.messages += 1
        count.payload_bytes += len(sample.payload)
        contents.duration_ns = at_ns

    def sync(self) -> None:
        """Bring what was written to the disk, and look whether it has room for more.

        Raises:
            NoSpaceError: it is about to be full: a device without any space can no longer log, update or boot.
            DiskError: it cannot be written.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(error, self.path, "write") from error
        free = self._free(self.path)
        if free < RESERVE_BYTES:
            raise NoSpaceError(
                f"{self.path}: cannot write: {size_words(free)} free on {disk_of(self.path)}, "
                f"and {size_words(RESERVE_BYTES)} stay free",
                hint="What was recorded until now is whole. Free some space, or record less with --topic.",
            )

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self._end

    def close(self) -> None:
        """End the recording; closing twice is allowed."""
        self._file.close()
        if not self.contents.messages:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the recording."""
        self.close()

    def _write(self, *parts: bytes) -> None:
        try:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[self._file.write(left) :]
        except OSError as error:
            # What is there of this message would stand between the others and those of a later recording.
            self._file.truncate(self._end)
            raise disk_error(error, self.path, "write") from error
        self._end += sum(map(len, parts))


class Recording:
    """Reads a recording, from its begin, as often as wanted.

    Args:
        path: the file.

    Raises:
        NotFoundError: there is none.
        IntegrityError: it is no recording.
        DiskError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            first = file.read(_FIRST)
        if len(first) < _FIRST or not first.startswith(MAGIC):
            raise IntegrityError(
                f"{path}: got a file that begins with {first[: len(MAGIC)]!r}; expected a recording of mecha",
                hint="`mecha record FILE` makes one.",
            )
        (self.started_at,) = _STARTED.unpack(first[len(MAGIC) :])

    def __iter__(self) -> Iterator[Recorded]:
        """Give every message that is whole.

        Raises:
            IntegrityError: bytes before the last message are not what was written; the messages before them were given.
            DiskError: the file cannot be read.
        """
        with self._open() as file:
            for begin, length, checksum, last in self._bodies(file):
                body = self._read(file, length)
                if zlib.crc32(body) != checksum:
                    if last:
                        return  # the power went while it was written
                    raise self._damaged(begin)
                yield self._message(body, begin)

    def contents(self) -> Contents:
        """Count the messages; their payloads are passed over, so damage in one of them is not seen.

        Raises:
            IntegrityError: bytes are not what was written.
            DiskError: the file cannot be read.
        """
        contents = Contents()
        whole = _FIRST
        with self._open() as file:
            for begin, length, _, _ in self._bodies(file):
                at_ns, topic_bytes, attachment_bytes = self._head(self._read(file, _HEAD.size), length, begin)
                topic = self._topic(self._read(file, topic_bytes), begin)
                count = contents.topics.setdefault(topic, TopicCount())
                count.messages += 1
                count.payload_bytes += length - _HEAD.size - topic_bytes - attachment_bytes
                contents.duration_ns = at_ns
                whole = begin + length
            contents.cut_off_bytes = os.fstat(file.fileno()).st_size - whole
        return contents

    def _bodies(self, file: BinaryIO) -> Iterator[tuple[int, int, int, bool]]:
        """Go from message to message: where the body begins, its length and checksum, and whether the file ends there.

        The file stands at the begin of the body each time.
        """
        end = os.fstat(file.fileno()).st_size
        position = _FIRST
        while end - position > _FRAME.size:
            file.seek(position)
            length, checksum = _FRAME.unpack(self._read(file, _FRAME.size))
            position += _FRAME.size
            # A file system may leave zeros where the power went.
            if not 0 < length <= end - position:
                return
            yield position, length, checksum, position + length == end
            position += length

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.path}: no such file") from error
        except OSError as error:
            raise disk_error(error, self.path, "read") from error

    def _read(self, file: BinaryIO, size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise disk_error(error, self.path, "read") from error

    def _message(self, body: bytes, begin: int) -> Recorded:
        at_ns, topic_bytes, attachment_bytes = self._head(body[: _HEAD.size], len(body), begin)
        attachment_at = _HEAD.size + topic_bytes
        payload_at = attachment_at + attachment_bytes
        topic = self._topic(body[_HEAD.size : attachment_at], begin)
        return Recorded(at_ns, Sample(topic, body[payload_at:], body[attachment_at:payload_at]))

    def _head(self, head: bytes, length: int, begin: int) -> tuple[int, int, int]:
        """Return when a message came, and the lengths of its topic and its attachment."""
        if len(head) < _HEAD.size:
            raise self._damaged(begin)
        at_ns, topic_bytes, attachment_bytes = _HEAD.unpack(head)
        if _HEAD.size + topic_bytes + attachment_bytes > length:
            raise self._damaged(begin)
        return at_ns, topic_bytes, attachment_bytes

    def _topic(self, data: bytes, begin: int) -> str:
        topic = data.decode(errors="replace")
        if not is_topic(topic):
            raise self._damaged(begin)
        return topic

    def _damaged(self, begin: int) -> IntegrityError:
        return IntegrityError(
            f"{self.path}: byte {begin}: got other bytes than were recorded; expected a message",
            hint="The messages before it are whole; copy the file again if it came from another machine.",
        )
