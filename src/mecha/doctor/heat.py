"""Whether heat or the power supply slows the device down now."""

from collections.abc import Iterator
from pathlib import Path

from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.runtime.power import SYS, heat, power_state

CHECK = "throttling"


def heat_findings(sys_root: Path = SYS) -> Iterator[Finding]:
    """Give what slows the device down.

    Args:
        sys_root: where Linux shows it.
    """
    warm, power = heat(sys_root), power_state(sys_root)
    at = "" if warm.temperature_c is None else f"{warm.part} is at {warm.temperature_c:.0f} °C"
    if power.throttled:
        yield wrong(
            CHECK,
            f"{power.throttled}{f'; {at}' if at else ''}",
            "Latency is longer than was measured, and jumps.",
            "Cool the device (heat sink, fan), or give it a supply and a cable that hold the voltage.",
        )
    elif power.hot:
        yield wrong(
            CHECK,
            power.hot,
            "The system slows the CPU down at this temperature, or is about to.",
            "Cool the device; until then take a smaller model, or `max_fps` of the camera.",
        )
    if power.saving:
        yield note(
            CHECK,
            power.saving,
            "The CPU runs slower than it could; builds from frames that a node sees wait until this is over.",
            "Choose the profile or governor `performance`, or charge the battery.",
        )
    if power.objection is None:
        told = at or (None if power.throttled is None else "nothing slows the device down")
        if told is None:
            yield ok(CHECK, "this system tells neither temperature nor throttling")
        else:
            yield ok(CHECK, told)
