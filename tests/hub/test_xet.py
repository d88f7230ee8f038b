"""Files that the Hub keeps in Xet storage come through their plain address: no further library, no further protocol."""

import sys
from pathlib import Path

from tests.reliability.faulty_hub import CATALOG, SIZE, faulty_hub, model_of
from tests.service.conftest import Bench

# As the Hub answers for such a file; who follows them asks other servers, in another protocol.
XET = {
    "X-Xet-Hash": "9" * 64,
    "X-Xet-Refresh-Route": "/api/models/owner/name/xet-read-token/main",
    "Link": '<http://127.0.0.1:9/token>; rel="xet-auth", <http://127.0.0.1:9/parts>; rel="xet-reconstruction-info"',
}
WATCHED = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_xet":
            sys.stderr.write("IMPORTED hf_xet")
            raise ImportError(name)
sys.meta_path.insert(0, Refusing())
"""


def test_a_file_in_xet_storage_is_downloaded_by_plain_http(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCHED)
    content = model_of(SIZE)
    with faulty_hub(content) as hub:
        hub.headers = XET
        bench = Bench(tmp_path / "project", tmp_path / "home", {"HF_ENDPOINT": hub.server.endpoint})
        bench.root.mkdir()
        bench.home.mkdir()
        bench.write_catalog(CATALOG)
        done = bench.command("models", "pull", "m", "--no-quantize", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "IMPORTED" not in done.stderr
    assert [(seen.method, seen.path.rpartition("/")[2]) for seen in hub.server.seen] == [
        ("HEAD", "model.onnx"),
        ("GET", "model.onnx"),
    ]
    assert (bench.root / "models/m/model.onnx").read_bytes() == content
    assert "hf_xet" not in sys.modules
