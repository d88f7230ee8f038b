"""Progress as plain lines, for pipes and logs."""

from mecha.cli.progress import PlainLines


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
