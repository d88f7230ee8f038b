"""CPU, limits, heat and clock: what the figures mean."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mecha.doctor.cgroup import GroupLimits, group_limits
from mecha.doctor.clock import clock_findings, is_kept
from mecha.doctor.cpu import cpu_findings
from mecha.doctor.heat import heat_findings
from mecha.doctor.limits import Limits, limit_findings, measured_limits
from mecha.graph.cpu import CpuFeatures
from mecha.project import QuantizeSettings, Settings

GOOD = Limits(
    cores=4,
    threads=3,
    group=GroupLimits(),
    memory_bytes=8_000_000_000,
    available_bytes=6_000_000_000,
    address_bytes=None,
    files=1024,
    pool_bytes=33_000_000,
)


@pytest.mark.parametrize(
    ("features", "listed", "level", "what"),
    [
        (CpuFeatures("x86_64", avx2=True, vnni=True), True, "ok", "x86_64+avx2+vnni: 8-bit dot products (VNNI)"),
        (
            CpuFeatures("x86_64", avx2=True, vnni=True, amx=True),
            True,
            "ok",
            "x86_64+avx2+vnni+amx: 8-bit dot products (VNNI) and INT8 tiles (AMX)",
        ),
        (CpuFeatures("x86_64", avx2=True), True, "note", "x86_64+avx2: no 8-bit dot products (VNNI)"),
        (CpuFeatures("x86_64"), True, "note", "x86_64: neither AVX2 nor VNNI"),
        (CpuFeatures("x86_64"), False, "note", "x86_64: this system does not tell what the CPU can do"),
        (CpuFeatures("arm64", dot=True), True, "ok", "arm64+dot: 8-bit dot products"),
        (CpuFeatures("arm64"), True, "note", "arm64: no 8-bit dot products (asimddp)"),
        (CpuFeatures("riscv64"), True, "note", "riscv64: nothing is known of INT8 on this CPU"),
    ],
)
def test_instruction_sets_are_told_with_what_they_mean_for_int8(
    features: CpuFeatures, listed: bool, level: str, what: str
) -> None:
    (finding,) = cpu_findings(features, listed=listed)
    assert (finding.level, finding.what) == (level, what)
    assert finding.why


def limits(settings: Settings | None = None, **changes: object) -> list[tuple[str, str, str]]:
    found = limit_findings(settings or Settings(), replace(GOOD, **changes))  # type: ignore[arg-type]  # by name
    return [(item.check, item.level, item.what) for item in found if item.level != "ok"]


def test_enough_of_everything_is_well() -> None:
    assert limits() == []


def test_the_limits_of_this_process_are_read() -> None:
    assert measured_limits().memory_bytes > 0


def test_less_time_than_threads_makes_latency_jump() -> None:
    assert limits(group=GroupLimits(cpus=1.5)) == [
        (
            "threads",
            "note",
            "4 cores, 3 threads a session, and the container or service may use 1.5 cores' worth of time",
        )
    ]


def test_too_little_memory_for_a_camera_and_a_detector_is_wrong() -> None:
    small = Settings(quantize=QuantizeSettings(memory_limit_mb=256))
    found = limits(small, available_bytes=200_000_000)
    assert found == [("memory", "wrong", "200.0 MB of 8.0 GB are free")]
    found = limits(small, group=GroupLimits(memory_bytes=256_000_000))
    assert found == [("memory", "wrong", "6.0 GB of 8.0 GB are free, and 256.0 MB may be used at most")]


def test_a_build_that_may_take_more_than_there_is_gets_a_limit_that_fits() -> None:
    (finding,) = [
        item for item in limit_findings(Settings(), replace(GOOD, memory_bytes=2_000_000_000)) if item.level != "ok"
    ]
    assert finding.what == "a build of INT8 may take 4.1 GB (quantize.memory_limit_mb), more than there is"
    assert finding.remedy == "Set memory_limit_mb = 1400 under [quantize] in configs/common/mecha.toml."


@pytest.mark.parametrize(("files", "level"), [(128, "wrong"), (512, "note")])
def test_too_few_open_files(files: int, level: str) -> None:
    assert limits(files=files) == [("open files", level, f"{files} at a time (ulimit -n)")]


def test_no_shared_memory_makes_frames_dear() -> None:
    assert limits(pool_bytes=0) == [
        ("shared memory", "note", "none for frames: /dev/shm is too small, or RLIMIT_MEMLOCK too low")
    ]


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_narrowest_limit_of_the_groups_around_holds(tmp_path: Path) -> None:
    proc = tree(tmp_path / "proc", {"self/cgroup": "0::/system.slice/mecha.service\n"})
    sys_root = tree(
        tmp_path / "sys",
        {
            "fs/cgroup/system.slice/mecha.service/memory.max": "max\n",
            "fs/cgroup/system.slice/mecha.service/cpu.max": "150000 100000\n",
            "fs/cgroup/system.slice/memory.max": "1000000000\n",
            "fs/cgroup/system.slice/cpu.max": "max 100000\n",
        },
    )
    assert group_limits(proc, sys_root) == GroupLimits(1_000_000_000, 1.5)
    assert group_limits(tmp_path / "none", sys_root) == GroupLimits()


def heat_found(root: Path) -> list[tuple[str, str]]:
    return [(item.level, item.what) for item in heat_findings(root)]


def test_a_device_that_is_slowed_down_is_told_how_warm_it_is(tmp_path: Path) -> None:
    zone = {"class/thermal/thermal_zone0/temp": "84000", "class/thermal/thermal_zone0/type": "cpu-thermal"}
    flags = {"devices/platform/soc/soc:firmware/get_throttled": "50005"}
    assert heat_found(tree(tmp_path / "pi", {**zone, **flags})) == [
        ("wrong", "the firmware says that there is too little voltage; cpu-thermal is at 84 °C")
    ]
    assert heat_found(tree(tmp_path / "cool", zone)) == [("ok", "cpu-thermal is at 84 °C")]
    assert heat_found(tmp_path / "nothing") == [("ok", "this system tells neither temperature nor throttling")]


def test_a_part_that_is_too_hot_and_a_cpu_that_saves_power(tmp_path: Path) -> None:
    hot = {"class/thermal/thermal_zone0/temp": "91000", "class/thermal/thermal_zone0/type": "cpu-thermal"}
    saving = {"firmware/acpi/platform_profile": "low-power"}
    assert heat_found(tree(tmp_path, {**hot, **saving})) == [
        ("wrong", "cpu-thermal is at 91 °C"),
        ("note", "the power profile is low-power"),
    ]


INSTALLED = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_clock_before_the_installation_is_wrong() -> None:
    (finding,) = clock_findings(datetime(1970, 1, 1, 0, 3, tzinfo=UTC), INSTALLED, kept=True)
    assert finding.level == "wrong"
    assert finding.what == "it says 1970-01-01 00:03 UTC, and mecha was installed on 2026-11-01"


def test_a_clock_that_nobody_keeps_is_a_note() -> None:
    now = datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert [item.level for item in clock_findings(now, INSTALLED, kept=False)] == ["note"]
    (well,) = clock_findings(now, INSTALLED, kept=True)
    assert (well.level, well.what) == ("ok", "2026-11-21 09:00 UTC, kept by a time service")
    assert is_kept() in {True, False, None}
