"""The screen as lines: what stands where, and that it is exactly as large as the terminal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecha.cli.screen.drawing import ansi_console, ansi_lines
from mecha.cli.screen.keys import Action, Key
from mecha.cli.screen.marks import ASCII, UNICODE, Marks, marks_for
from mecha.cli.screen.render import Moment, log_room, render
from mecha.cli.screen.state import ScreenState, Spread
from mecha.cli.screen.table import fitted, spread_text
from mecha.cli.screen.view import look, type_text
from tests.screen.events import detector_stats, state, stats

MOMENT = Moment(now_s=75.0, duration_s=None, title="robot", temperature_c=None, slowed="")


def running(lines: int = 3) -> ScreenState:
    screen = ScreenState()
    for name in ("camera", "object-detector"):
        screen.take(state(name, "running"), 0.0)
    screen.take(stats("camera"), 74.0)
    screen.take(detector_stats(dropped=12), 74.0)
    for number in range(lines):
        screen.log.add(f"[INFO] object-detector: Inference: {number}.0 ms (INT8)")
    return screen


def shown(
    screen: ScreenState, width: int = 80, height: int = 24, moment: Moment = MOMENT, marks: Marks = UNICODE
) -> list[str]:
    lines = render(screen, moment, width, height, marks)
    assert len(lines) == height
    assert [line.cell_len for line in lines] == [width] * height
    return [line.plain.rstrip() for line in lines]


def test_eighty_columns_hold_every_figure() -> None:
    lines = shown(running(), height=14)

    assert lines == [
        " mecha dev  robot  00:01:15",
        " NODE             STATE       PREC   IN/s  OUT/s  DROPPED  RST   MEMORY    CPU",
        "►camera           running     -         -   30.0        0    0   156 MB   12 %",
        " object-detector  running     INT8   30.0   29.6       12    0   312 MB   12 %",
        " ms p50/p95              STEP        PRE      SESSION       POST  NOTE",
        " camera               0.4/1.8          -            -          -",
        " object-detector      0.4/1.8    1.4/2.0    15.9/19.1    0.4/0.6",
        "── log " + "─" * 73,
        "[INFO] object-detector: Inference: 0.0 ms (INT8)",
        "[INFO] object-detector: Inference: 1.0 ms (INT8)",
        "[INFO] object-detector: Inference: 2.0 ms (INT8)",
        "",
        "",
        " i INT8  p pause  r restart  d degrade  c calibrate  / find  ? help  q quit",
    ]


def test_a_wide_terminal_has_one_line_a_node() -> None:
    screen = running()
    screen.take(state("camera", "restarting", restarts=2, reason="exit code 9"), 74.5)
    lines = shown(screen, 200, 50)

    assert lines[1:4] == [
        " NODE             STATE       PREC   IN/s  OUT/s  DROPPED  RST   MEMORY    CPU         STEP        PRE"
        "      SESSION       POST  NOTE",
        "►camera           restarting  -         -      -        0    2        -      -      0.4/1.8          -"
        "            -          -  exit code 9",
        " object-detector  running     INT8   30.0   29.6       12    0   312 MB   12 %      0.4/1.8    1.4/2.0"
        "    15.9/19.1    0.4/0.6",
    ]
    assert lines[-1].endswith("n node  l level  w wrap  ? help  q quit")


def test_a_long_name_gets_the_room_between_the_figures() -> None:
    screen = ScreenState()
    screen.take(state("detector-of-the-left-camera", "running"), 0.0)

    assert shown(screen)[1:3] == [
        " NODE                      STATE      PREC  IN/s OUT/s DROPPED RST  MEMORY   CPU",
        "►detector-of-the-left-cam… running    -        -     -       0   0       -     -",
    ]


@pytest.mark.parametrize(("width", "lines"), [(130, 2), (131, 1)])
def test_one_line_a_node_takes_131_columns(width: int, lines: int) -> None:
    titles = [line for line in shown(running(), width) if "STATE" in line or "SESSION" in line]

    assert len(titles) == lines


def test_the_title_says_when_it_ends_and_how_warm_the_device_is() -> None:
    screen = running()
    screen.said = {"degrade": "degrading on", "self_calibrate": "self-calibration off"}
    moment = Moment(now_s=3725.0, duration_s=7200.0, title="robot (field)", temperature_c=61.4, slowed="")

    assert shown(screen, 120, 24, moment)[0] == (
        " mecha dev  robot (field)  01:02:05 of 02:00:00  degrading on  self-calibration off" + " " * 31 + "61 °C"
    )


def test_a_device_that_is_slowed_down_says_so() -> None:
    slowed = "the firmware says that it is throttled"
    moment = Moment(now_s=75.0, duration_s=None, title="robot", temperature_c=84.6, slowed=slowed)

    assert shown(running(), moment=moment)[0] == f" mecha dev  robot  00:01:15{'':7}{slowed}  85 °C"


def test_a_terminal_without_unicode_gets_none() -> None:
    screen = running(30)
    screen.log.add("[INFO] object-detector: " + "x" * 80)
    look(screen, Action.PAGE_UP, 5)
    look(screen, Action.PAGE_DOWN, 5)
    look(screen, Action.NEWEST, 5)
    moment = Moment(now_s=75.0, duration_s=None, title="robot", temperature_c=61.0, slowed="")
    lines = shown(screen, moment=moment, marks=marks_for("ascii"))

    assert all(line.isascii() for line in lines)
    assert lines[0].endswith("61 C")
    assert lines[2].startswith(">camera")
    assert lines[7] == "-- log " + "-" * 73
    assert lines[22] == "[INFO] object-detector: " + "x" * 55 + "~"


@pytest.mark.parametrize(
    ("encoding", "marks"), [("utf-8", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), ("?", ASCII)]
)
def test_an_encoding_has_the_signs_it_holds(encoding: str, marks: Marks) -> None:
    assert marks_for(encoding) == marks


def test_a_long_line_is_cut_or_folded_but_never_wraps() -> None:
    screen = running(0)
    screen.log.add("[ERROR] object-detector: " + " ".join(f"word{number:02}" for number in range(20)))
    cut = shown(screen)
    assert cut[8].endswith("word0…")
    assert len(cut[8]) == 80
    assert cut[9] == ""

    look(screen, Action.WRAP, 15)
    assert shown(screen)[8:11] == [
        "[ERROR] object-detector: word00 word01 word02 word03 word04 word05 word06",
        "    word07 word08 word09 word10 word11 word12 word13 word14 word15 word16",
        "    word17 word18 word19",
    ]


def test_the_newest_line_is_seen_whole_when_lines_are_folded() -> None:
    screen = running(30)
    screen.log.add("[ERROR] object-detector: " + "y" * 300 + " end")
    look(screen, Action.WRAP, 15)

    assert shown(screen)[22].endswith("y end")


def test_the_line_above_the_log_says_what_is_left_out() -> None:
    screen = running(30)
    look(screen, Action.SELECT_NEXT, 15)
    look(screen, Action.ONLY_NODE, 15)
    look(screen, Action.LEVEL, 15)
    look(screen, Action.FIND, 15)
    for character in "Inf":
        type_text(screen, Key(character))
    assert shown(screen)[23] == " find: Inf   Enter keeps it, Esc does not"
    type_text(screen, Key("enter"))
    look(screen, Action.PAGE_UP, 15)
    title = shown(screen)[7]

    assert title.startswith('── log of object-detector, INFO and up, with "Inf" ───')
    assert title.endswith("─ 14 newer, End follows")
    look(screen, Action.CLEAR, 15)
    assert shown(screen)[7] == "── log " + "─" * 73


def test_the_help_is_in_the_place_of_the_log() -> None:
    screen = running()
    look(screen, Action.HELP, 15)
    lines = shown(screen)

    assert lines[2].startswith("►camera")
    assert lines[4].startswith("── help ─")
    assert lines[5] == " up down, k j  choose a node"
    assert lines[20] == " q, Ctrl-C     stop the nodes in order; again: at once"
    look(screen, Action.CLEAR, 15)
    assert not screen.helps


def test_of_many_nodes_those_around_the_chosen_one_are_shown() -> None:
    screen = ScreenState()
    for number in range(30):
        screen.take(state(f"node-{number}", "running"), 0.0)
    screen.choose(12)
    lines = shown(screen)

    assert lines[1].startswith(" 16 of 30    STATE")
    assert "►node-12" in [line.split()[0] for line in lines[2:18]]
    assert lines[18].startswith("── log")


def test_a_run_that_begins_has_no_nodes_yet() -> None:
    lines = shown(ScreenState())

    assert lines[0] == " mecha dev  robot  00:00:00"
    assert lines[1] == " starting"


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (Spread(), "-"),
        (Spread(0.04, 0.05), "0.0/0.1"),
        (Spread(18.24, 99.94), "18.2/99.9"),
        (Spread(99.95, 12345.6), "100/12346"),
    ],
)
def test_milliseconds_have_as_many_places_as_say_something(spread: Spread, text: str) -> None:
    assert spread_text(spread) == text


def test_text_is_cut_by_what_it_takes_and_not_by_its_length() -> None:
    assert fitted("日本語", 5, UNICODE) == "日本…"
    assert fitted("日本語", 4, UNICODE) in {"日…", "日 …", "日… "}
    assert fitted("ab", 4, UNICODE) == "ab  "


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 250),
    height=st.integers(1, 60),
    nodes=st.integers(0, 40),
    name=st.text(min_size=1, max_size=40),
    line=st.text(max_size=300),
    actions=st.lists(st.sampled_from(list(Action)), max_size=6),
)
def test_whatever_is_shown_is_as_large_as_the_terminal(
    width: int, height: int, nodes: int, name: str, line: str, actions: list[Action]
) -> None:
    screen = ScreenState()
    for number in range(nodes):
        screen.take(state(f"{name}{number}", "running", reason=line), 0.0)
        screen.take(detector_stats(f"{name}{number}", p50_ms=1e7, rss_mb=1e6, cpu_percent=1e5, dropped=10**9), 74.0)
    for _ in range(10):
        screen.log.add(f"[INFO] {name}: {line}")
    for action in actions:
        look(screen, action, log_room(screen, width, height, UNICODE))
    if screen.typed is not None:
        type_text(screen, Key(line, pasted=True))

    shown(screen, width, height)


def test_colours_are_those_of_the_terminal() -> None:
    screen = running()
    screen.log.add("[ERROR] object-detector: bad")

    def drawn(**environ: str) -> list[str]:
        return ansi_lines(ansi_console(environ), render(screen, MOMENT, 80, 24, UNICODE))

    coloured, plain = drawn(TERM="xterm-256color"), drawn(TERM="xterm-256color", NO_COLOR="1")
    assert len(coloured) == len(plain) == 24
    assert "\x1b[32mrunning" in coloured[2]
    assert "\x1b[1;31m" in coloured[11]
    # Bold stays: it is no colour.
    assert not any(code in line for line in plain for code in ("[32m", "[31m", ";31m", "[33m"))
    assert any("\x1b[1m" in line for line in plain)
