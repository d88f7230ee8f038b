"""The device that was measured on."""

import os
import platform
from pathlib import Path

from mecha.graph.cpu import cpu_features


def describe_device(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str | int]:
    """Return arch, cpu (its name), cores (physical), features (those that matter to INT8) and onnxruntime's version."""
    import onnxruntime
    import psutil

    features = cpu_features()
    return {
        "arch": features.arch,
        "cpu": cpu_name(cpuinfo),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        "features": features.key(),
        "onnxruntime": onnxruntime.__version__,
    }


def cpu_name(cpuinfo: Path) -> str:
    """Return what the CPU calls itself, the board's name where only that is known, "unknown" otherwise."""
    names = ("model name", "model", "hardware")
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip().lower(), value.strip())
    # On x86 "model" is a number; only ARM boards put a name there.
    known = [found[name] for name in names if found.get(name) and not found[name].isdigit()]
    return known[0] if known else platform.processor() or "unknown"
