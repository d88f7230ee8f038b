"""The shared memory of large payloads: how much of it there is, and what happens where it has no room."""

import pytest

from mecha.runtime.bus.memory import may_lock_all, pool_bytes
from mecha.runtime.bus.pool import SharedPool


@pytest.mark.parametrize(
    ("lockable", "free", "expected"),
    [
        (None, None, 32 * 1024 * 1024),
        (None, 1 << 40, 32 * 1024 * 1024),
        (8 * 1024 * 1024, 1 << 40, 8 * 1024 * 1024 - 1_500_000),
        (None, 64 * 1024 * 1024, 32 * 1024 * 1024),
        (None, 20_000_000, 10_000_000),
        (65536, 1 << 40, 0),
        (None, 0, 0),
    ],
)
def test_the_pool_of_shared_memory_fits_what_the_system_gives(
    lockable: int | None, free: int | None, expected: int
) -> None:
    assert pool_bytes(lockable, free) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tpython\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n", True),
        ("Name:\tpython\nCapEff:\t00000000a80425fb\n", False),
        ("CapEff:\t0000000000004000\n", True),
        ("CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n", False),
        ("", False),
    ],
)
def test_root_in_a_container_has_a_limit_too(status: str, expected: bool) -> None:
    assert may_lock_all(status) is expected


def test_a_payload_that_finds_no_room_in_shared_memory_is_sent_as_it_is() -> None:
    import zenoh

    pool = SharedPool(zenoh, 1_000_000)

    held = pool.holding(bytes(range(250)) * 3000)
    assert bytes(held) == bytes(range(250)) * 3000
    assert pool.holding(bytes(750_000)) is None
    del held
    assert pool.holding(bytes(750_000)) is not None
    assert pool.holding(bytes(1_000_001)) is None
    assert pool.holding(b"small") is None
    assert SharedPool(zenoh, 0).holding(bytes(100_000)) is None


def test_larger_payloads_find_room_after_smaller_ones() -> None:
    import zenoh

    pool = SharedPool(zenoh, 1_000_000)
    held = [pool.holding(bytes(40_000 + number)) for number in range(20)]
    assert None not in held
    assert not pool.read_out(0.0)

    held.clear()

    assert pool.read_out(0.0)
    assert pool.holding(bytes(900_000)) is not None
