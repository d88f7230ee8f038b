"""A folder that a mirror serves, and requests made by hand."""

import hashlib
import http.client
from pathlib import Path
from urllib.parse import urlsplit

from mecha.hub.mirror import RunningMirror
from tests.answer import Answer

MODEL = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(MODEL).hexdigest()
FILE = "/owner/name/resolve/main/sub/model.onnx"


def served_folder(folder: Path) -> Path:
    """Make a folder of two repos, beside a file that nobody may get."""
    root = folder / "served"
    write(root / "owner/name/sub/model.onnx", MODEL)
    write(root / "owner/name/README.md", b"---\nlicense: apache-2.0\n---\n# A model\n")
    write(root / "owner/name/empty.txt", b"")
    write(root / "owner/name/größe 1#.txt", b"umlaut")
    write(root / "owner/name/.env", b"secret")
    write(root / "datasets/owner/photos/1.jpg", b"jpg")
    write(folder / "secret.txt", b"secret")
    return root


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def ask(mirror: RunningMirror, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    """Ask without any tidying of the path; `if_range="x"` sends `If-Range: x`."""
    connection = http.client.HTTPConnection(urlsplit(mirror.endpoint).netloc, timeout=10)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=names)
        return Answer.of(connection.getresponse())
    finally:
        connection.close()
