"""What this CPU offers to INT8."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

_X86 = frozenset({"x86_64", "amd64", "i386", "i686", "x86"})
_ARM64 = frozenset({"aarch64", "arm64"})


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """The instruction sets that decide how INT8 is best laid out.

    Attributes:
        arch: "x86_64", "arm64", or what the platform calls itself.
        vnni: 8-bit dot products without saturation, AVX512-VNNI or AVX-VNNI.
        amx: INT8 tiles.
        dot: ARM's 8-bit dot products.
        i8mm: ARM's 8-bit matrix products.
    """

    arch: str
    avx2: bool = False
    avx512: bool = False
    vnni: bool = False
    amx: bool = False
    dot: bool = False
    i8mm: bool = False

    def key(self) -> str:
        """Return a short text that is equal for equal features: `x86_64+avx2+avx512+vnni`."""
        return "+".join([self.arch, *(field.name for field in fields(self)[1:] if getattr(self, field.name))])

    @property
    def saturates(self) -> bool:
        """An x86 CPU without VNNI adds pairs of U8S8 products in 16 bits: weights of 8 bits overflow there."""
        return self.arch == "x86_64" and not self.vnni


def features_from(machine: str, flags: Iterable[str]) -> CpuFeatures:
    """Read the features out of a machine name and the flags that the kernel lists.

    Args:
        machine: as `platform.machine()` gives it.
        flags: the words of `flags` (x86) or `Features` (ARM) in /proc/cpuinfo.
    """
    words = {word.lower() for word in flags}
    name = machine.lower()
    arch = "x86_64" if name in _X86 else "arm64" if name in _ARM64 else name or "unknown"
    return CpuFeatures(
        arch=arch,
        avx2="avx2" in words,
        avx512="avx512f" in words,
        vnni=bool(words & {"avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni"}),
        amx="amx_int8" in words,
        dot="asimddp" in words,
        i8mm="i8mm" in words,
    )


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuFeatures:
    """Return the features of this CPU; where the system lists none, those that every CPU of its kind has."""
    machine = platform.machine()
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Every Apple processor has the dot products; an x86 without a list may or may not have VNNI.
        return features_from(machine, ["asimddp"] if platform.system() == "Darwin" and machine == "arm64" else [])
    return features_from(machine, _flags(text))


def _flags(cpuinfo: str) -> list[str]:
    """The flags of the first core listed; cores of one system offer the same instruction sets."""
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            return words.split()
    return []
