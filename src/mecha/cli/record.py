"""`mecha record`: what the nodes tell each other, into a file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import bytes_text, count_text, echo_json, required_root
from mecha.cli.topic import LISTEN_S, require_topic, say_who_writes
from mecha.errors import DiskError, NotFoundError
from mecha.words import alternatives

if TYPE_CHECKING:
    from mecha.runtime.recorder import Recorder
    from mecha.runtime.recording import RecordingWriter

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
    topics: Annotated[
        list[str] | None, typer.Option("--topic", metavar="T", help="Record this topic only; may be given again.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Stop after 30s, 5m, 1h; else by Ctrl-C.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was recorded as one JSON line.")] = False,
) -> None:
    """Write the messages of a running project into FILE, for `mecha replay FILE`.

    A frame takes its pixels: 1080p at 30 a second is 187 MB a second. Where nothing comes no file is left, and the exit
    code is 4.
    """
    import os

    from mecha.cli.dev import parse_duration
    from mecha.runtime.bus.place import BusPlace
    from mecha.runtime.recorder import Recorder
    from mecha.runtime.recording import RecordingWriter
    from mecha.runtime.signals import signals_to

    duration_s = parse_duration(duration) if duration else None
    named = tuple(dict.fromkeys(topics or ()))
    for topic in named:
        require_topic(topic)
    with BusPlace(required_root(), os.environ).joined() as bus, RecordingWriter(file, time.time_ns()) as writer:
        uses = bus.uses(LISTEN_S) if named else ()
        for topic in named:
            say_who_writes(topic, uses)
        recorder = Recorder(writer)
        for topic in named:
            bus.subscribe(topic, recorder.put)
        if not named:
            bus.subscribe_all(recorder.put)
        if not as_json:
            typer.echo(f"recording to {file}; Ctrl-C ends it", err=True)
        try:
            with signals_to(recorder.stop):
                recorder.run(duration_s)
        except DiskError:
            if writer.contents.messages:
                _report(writer, recorder, as_json=as_json)
            raise
    if not writer.contents.messages:
        raise NotFoundError(
            f"{file}: nothing came on {alternatives(named) if named else 'any topic'} that could be recorded; "
            "no file is left",
            hint="`mecha topic list` shows what is sent, and by whom.",
        )
    _report(writer, recorder, as_json=as_json)


def _report(writer: "RecordingWriter", recorder: "Recorder", *, as_json: bool) -> None:
    contents, dropped = writer.contents, recorder.dropped
    if as_json:
        echo_json(
            {
                "schema": 1,
                "file": str(writer.path),
                "size_bytes": writer.size_bytes,
                "duration_s": round(contents.duration_ns / 1e9, 3),
                "topics": {
                    topic: {
                        "messages": contents.topics[topic].messages if topic in contents.topics else 0,
                        "dropped": dropped.get(topic, 0),
                    }
                    for topic in dict.fromkeys((*contents.topics, *dropped))
                },
            }
        )
        return
    size = bytes_text(writer.size_bytes)
    typer.echo(
        f"{writer.path}: {count_text(contents.messages, 'message')} in {contents.duration_ns / 1e9:.1f} s, {size}"
    )
    for topic, count in contents.topics.items():
        typer.echo(f"  {topic}: {count_text(count.messages, 'message')}")
    for topic, lost in dropped.items():
        typer.echo(f"warning: {topic}: {count_text(lost, 'message')} not recorded: the disk is too slow", err=True)
