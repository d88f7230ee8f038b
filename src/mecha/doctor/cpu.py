"""What this CPU offers to INT8, and what that means for a detector."""

from collections.abc import Iterator
from pathlib import Path

from mecha.doctor.finding import Finding, note, ok
from mecha.graph.cpu import CpuFeatures, cpu_features

CHECK = "cpu"

_AUTO = 'Leave "use_int8" at "auto": each model then runs in the precision that measured faster here.'
_CPUINFO = Path("/proc/cpuinfo")


def cpu_findings(features: CpuFeatures | None = None, *, listed: bool | None = None) -> Iterator[Finding]:
    """Give what the instruction sets of the CPU mean.

    Args:
        features: of this device by default.
        listed: the system lists them, so that what is not there is not there.
    """
    found = cpu_features() if features is None else features
    told = _CPUINFO.exists() if listed is None else listed
    if found.arch == "x86_64":
        yield _x86(found, listed=told)
    elif found.arch == "arm64":
        yield _arm(found)
    else:
        yield note(CHECK, f"{found.key()}: nothing is known of INT8 on this CPU", "INT8 may be slower.", _AUTO)


def _x86(features: CpuFeatures, *, listed: bool) -> Finding:
    name = features.key()
    if features.vnni:
        tiles = " and INT8 tiles (AMX)" if features.amx else ""
        return ok(
            CHECK,
            f"{name}: 8-bit dot products (VNNI){tiles}",
            "INT8 has weights of 8 bits, and is as a rule faster than FP32.",
        )
    if not listed:
        return note(
            CHECK,
            f"{name}: this system does not tell what the CPU can do",
            "INT8 is built for a CPU without VNNI: right everywhere, and slower than it could be.",
            _AUTO,
        )
    if features.avx2:
        return note(
            CHECK,
            f"{name}: no 8-bit dot products (VNNI)",
            "Products of 8 bits are added in pairs of 16 bits, which overflow: static_int8 takes weights of 7 bits, "
            "and INT8 saves space and less time, or none. A virtual machine may hide VNNI.",
            _AUTO,
        )
    return note(
        CHECK,
        f"{name}: neither AVX2 nor VNNI",
        "INT8 saves space, and no time; large models are slow in either precision.",
        f"{_AUTO} Choose the smallest model that finds enough.",
    )


def _arm(features: CpuFeatures) -> Finding:
    name = features.key()
    if features.dot:
        products = "8-bit dot products and matrix products (i8mm)" if features.i8mm else "8-bit dot products"
        return ok(CHECK, f"{name}: {products}", "INT8 is as a rule faster than FP32.")
    return note(
        CHECK,
        f"{name}: no 8-bit dot products (asimddp)",
        "Its ARM core is older than ARMv8.2 (a Cortex-A53 or A72): INT8 saves space, and less time, or none.",
        _AUTO,
    )
