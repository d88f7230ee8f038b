"""A network camera: RTSP (RFC 2326) with JPEG over RTP (RFC 2435), in the connection that asked for it."""

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

_CLOCK_HZ = 90_000
_LARGEST_PART = 1400
_JPEG_PAYLOAD = 26
_START_OF_SCAN, _TABLES = 0xDA, 0xDB


@dataclass
class RtspCamera:
    """Sends pictures to everybody who plays `rtsp://127.0.0.1:PORT/live`. Leave the context and it is gone at once.

    Attributes:
        port: 0 takes a free one.
        fps: pictures per second, and what the description says.
        password: asked for with the user name "user"; none is asked for where it is empty.
        picture: gives the picture of a number; the default is as bright as `brightness` says.
        sent: how many pictures were sent.
        played: how many clients began to play.
    """

    port: int = 0
    fps: float = 30.0
    password: str = ""
    picture: Callable[[int], NDArray[np.uint8]] | None = None
    sent: int = 0
    played: int = 0
    _flowing: threading.Event = field(default_factory=threading.Event)
    _gone: threading.Event = field(default_factory=threading.Event)
    _connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._server.getsockname()[1])
        self._flowing.set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gone.set()
        self._flowing.set()
        # Closing alone does not wake a thread that waits in `accept`.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            _cut(connection)
        for thread in self._threads:
            thread.join()

    @property
    def address(self) -> str:
        """Where it is, with what it takes to get in."""
        who = f"user:{self.password}@" if self.password else ""
        return f"rtsp://{who}127.0.0.1:{self.port}/live"

    def freeze(self) -> None:
        """Send nothing more, and keep every connection: a camera that hangs, a cable that was pulled."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Go on."""
        self._flowing.set()

    def _accept(self) -> None:
        while not self._gone.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        player: threading.Thread | None = None
        ended = threading.Event()
        lock = threading.Lock()
        try:
            for method, headers in _requests(connection):
                status, more, body = self._answer(method, headers)
                lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *more]
                if body:
                    lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
                with lock:
                    connection.sendall("\r\n".join([*lines, "", body]).encode())
                if method == "PLAY" and player is None:
                    self.played += 1
                    player = threading.Thread(target=self._play, args=(connection, lock, ended))
                    player.start()
                if method == "TEARDOWN":
                    break
        except OSError:
            pass
        finally:
            ended.set()
            _cut(connection)
            if player is not None:
                player.join()

    def _answer(self, method: str, headers: dict[str, str]) -> tuple[str, list[str], str]:
        said = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and method != "OPTIONS" and headers.get("authorization") != f"Basic {said}":
            return "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"'], ""
        session = "Session: 7;timeout=60"
        if method == "OPTIONS":
            return "200 OK", ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"], ""
        if method == "DESCRIBE":
            return "200 OK", [], _DESCRIPTION.format(fps=self.fps)
        if method == "SETUP":
            return "200 OK", [session, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"], ""
        return "200 OK", [session], ""

    def _play(self, connection: socket.socket, lock: threading.Lock, ended: threading.Event) -> None:
        began = time.monotonic()
        sequence = 0
        number = 0
        while not ended.is_set() and not self._gone.is_set():
            if self._flowing.is_set():
                # The clock of the camera tells when it was taken, however late it is sent.
                taken = int((time.monotonic() - began) * _CLOCK_HZ)
                frame = brightness(number) if self.picture is None else self.picture(number)
                try:
                    with lock:
                        for packet in _packets(frame, taken, sequence):
                            connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                            sequence += 1
                except OSError:
                    return
                self.sent += 1
                number += 1
            ended.wait(max(0.0, began + number / self.fps - time.monotonic()) if self._flowing.is_set() else 0.01)


def brightness(number: int) -> NDArray[np.uint8]:
    """Return a picture that says its number by its brightness, see `number_of`; of 64x48 pixels."""
    return np.full((48, 64, 3), 10 + number % 24 * 10, np.uint8)


def number_of(frame_bgr: NDArray[np.uint8]) -> int:
    """Return the number, modulo 24, of a picture that `brightness` made."""
    return round((float(frame_bgr.mean()) - 10) / 10)


_DESCRIPTION = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 26\r\na=framerate:{fps:g}\r\na=control:video\r\n"
)


def _requests(connection: socket.socket) -> Iterator[tuple[str, dict[str, str]]]:
    """Give method and headers, in lower case, of each request; reports that come between them are passed over."""
    stream = connection.makefile("rb")
    while first := stream.read(1):
        if first == b"$":
            _, length = struct.unpack(">BH", stream.read(3))
            stream.read(length)
            continue
        method = (first + stream.readline()).split()[0].decode()
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        yield method, headers


def _packets(frame_bgr: NDArray[np.uint8], timestamp: int, sequence: int) -> Iterator[bytes]:
    """Give the RTP packets of one picture, with its tables in the first of them."""
    tables, scan = _jpeg(frame_bgr)
    height, width = frame_bgr.shape[:2]
    offset = 0
    while offset < len(scan):
        part = scan[offset : offset + _LARGEST_PART]
        last = offset + len(part) == len(scan)
        rtp = struct.pack(
            ">BBHII", 0x80, _JPEG_PAYLOAD | (0x80 if last else 0), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1
        )
        # Type 1 is 4:2:0; a quality of 255 says that the tables follow.
        jpeg = struct.pack(">I", offset) + bytes([1, 255, width // 8, height // 8])
        quantization = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        yield rtp + jpeg + quantization + part
        sequence += 1
        offset += len(part)


def _jpeg(frame_bgr: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """Return the two quantization tables and the scan of a picture as baseline JPEG with the usual Huffman tables."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    written = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, 90, *sampling])[1].tobytes()
    tables = b""
    position = 2
    while True:
        marker, length = struct.unpack(">xBH", written[position : position + 4])
        segment = written[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _TABLES:
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        elif marker == _START_OF_SCAN:
            return tables, written[position:].removesuffix(b"\xff\xd9")


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
