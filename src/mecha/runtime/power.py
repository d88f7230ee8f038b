"""Whether a device has power and cold enough for work that can wait, as far as its system tells.

Linux tells it in /sys; other systems, and many boards, tell little or nothing. What is not told speaks against nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")

_LOW_BATTERY_PERCENT = 20
# Where a zone names no temperature at which it slows down. Boards with ARM CPUs slow down at 80 to 85 degrees.
_HOT_C = 85.0
# Firmware that knows no limit writes 0 or less.
_LEAST_TRIP_C = 40.0
# These drivers choose the frequency themselves and call that "powersave"; what they aim at is written elsewhere.
_SELF_GOVERNED = frozenset({"intel_pstate", "amd-pstate-epp", "amd_pstate_epp"})
# Bits of a Raspberry Pi that hold now; the same 16 bits higher say that they once did.
_PI_FLAGS = (
    (0x1, "there is too little voltage"),
    (0x2, "the CPU is capped"),
    (0x4, "it is throttled"),
    (0x8, "it is hot"),
)


@dataclass(frozen=True, slots=True)
class PowerState:
    """What the system tells; None for what it does not tell.

    Attributes:
        saving: what saves power, "" when nothing does.
        throttled: what slows the device down, "" when nothing does.
        hot: which part is too hot, "" when none is.
    """

    saving: str | None
    throttled: str | None
    hot: str | None

    @property
    def objection(self) -> str | None:
        """What speaks against work that can wait; None when nothing does, or nothing is told."""
        return self.saving or self.throttled or self.hot or None


@dataclass(frozen=True, slots=True)
class Heat:
    """How warm a device is; None for what its system does not tell.

    Attributes:
        temperature_c: of the part that is nearest to the temperature at which the system begins to cool or slow it.
        headroom_c: degrees left until then, below 0 past it.
        part: its name, "" where there is none.
        throttled: what slows the device down, "" when nothing does.
        throttle_count: how often the CPU was slowed down for its heat since the system began.
    """

    temperature_c: float | None
    headroom_c: float | None
    part: str
    throttled: str | None
    throttle_count: int | None


def power_state(sys_root: Path = SYS) -> PowerState:
    """Read what the system tells now.

    Args:
        sys_root: where Linux shows it.
    """
    return PowerState(
        saving=_first(_saving(sys_root)), throttled=_first(_throttled(sys_root)), hot=_first(_hot(sys_root))
    )


def heat(sys_root: Path = SYS) -> Heat:
    """Read how warm the device is now.

    Args:
        sys_root: where Linux shows it.
    """
    parts = [(limit_c - at_c, at_c, name) for name, at_c, limit_c in _zones(sys_root)]
    headroom_c, temperature_c, part = min(parts, default=(None, None, ""))
    counters = (sys_root / "devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count")
    counts = [count for file in counters if (count := _number(file)) is not None]
    return Heat(temperature_c, headroom_c, part, _first(_throttled(sys_root)), sum(counts) if counts else None)


def _first(told: Iterator[str]) -> str | None:
    """Return the first text that is not empty, "" when there are only empty ones, None when there is none."""
    texts = list(told)
    return next((text for text in texts if text), "" if texts else None)


def _saving(root: Path) -> Iterator[str]:
    profile = _text(root / "firmware/acpi/platform_profile")
    if profile is not None:
        yield "the power profile is low-power" if profile == "low-power" else ""
    for policy in sorted((root / "devices/system/cpu/cpufreq").glob("policy*")):
        governor = _text(policy / "scaling_governor")
        if governor is None:
            continue
        key = "energy_performance_preference"
        aim = _text(policy / key) if _text(policy / "scaling_driver") in _SELF_GOVERNED else None
        if aim is not None:
            yield f"the CPU's {key} is power" if aim == "power" else ""
        else:
            known = _text(policy / "scaling_driver") in _SELF_GOVERNED
            yield "the CPU's governor is powersave" if governor == "powersave" and not known else ""
    for supply in sorted((root / "class/power_supply").glob("*")):
        # "Device": the battery of a mouse.
        if _text(supply / "type") != "Battery" or _text(supply / "scope") == "Device":
            continue
        percent, level = _number(supply / "capacity"), _text(supply / "capacity_level")
        low = percent <= _LOW_BATTERY_PERCENT if percent is not None else level in {"Low", "Critical"}
        left = "low" if percent is None else f"at {percent} %"
        yield f"the battery is {left}" if low and _text(supply / "status") == "Discharging" else ""


def _throttled(root: Path) -> Iterator[str]:
    flags = _number(root / "devices/platform/soc/soc:firmware/get_throttled", radix=16)
    if flags is not None:
        yield next((f"the firmware says that {words}" for bit, words in _PI_FLAGS if flags & bit), "")
    for device in sorted((root / "class/thermal").glob("cooling_device*")):
        kind, state = _text(device / "type"), _number(device / "cur_state")
        if kind is None or state is None or not ("cpufreq" in kind or kind == "Processor"):
            continue
        yield "the CPU is slowed down to cool it" if state > 0 else ""


def _hot(root: Path) -> Iterator[str]:
    for name, at_c, limit_c in _zones(root):
        yield f"{name} is at {at_c:.0f} °C" if at_c >= limit_c else ""


def _zones(root: Path) -> Iterator[tuple[str, float, float]]:
    """Give each part whose temperature is told: its name, how warm it is, and where it begins to be cooled, degrees."""
    for zone in sorted((root / "class/thermal").glob("thermal_zone*")):
        millidegrees = _number(zone / "temp")
        if millidegrees is not None:
            limit_c = min((trip for trip in _trips_c(zone) if trip >= _LEAST_TRIP_C), default=_HOT_C)
            yield _text(zone / "type") or zone.name, millidegrees / 1e3, limit_c


def _trips_c(zone: Path) -> Iterator[float]:
    """Give the temperatures at which the system begins to do something about a zone."""
    for kind in sorted(zone.glob("trip_point_*_type")):
        at = _number(kind.with_name(kind.name.removesuffix("_type") + "_temp"))
        if at is not None and _text(kind) in {"passive", "hot"}:
            yield at / 1e3


def _text(file: Path) -> str | None:
    """Return a line of /sys, None where there is none: a driver may refuse to be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None


def _number(file: Path, *, radix: int = 10) -> int | None:
    text = _text(file)
    try:
        return None if text is None else int(text, radix)
    except ValueError:
        return None
