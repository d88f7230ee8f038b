from pathlib import Path

import pytest

from mecha.graph.cpu import CpuFeatures, cpu_features, features_from


@pytest.mark.parametrize(
    ("machine", "flags", "key", "saturates"),
    [
        ("x86_64", "avx2 avx512f avx512_vnni amx_int8", "x86_64+avx2+avx512+vnni+amx", False),
        ("AMD64", "avx2 avx_vnni", "x86_64+avx2+vnni", False),
        ("x86_64", "avx2 avx512f", "x86_64+avx2+avx512", True),
        ("x86_64", "", "x86_64", True),
        ("aarch64", "asimd asimddp", "arm64+dot", False),
        ("arm64", "asimddp i8mm", "arm64+dot+i8mm", False),
        ("riscv64", "", "riscv64", False),
        ("", "", "unknown", False),
    ],
)
def test_features_are_read_from_the_flags(machine: str, flags: str, key: str, saturates: bool) -> None:
    features = features_from(machine, flags.split())
    assert (features.key(), features.saturates) == (key, saturates)


def test_a_system_without_a_list_claims_nothing_it_does_not_know(tmp_path: Path) -> None:
    features = cpu_features(tmp_path / "none")
    assert features.vnni is False
    assert features == CpuFeatures(arch=features.arch, dot=features.dot)


def test_the_flags_of_the_first_core_are_taken(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert cpu_features(listing).vnni is True
