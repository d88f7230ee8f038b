"""Progress as plain lines, for pipes and logs."""

from mecha.cli.progress import JsonLines, PlainLines, _Begun, _done
from mecha.progress import ATTACHED


def lines_of(*calls: tuple[str, int, int | None]) -> list[str]:
    said: list[str] = []
    show = PlainLines(said.append)
    for call in calls:
        show(*call)
    return said


def test_the_first_and_the_last_call_of_a_stage_are_shown() -> None:
    said = lines_of(("gate", 1, 3), ("gate", 2, 3), ("gate", 3, 3))
    assert [line.partition(",")[0] for line in said] == ["measuring INT8 1 of 3", "measuring INT8 3 of 3"]


def test_a_resumed_download_says_from_where() -> None:
    first, last = lines_of(("download", 400_000, 1_000_000), ("download", 1_000_000, 1_000_000))
    assert first == "downloading 400.0 kB of 1.0 MB, resumed from 400.0 kB"
    assert last.startswith("downloading 1.0 MB of 1.0 MB, ")


def test_a_stage_of_unknown_length_is_only_named() -> None:
    assert lines_of(("quantize", 0, None)) == ["making INT8 ..."]


def json_lines_of(*calls: tuple[str, int, int | None]) -> list[dict[str, object]]:
    written: list[dict[str, object]] = []
    show = JsonLines(lambda line: written.append(dict(line)))
    for call in calls:
        show(*call)
    return written


def test_programs_are_told_rate_time_left_and_where_a_download_went_on() -> None:
    first, last = json_lines_of(("download", 400_000, 1_000_000), ("download", 1_000_000, 1_000_000))
    progress = {"event": "progress", "stage": "download", "total": 1_000_000, "resumed_from": 400_000}
    assert first == {**progress, "completed": 400_000}
    rate = last.pop("bytes_per_s")
    assert isinstance(rate, int)
    assert rate > 0
    assert last == {**progress, "completed": 1_000_000, "eta_s": 0.0}


def test_other_stages_have_no_rate_in_bytes() -> None:
    assert json_lines_of(("gate", 1, 3))[0] == {"event": "progress", "stage": "gate", "completed": 1, "total": 3}


def test_a_download_of_another_process_is_not_called_resumed() -> None:
    (line,) = lines_of((ATTACHED, 400_000, 1_000_000))
    assert line == "downloading, by another process 400.0 kB of 1.0 MB"
    assert "resumed_from" not in json_lines_of((ATTACHED, 400_000, 1_000_000))[0]


def test_the_bar_says_from_where_a_download_went_on() -> None:
    begun = _Begun(0.0, 400_000)
    assert _done("download", 500_000, 1_000_000, begun).endswith("/s, resumed from 400.0 kB")
    assert _done("download", 500_000, None, begun) == ""
