"""`mecha replay`: a recording, sent to the nodes that run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import bytes_text, count_text, echo_json, required_root
from mecha.errors import INTERRUPTED_EXIT_CODE, UsageError

if TYPE_CHECKING:
    from mecha.runtime.recording import Contents, Recording

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="T", help="Send this topic only, whoever else writes it; may be given again."),
    ] = None,
    speed: Annotated[str, typer.Option("--speed", metavar="X", help="0.5 is half as fast as it was.")] = "1",
    fast: Annotated[bool, typer.Option("--fast", help="Send as fast as the bus takes it.")] = False,
    info: Annotated[bool, typer.Option("--info", help="Tell what FILE holds, and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON line.")] = False,
) -> None:
    """Send the messages of FILE again, at the pace at which they came.

    Without --topic those topics are sent that no running node writes: what the robot saw, and not what it made of it.
    """
    from mecha.runtime.recording import Recording
    from mecha.runtime.replay import parse_speed

    if fast and speed != "1":
        raise UsageError("--fast and --speed: got both; expected one of them")
    factor = None if fast else parse_speed(speed)
    recording = Recording(file)
    contents = recording.contents()
    if contents.cut_off_bytes:
        cut_off = count_text(contents.cut_off_bytes, "byte")
        typer.echo(f"warning: {file}: its last message is cut off and left out ({cut_off})", err=True)
    if info:
        _tell(file, contents, recording.started_at, as_json=as_json)
        return
    _play(recording, contents, topics or [], factor, as_json=as_json)


def _play(
    recording: "Recording", contents: "Contents", topics: list[str], speed: float | None, *, as_json: bool
) -> None:
    import os
    from threading import Event

    from mecha.runtime.bus.place import BusPlace
    from mecha.runtime.replay import cast_of, play, wait_for_readers
    from mecha.runtime.signals import signals_to

    stopping = Event()
    with BusPlace(required_root(), os.environ).joined() as bus, signals_to(stopping.set) as came:
        uses = bus.uses()
        cast = cast_of(tuple(contents.topics), topics, uses, where=str(recording.path))
        for topic, node in cast.left_out.items():
            typer.echo(f"{topic} is left out: {node} writes it", err=True)
        for topic in wait_for_readers(bus, cast.topics, uses, stopping):
            typer.echo(f"warning: {topic}: nobody reads it now", err=True)
        sent = play(recording, bus, cast.topics, speed=speed, stopping=stopping)
    if as_json:
        echo_json({"schema": 1, "file": str(recording.path), "topics": list(cast.topics), "messages": sent})
    else:
        typer.echo(f"{recording.path}: {count_text(sent, 'message')} sent on {', '.join(cast.topics)}")
    if came:
        raise typer.Exit(INTERRUPTED_EXIT_CODE)


def _tell(file: Path, contents: "Contents", started_at: int, *, as_json: bool) -> None:
    from datetime import datetime

    if as_json:
        counts = {
            topic: {"messages": count.messages, "bytes": count.payload_bytes}
            for topic, count in contents.topics.items()
        }
        duration_s = round(contents.duration_ns / 1e9, 3)
        told = {"schema": 1, "file": str(file), "started_at": started_at, "duration_s": duration_s, "topics": counts}
        echo_json(told | {"cut_off_bytes": contents.cut_off_bytes})
        return
    began = datetime.fromtimestamp(started_at / 1e9).astimezone().isoformat(" ", "seconds")
    typer.echo(
        f"{file}: {count_text(contents.messages, 'message')} in {contents.duration_ns / 1e9:.1f} s, from {began}"
    )
    for topic, count in contents.topics.items():
        typer.echo(f"  {topic}: {count_text(count.messages, 'message')}, {bytes_text(count.payload_bytes)}")
