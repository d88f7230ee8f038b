"""`mecha topic list|echo|hz`: a look at what the nodes of a running project tell each other."""

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import bytes_text, echo_json, required_root
from mecha.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mecha.runtime.bus import Sample, Use
    from mecha.runtime.bus.zenoh import ZenohBus
    from mecha.runtime.topics import Pace, TopicRow

app = typer.Typer(
    help="See what the nodes of a running project tell each other.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="As in /vision/object/detections.")]
Duration = Annotated[str | None, typer.Option("--duration", metavar="TIME", help="Stop after 30s, 5m, 1h.")]

LISTEN_S = 1.0
_TURN_S = 0.2
_WAITING = 1000


@app.command(name="list")
def list_topics(
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
) -> None:
    """List the topics: what is sent on them, how often, who writes them and who reads them."""
    from mecha.runtime.topics import topic_rows

    heard: dict[str, int] = {}

    def count(sample: "Sample") -> None:
        heard[sample.topic] = heard.get(sample.topic, 0) + 1

    with _running_bus() as bus:
        began_s = time.monotonic()
        subscription = bus.subscribe_all(count)
        uses = bus.uses(LISTEN_S)
        subscription.close()
        rows = topic_rows(uses, heard, time.monotonic() - began_s)
    if as_json:
        echo_json({"schema": 1, "topics": [row.to_json() for row in rows]})
    else:
        for line in list_lines(rows):
            typer.echo(line)


@app.command()
def echo(
    topic: Topic,
    count: Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="Stop after N messages.")] = None,
) -> None:
    """Print what is sent on TOPIC, a JSON line a message; of a frame its header."""
    from queue import Empty, Full, Queue

    from mecha.runtime.topics import readable

    require_topic(topic)
    waiting: Queue[dict[str, Any]] = Queue(_WAITING)
    lost = 0

    def take(sample: "Sample") -> None:
        nonlocal lost
        try:
            waiting.put_nowait(readable(sample))
        except Full:
            lost += 1

    with _running_bus() as bus:
        bus.subscribe(topic, take)
        say_who_writes(topic, bus.uses(LISTEN_S))
        shown = told = 0
        while count is None or shown < count:
            try:
                message = waiting.get(timeout=_TURN_S)
            except Empty:
                continue
            # ASCII only: a message of somebody else must not move the cursor of this terminal.
            typer.echo(json.dumps(message, separators=(",", ":")))
            shown += 1
            if lost > told:
                typer.echo(f"{topic}: {lost} messages were not shown; they come faster than they are printed", err=True)
                told = lost


@app.command()
def hz(
    topic: Topic,
    duration: Duration = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON line a second.")] = False,
) -> None:
    """Print once a second how often something is sent on TOPIC, how evenly, how much, and what is missing of frames."""
    from threading import Lock

    from mecha.cli.dev import parse_duration
    from mecha.runtime.topics import PaceMeter

    require_topic(topic)
    duration_s = parse_duration(duration) if duration else None
    meter, lock = PaceMeter(), Lock()

    def take(sample: "Sample") -> None:
        now_s = time.monotonic()
        with lock:
            meter.add(sample, now_s)

    with _running_bus() as bus:
        bus.subscribe(topic, take)
        began_s = time.monotonic()
        say_who_writes(topic, bus.uses(LISTEN_S))
        while True:
            with lock:
                pace = meter.pace(time.monotonic())
            if as_json:
                echo_json({"schema": 1, "topic": topic} | pace.to_json())
            else:
                typer.echo(f"{topic}: {pace_text(pace)}")
            left_s = LISTEN_S if duration_s is None else min(LISTEN_S, began_s + duration_s - time.monotonic())
            if left_s <= 0:
                break
            time.sleep(left_s)


@contextmanager
def _running_bus() -> "Iterator[ZenohBus]":
    """Be on the bus of the project in the working folder.

    Raises:
        NotFoundError: there is no project, or it does not run.
    """
    import os

    from mecha.runtime.bus.place import BusPlace

    with BusPlace(required_root(), os.environ).joined() as bus:
        yield bus


def require_topic(text: str) -> None:
    """Refuse an argument that cannot name a topic.

    Raises:
        UsageError: it is none.
    """
    from mecha.runtime.bus import checked_topic

    try:
        checked_topic(text)
    except ConfigError as error:
        raise UsageError(str(error), hint=error.hint) from error


def say_who_writes(topic: str, uses: "Iterable[Use]") -> None:
    """Say that nobody writes a topic: whoever mistyped it would wait for ever."""
    from mecha.words import did_you_mean

    written = {use.topic for use in uses if use.writes}
    if topic not in written:
        typer.echo(f"{topic}: no node writes it now{did_you_mean(topic, written)}", err=True)


def list_lines(rows: "Iterable[TopicRow]") -> list[str]:
    """Return a table of topics, as wide as its words."""
    table = [("TOPIC", "MESSAGE", "HZ", "WRITTEN BY", "READ BY")]
    for row in rows:
        writers, readers = (", ".join(nodes) or "-" for nodes in (row.writers, row.readers))
        table.append((row.topic, row.message or "-", f"{row.hz:.1f}" if row.hz else "-", writers, readers))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            word.rjust(width) if column == 2 else word.ljust(width)  # noqa: PLR2004 - the one of numbers
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


def pace_text(pace: "Pace") -> str:
    """Return how messages come, on one line."""
    if pace.silent_s is None:
        return "nothing yet"
    if pace.hz == 0:
        return f"nothing for {pace.silent_s:.0f} s"
    if pace.hz is None or pace.shortest_ms is None or pace.longest_ms is None or pace.bytes_per_s is None:
        return "one message yet"
    return (
        f"{pace.hz:.1f} a second, {pace.shortest_ms:.1f} to {pace.longest_ms:.1f} ms apart, "
        f"{bytes_text(round(pace.bytes_per_s))} a second, {pace.missing} missing"
    )
