"""What a system tells of its power and heat, from a folder laid out as /sys."""

from pathlib import Path

import pytest

from mecha.runtime.power import Heat, PowerState, heat, power_state

POLICY = "devices/system/cpu/cpufreq/policy0"
ZONE = "class/thermal/thermal_zone0"
PI = "devices/platform/soc/soc:firmware/get_throttled"


def sys_of(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def battery(status: str, capacity: str) -> dict[str, str]:
    return {
        "class/power_supply/BAT0/type": "Battery",
        "class/power_supply/BAT0/status": status,
        "class/power_supply/BAT0/capacity": capacity,
    }


def test_a_system_that_tells_nothing_objects_to_nothing(tmp_path: Path) -> None:
    state = power_state(tmp_path)
    assert state == PowerState(saving=None, throttled=None, hot=None)
    assert state.objection is None


def test_what_is_told_and_harmless_is_not_the_same_as_nothing(tmp_path: Path) -> None:
    files = {f"{POLICY}/scaling_governor": "schedutil", f"{ZONE}/temp": "45000", PI: "0"}
    state = power_state(sys_of(tmp_path, files))
    assert state == PowerState(saving="", throttled="", hot="")
    assert state.objection is None


@pytest.mark.parametrize(
    ("files", "objection"),
    [
        ({f"{POLICY}/scaling_governor": "powersave"}, "the CPU's governor is powersave"),
        (
            {
                f"{POLICY}/scaling_governor": "powersave",
                f"{POLICY}/scaling_driver": "intel_pstate",
                f"{POLICY}/energy_performance_preference": "power",
            },
            "the CPU's energy_performance_preference is power",
        ),
        ({"firmware/acpi/platform_profile": "low-power"}, "the power profile is low-power"),
        (battery("Discharging", "20"), "the battery is at 20 %"),
        (
            {
                "class/power_supply/BAT0/type": "Battery",
                "class/power_supply/BAT0/status": "Discharging",
                "class/power_supply/BAT0/capacity_level": "Critical",
            },
            "the battery is low",
        ),
        ({PI: "50005"}, "the firmware says that there is too little voltage"),
        ({PI: "4"}, "the firmware says that it is throttled"),
        (
            {"class/thermal/cooling_device0/type": "cpufreq-cpu0", "class/thermal/cooling_device0/cur_state": "2"},
            "the CPU is slowed down to cool it",
        ),
        ({f"{ZONE}/temp": "86000", f"{ZONE}/type": "cpu-thermal"}, "cpu-thermal is at 86 °C"),
        (
            {
                f"{ZONE}/temp": "72000",
                f"{ZONE}/trip_point_0_type": "passive",
                f"{ZONE}/trip_point_0_temp": "70000",
                f"{ZONE}/trip_point_1_type": "critical",
                f"{ZONE}/trip_point_1_temp": "60000",
            },
            "thermal_zone0 is at 72 °C",
        ),
    ],
)
def test_what_speaks_against_work_that_can_wait(tmp_path: Path, files: dict[str, str], objection: str) -> None:
    assert power_state(sys_of(tmp_path, files)).objection == objection


@pytest.mark.parametrize(
    "files",
    [
        {
            f"{POLICY}/scaling_governor": "powersave",
            f"{POLICY}/scaling_driver": "amd-pstate-epp",
            f"{POLICY}/energy_performance_preference": "balance_performance",
        },
        {f"{POLICY}/scaling_governor": "powersave", f"{POLICY}/scaling_driver": "intel_pstate"},
        battery("Discharging", "21"),
        battery("Charging", "5"),
        battery("Discharging", "5") | {"class/power_supply/BAT0/scope": "Device"},
        {"class/power_supply/AC/type": "Mains", "class/power_supply/AC/online": "1"},
        {PI: "50000"},
        {"class/thermal/cooling_device0/type": "pwm-fan", "class/thermal/cooling_device0/cur_state": "3"},
        {f"{ZONE}/temp": "84000", f"{ZONE}/trip_point_0_type": "passive", f"{ZONE}/trip_point_0_temp": "0"},
        {f"{ZONE}/temp": "no number"},
    ],
    ids=[
        "a driver that governs itself",
        "one that does not say how",
        "half a battery",
        "a charging one",
        "that of a mouse",
        "mains",
        "what a board once met",
        "a fan",
        "a limit of nothing",
        "a zone that cannot be read",
    ],
)
def test_what_only_looks_like_it(tmp_path: Path, files: dict[str, str]) -> None:
    assert power_state(sys_of(tmp_path, files)).objection is None


def test_a_system_that_tells_no_temperature_has_none(tmp_path: Path) -> None:
    assert heat(tmp_path) == Heat(None, None, "", None, None)


def test_the_part_that_is_nearest_to_its_limit_is_told(tmp_path: Path) -> None:
    other = "class/thermal/thermal_zone1"
    files = {
        f"{ZONE}/temp": "60000",
        f"{ZONE}/type": "gpu-thermal",
        f"{other}/temp": "58000",
        f"{other}/type": "cpu-thermal",
        f"{other}/trip_point_0_type": "passive",
        f"{other}/trip_point_0_temp": "70000",
        PI: "0",
    }
    assert heat(sys_of(tmp_path, files)) == Heat(58.0, 12.0, "cpu-thermal", "", None)


def test_how_often_the_cpu_was_slowed_down_is_told(tmp_path: Path) -> None:
    core = "devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    files = {core.format(0, "core"): "2", core.format(0, "package"): "1", core.format(1, "core"): "3"}
    assert heat(sys_of(tmp_path, files)).throttle_count == 6
