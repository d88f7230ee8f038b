import os
import subprocess
import sys
from pathlib import Path

SESSION = """
import sys
from mecha.detect.session import Session
from pathlib import Path
Session(Path(sys.argv[1]).read_bytes(), threads=1, where="model")
"""
# Where tests run as a service, onnxruntime reports nothing anyway.
SILENCING = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")


def files_after_a_session(home: Path, **changes: str) -> set[str]:
    """What lies in a home folder after a model was loaded there."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in SILENCING and not name.startswith("XDG_")}
    model = Path(__file__).parents[1] / "src" / "mecha" / "arena" / "arena-n.onnx"
    environ = kept | {"HOME": str(home)} | changes
    subprocess.run([sys.executable, "-c", SESSION, str(model)], env=environ, check=True, timeout=60)
    return {path.name for path in home.rglob("*") if path.is_file()}


def test_onnxruntime_keeps_no_device_id_and_no_reports(tmp_path: Path) -> None:
    assert files_after_a_session(tmp_path / "home") == set()


def test_who_wants_reports_can_have_them(tmp_path: Path) -> None:
    program = "import os, mecha; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environ = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"
