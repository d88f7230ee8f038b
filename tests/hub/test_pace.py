import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.hub.pace import Clock, RateLimit, Retries, retry_after_s


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.clock = Clock(monotonic=lambda: self.now, now=lambda: self.now, sleep=self.sleep, random=lambda: 0.0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("-3", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:03:00 GMT", 80.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:03:00", 80.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, now=100.0) == expected


@given(st.text())
def test_no_retry_after_header_is_too_strange_to_read(value: str) -> None:
    wait_s = retry_after_s(value, now=100.0)

    assert wait_s is None or wait_s >= 0


def test_waits_double_up_to_a_ceiling() -> None:
    retries = Retries(first_wait_s=0.5, longest_wait_s=3.0)

    assert [retries.wait_s(failures, chance=0.0) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_chance_shortens_a_wait_by_at_most_a_half() -> None:
    assert Retries(first_wait_s=2.0).wait_s(1, chance=1.0) == 1.0


def test_a_rate_is_kept_by_sleeping() -> None:
    time = FakeTime()
    limit = RateLimit(1000, time.clock)
    for _ in range(4):
        limit.spend(500)

    assert time.now == pytest.approx(102.0)


def test_time_in_which_nothing_came_is_not_saved_up() -> None:
    time = FakeTime()
    limit = RateLimit(1000, time.clock)
    time.now += 60
    limit.spend(1000)

    assert time.slept == [pytest.approx(1.0)]


def test_without_a_limit_nothing_sleeps() -> None:
    time = FakeTime()
    RateLimit(None, time.clock).spend(1 << 30)

    assert time.slept == []
