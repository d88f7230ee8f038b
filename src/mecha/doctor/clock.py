"""Whether the clock can be right, and whether somebody keeps it so."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mecha
from mecha.doctor.finding import Finding, note, ok, wrong

CHECK = "clock"

_DAY = timedelta(days=1)
_ERROR = 5
"""What adjtimex(2) answers while nobody keeps the clock."""
_TIMEX_BYTES = 512
"""struct timex is smaller everywhere; zeroes ask and set nothing."""


def clock_findings(
    now: datetime | None = None, installed: datetime | None = None, *, kept: bool | None = None
) -> Iterator[Finding]:
    """Give whether the clock can be trusted.

    Args:
        now: what it says.
        installed: when mecha was installed, which is not in the future.
        kept: whether a time service keeps it, None where the system does not tell.
    """
    now = now or datetime.now(UTC)
    installed = installed or datetime.fromtimestamp(Path(mecha.__file__).stat().st_mtime, UTC)
    kept = is_kept() if kept is None else kept
    said = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < installed - _DAY:
        yield wrong(
            CHECK,
            f"it says {said}, and mecha was installed on {installed:%Y-%m-%d}",
            "Certificates count as not valid yet, so no Hub can be asked.",
            "Set the date, and let it be kept: `timedatectl set-ntp true`, or a clock with a battery.",
        )
    elif kept is False:
        yield note(
            CHECK,
            f"{said}; no time service keeps it",
            "A clock that runs free is wrong by minutes after some weeks; that of a board without a battery at once.",
            "Run one: `timedatectl set-ntp true`. In a container the host keeps it.",
        )
    else:
        yield ok(CHECK, f"{said}{', kept by a time service' if kept else ''}")


def is_kept() -> bool | None:
    """Tell whether a time service keeps the clock, None where the system does not tell."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _ERROR
