"""The packages that a build depends on."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_TOOLS = ("mecha", "onnx", "onnxruntime", "numpy")


def tool_versions() -> dict[str, str]:
    """Return the version of each that is installed."""
    versions = {}
    for tool in _TOOLS:
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions
