import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.hub.mirror_ranges import Slice, select

WHOLE = Slice(200, 0, 1000, 1000)
NOTHING = Slice(304, 0, 0, 1000)
UNSATISFIABLE = Slice(416, 0, 0, 1000)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, WHOLE),
        ({"range": "bytes=0-"}, Slice(206, 0, 1000, 1000)),
        ({"range": "bytes=400-"}, Slice(206, 400, 600, 1000)),
        ({"range": "bytes=400-499"}, Slice(206, 400, 100, 1000)),
        ({"range": "bytes = 400 - 499 "}, Slice(206, 400, 100, 1000)),
        ({"range": "Bytes=999-5000"}, Slice(206, 999, 1, 1000)),
        ({"range": "bytes=-1"}, Slice(206, 999, 1, 1000)),
        ({"range": "bytes=-5000"}, Slice(206, 0, 1000, 1000)),
        ({"range": "bytes=1000-"}, UNSATISFIABLE),
        ({"range": "bytes=-0"}, UNSATISFIABLE),
        ({"range": "bytes=5-4"}, UNSATISFIABLE),
        ({"range": "bytes=-"}, UNSATISFIABLE),
        ({"range": "bytes=a-b"}, UNSATISFIABLE),
        ({"range": "bytes="}, UNSATISFIABLE),
        ({"range": "bytes=" + "9" * 5000 + "-"}, UNSATISFIABLE),
        ({"range": "bytes=0-1,5-6"}, WHOLE),
        ({"range": "lines=1-2"}, WHOLE),
        ({"range": "nonsense"}, WHOLE),
        ({"range": "bytes=400-", "if-range": '"e"'}, Slice(206, 400, 600, 1000)),
        ({"range": "bytes=400-", "if-range": '"other"'}, WHOLE),
        ({"range": "bytes=400-", "if-range": 'W/"e"'}, WHOLE),
        ({"range": "bytes=400-", "if-range": "*"}, WHOLE),
        ({"range": "bytes=400-", "if-range": "Thu, 01 Jan 1970 00:00:00 GMT"}, WHOLE),
        ({"if-none-match": '"e"'}, NOTHING),
        ({"if-none-match": 'W/"e"'}, NOTHING),
        ({"if-none-match": '"a", "e"'}, NOTHING),
        ({"if-none-match": "*"}, NOTHING),
        ({"if-none-match": '"a"'}, WHOLE),
        ({"if-none-match": '"e"', "range": "bytes=1-"}, NOTHING),
    ],
)
def test_a_request_gets_the_part_it_asks_for(headers: dict[str, str], expected: Slice) -> None:
    assert select(headers, etag="e", total=1000, method="GET") == expected


def test_a_range_counts_for_get_only() -> None:
    assert select({"range": "bytes=5-"}, etag="e", total=1000, method="HEAD") == WHOLE


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_an_empty_file_has_no_part(header: str) -> None:
    assert select({"range": header}, etag="e", total=0, method="GET") == Slice(416, 0, 0, 0)


@pytest.mark.parametrize(
    ("part", "expected"),
    [(Slice(206, 4, 6, 10), "bytes 4-9/10"), (Slice(416, 0, 0, 10), "bytes */10"), (Slice(200, 0, 10, 10), None)],
)
def test_content_range_says_which_part_it_is(part: Slice, expected: str | None) -> None:
    assert part.content_range == expected


@given(spec=st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True) | st.text(), total=st.integers(0, 2000))
def test_no_range_reaches_outside_the_file(spec: str, total: int) -> None:
    part = select({"range": spec}, etag="e", total=total, method="GET")

    assert part.status in {200, 206, 416}
    assert 0 <= part.start <= part.start + part.length <= total
