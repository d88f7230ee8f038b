"""The log on the screen."""

from dataclasses import replace

import pytest

from mecha.cli.screen.log import Log, LogFilter, LogLine, clean


def log_of(*lines: str, kept: int = 100) -> Log:
    log = Log(kept)
    for line in lines:
        log.add(line)
    return log


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_a_line_is_taken_apart_and_put_together_again() -> None:
    (line,) = log_of("[WARNING] object-detector: got: a, b").seen(1)

    assert (line.level, line.node, line.text) == ("WARNING", "object-detector", "got: a, b")
    assert line.prefix + line.text == "[WARNING] object-detector: got: a, b"


@pytest.mark.parametrize("text", ["no prefix at all", "[1, 2] is a list", "[INFO] two words: x", ""])
def test_a_line_without_a_prefix_is_kept_as_it_is(text: str) -> None:
    (line,) = log_of(text).seen(1)

    assert (line.level, line.node, line.prefix, line.text) == ("INFO", "", "", text)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\tb", "a   b"),
        ("\x1b[2J\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("back\rover\x08\x07", "back?over??"),
        ("\u202eright to left\u202c", "?right to left?"),
        ("\x9b31m", "?31m"),
        ("\x1b", "?"),
        ("größer 日本", "größer 日本"),
    ],
)
def test_nothing_in_a_line_moves_the_cursor(written: str, shown: str) -> None:
    assert clean(written) == shown


def test_the_filter_lets_through_what_was_asked_for() -> None:
    log = log_of("[DEBUG] a: one", "[INFO] b: Two", "[WARNING] a: three", "[ERROR] b: two again", "plain two")

    def shown(chosen: LogFilter) -> list[str]:
        log.filter = chosen
        return texts(log.seen(10))

    everything = LogFilter()
    assert len(shown(everything)) == 5
    assert shown(replace(everything, node="a")) == ["one", "three"]
    assert shown(replace(everything, level="INFO")) == ["Two", "three", "two again", "plain two"]
    assert shown(replace(everything, level="ERROR")) == ["two again"]
    assert shown(replace(everything, text="TWO")) == ["Two", "two again", "plain two"]
    assert shown(replace(everything, text="[error] B")) == ["two again"]
    assert shown(LogFilter(node="b", level="WARNING", text="again")) == ["two again"]


def test_the_levels_come_one_after_the_other() -> None:
    chosen, seen = LogFilter(), []
    for _ in range(4):
        chosen = replace(chosen, level=chosen.next_level)
        seen.append(chosen.level)

    assert seen == ["INFO", "WARNING", "ERROR", "DEBUG"]


def test_the_newest_lines_are_seen_and_old_ones_are_forgotten() -> None:
    log = log_of(*(f"{number}" for number in range(10)), kept=6)

    assert texts(log.seen(3)) == ["7", "8", "9"]
    assert texts(log.seen(100)) == ["4", "5", "6", "7", "8", "9"]


def test_one_pages_back_and_forth_while_lines_come() -> None:
    log = log_of(*(f"{number}" for number in range(10)))

    log.page_up(4)
    assert texts(log.seen(4)) == ["3", "4", "5", "6"]
    log.add("10")
    assert texts(log.seen(4)) == ["3", "4", "5", "6"]
    assert log.newer == 4
    log.page_up(4)
    # The window stays full at the oldest line.
    assert texts(log.seen(4)) == ["0", "1", "2", "3"]
    log.page_up(4)
    assert texts(log.seen(4)) == ["0", "1", "2", "3"]
    log.page_down(4)
    assert texts(log.seen(4)) == ["4", "5", "6", "7"]
    log.page_down(4)
    assert log.bottom is None
    assert texts(log.seen(4)) == ["7", "8", "9", "10"]
    log.oldest(4)
    assert texts(log.seen(4)) == ["0", "1", "2", "3"]
    log.newest()
    assert texts(log.seen(4)) == ["7", "8", "9", "10"]
    assert log.newer == 0


def test_a_filter_that_leaves_less_than_a_window_is_shown_from_its_first_line() -> None:
    log = log_of(*(f"[INFO] {'a' if number % 5 == 0 else 'b'}: {number}" for number in range(20)))
    log.page_up(6)
    log.filter = LogFilter(node="a")

    assert texts(log.seen(6)) == ["0", "5", "10", "15"]


def test_a_log_without_lines_can_be_paged() -> None:
    log = log_of()
    log.page_up(5)
    log.page_down(5)
    log.oldest(5)

    assert log.seen(5) == []


def test_the_last_lines_of_a_level_do_not_depend_on_the_filter() -> None:
    log = log_of("[ERROR] a: one", "[INFO] a: two", "[WARNING] b: three", "[ERROR] a: four")
    log.filter = LogFilter(node="b")

    assert texts(log.last(2, "WARNING")) == ["three", "four"]
