"""How long to wait: before another try, after a server asked for it, and to stay under a rate."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, given from outside so that decisions about them can be tested without waiting.

    Attributes:
        monotonic: seconds that never go back.
        now: seconds since 1970, UTC.
        sleep: waits for so many seconds.
        random: evenly spread in [0, 1).
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently to try again.

    Attributes:
        attempts: how many tries in a row may fail without bringing a single new byte; the last of them gives up.
        first_wait_s: the wait after the first failure; each further one doubles it.
        longest_wait_s: where the doubling ends.
        longest_retry_after_s: a server that asks for more patience than this ends the download instead.
    """

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_retry_after_s: float = 120.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Return the wait after so many failures in a row, shortened by chance to at best a half.

        Chance keeps a fleet that lost one gateway from coming back to it in the same instant.
        """
        longest: float = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1))
        return longest * (1.0 - 0.5 * chance)


@dataclass(frozen=True, slots=True)
class Widening:
    """When more connections are tried.

    Attributes:
        connections: how many at most; 1 for never more.
        measure_s: how long a rate is measured.
        worth_s: only where the rest would take longer than this.
        gain: how many times the rate before, for one more connection to stay.
        segment_s: how long one connection works on a segment.
    """

    connections: int = 4
    measure_s: float = 2.0
    worth_s: float = 10.0
    gain: float = 1.25
    segment_s: float = 1.0


class RateWatch:
    """Measures the rate of one connection once, after it has got going.

    Attributes:
        rate: bytes a second; 0 while it is not known.
    """

    def __init__(self, widening: Widening, clock: Clock) -> None:
        self.rate = 0.0
        self._widening, self._clock = widening, clock
        self._begun: tuple[float, int] | None = None
        self._warm = False

    def begin(self) -> None:
        """Forget what another connection did."""
        self._begun, self._warm = None, False

    def is_too_slow(self, size: int, total: int) -> bool:
        """Take the bytes held so far; say once whether the rest would take so long that more connections are tried."""
        now = self._clock.monotonic()
        if self._begun is None:
            self._begun = now, size
        spent = now - self._begun[0]
        if self.rate or spent < self._widening.measure_s:
            return False
        if not self._warm:
            # The first stretch is spent on finding out how fast the line is.
            self._begun, self._warm = (now, size), True
            return False
        self.rate = (size - self._begun[1]) / spent
        return (total - size) / max(self.rate, 1.0) > self._widening.worth_s


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or as a date; None when it is neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


class RateLimit:
    """Keeps the average since the start under a rate, by sleeping after each piece."""

    def __init__(self, bytes_per_s: int | None, clock: Clock) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at = clock.monotonic()

    @property
    def is_set(self) -> bool:
        """Whether there is a rate to stay under."""
        return bool(self._bytes_per_s)

    def spend(self, size_bytes: int) -> None:
        """Account for bytes that just came, and sleep until as many may come again."""
        if not self._bytes_per_s:
            return
        now = self._clock.monotonic()
        # Time in which nothing came is not saved up: the limit is for the line, not for the file.
        self._free_at = max(self._free_at, now) + size_bytes / self._bytes_per_s
        self._clock.sleep(self._free_at - now)
