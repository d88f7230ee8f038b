"""Addresses of streams: as they may be shown, and why nothing comes from one."""

import re
import socket
from urllib.parse import SplitResult, urlsplit

_HIDDEN = "***"
# Up to the last @ before the path; what stands between a colon and a slash is a port where it is a number.
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):(?:[^/]*|(?!\d+/)[^\s]*)@")
# Cheap cameras take them in the path or in the query.
_NAMED_PASSWORD = re.compile(r"(?i)(?<![a-z])((?:password|passwd|passwort|pass|pwd|psw|token|secret|auth)=)[^&\s/]+")
_CONNECT_TIMEOUT_S = 2.0
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "http": 80, "https": 443}


def without_password(address: str) -> str:
    """Return an address that may be shown: rtsp://user:***@host/path."""
    return _NAMED_PASSWORD.sub(rf"\1{_HIDDEN}", _PASSWORD.sub(rf"\1:{_HIDDEN}@", address))


def why_no_stream(address: str) -> str:
    """Ask who listens at an address where no stream could be opened; takes 4 seconds at most.

    Returns:
        What was found, as in "nothing listens at 10.0.0.7:554".
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "the address has a part that is none"
    if not host or port is None or parts.scheme == "udp":
        return "nothing came"
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S) as connection:
            said = _answer(connection, parts, where) if parts.scheme == "rtsp" else ""
            return said or f"{where} takes connections"
    except OSError as error:
        return _why_not_connected(error, host, where)


def _why_not_connected(error: OSError, host: str, where: str) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {where}"
    if isinstance(error, socket.gaierror):
        return f'no machine is known by the name "{host}"'
    if isinstance(error, TimeoutError):
        return f"{where} does not answer"
    return f"{where}: {(error.strerror or str(error)).lower()}"


def _answer(connection: socket.socket, parts: SplitResult, where: str) -> str:
    """Ask a camera for its stream, without a password, and say in words what it answers."""
    asked = parts._replace(netloc=where).geturl()
    connection.sendall(f"DESCRIBE {asked} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
    status = connection.makefile("rb").readline(200).decode(errors="replace").strip()
    code = status.split()[1] if status.startswith("RTSP/") and len(status.split()) > 1 else ""
    if code == "401" and not parts.username:
        return f"{where} asks for a user and a password: rtsp://USER:PASSWORD@{where}{parts.path}"
    if code == "401":
        return f"{where} does not take this user and password, or has nothing at {parts.path or '/'}"
    if code == "404":
        return f"{where} has nothing at {parts.path or '/'}"
    return f'{where} answers "{status}"' if status else f"{where} takes the connection and says nothing"
