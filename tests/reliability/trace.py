"""What a command asks of the file system, in order: recorded by strace, with the bytes of every write."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CALLS = (
    "open,openat,creat,write,writev,pwrite64,lseek,sendfile,copy_file_range,truncate,ftruncate,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync"
)
_STRACE = ("strace", "-f", "-y", "-qq", "-s", "100000000", "-e", f"trace={_CALLS}", "-e", "signal=none")
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)(?P<fd><.*>)?(?: .*)?", re.DOTALL)
_UNFINISHED = re.compile(r"(?P<pid>\d+) +(?P<start>\w+\(.*) <unfinished \.\.\.>", re.DOTALL)
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<end>.*)", re.DOTALL)
_ARGUMENT = re.compile(
    r'"(?P<text>(?:[^"\\]|\\.)*)"(?:\.\.\.)?|(?P<fd>AT_FDCWD|\d+)<(?P<path>[^>]*)>(?P<gone>\(deleted\))?|(?P<word>[^,\s]+)'
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that succeeded.

    Attributes:
        arguments: paths whole and as text, data as bytes, everything else as strace writes it.
        result: what it returned.
    """

    name: str
    arguments: tuple[str | bytes, ...]
    result: int


def recorded(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], output: Path
) -> tuple[list[Call], int]:
    """Run a command and return its calls, those of its children among them, and its exit code."""
    done = subprocess.run(
        [*_STRACE, "-o", str(output), *command],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        check=False,
    )
    return list(_calls(output.read_text(encoding="latin-1").split("\n"))), done.returncode


def works() -> bool:
    """Tell whether strace is here and may trace."""
    try:
        done = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    started: dict[str, str] = {}
    for line in lines:
        if (begun := _UNFINISHED.fullmatch(line)) is not None:
            started[begun["pid"]] = begun["start"]
            continue
        whole = line
        if (ended := _RESUMED.fullmatch(line)) is not None:
            whole = f"{ended['pid']} {started.pop(ended['pid'])}{ended['end']}"
        match = _LINE.fullmatch(whole)
        if match is None or int(match["result"]) < 0:
            continue
        yield Call(match["call"], tuple(_arguments(match["call"], match["rest"])), int(match["result"]))


def _arguments(call: str, rest: str) -> Iterator[str | bytes]:
    """Join a path to the folder it starts from; drop the folder."""
    data, start = call in ("write", "pwrite64", "writev"), ""
    for match in _ARGUMENT.finditer(rest):
        if match["text"] is not None:
            content = match["text"].encode("latin-1").decode("unicode_escape").encode("latin-1")
            if data:
                yield content
            else:
                yield str(Path(start) / content.decode())
            start = ""
        elif match["fd"] is not None:
            start = match["path"]
            if call in ("openat", "renameat", "renameat2", "linkat", "unlinkat", "mkdirat", "symlinkat"):
                continue
            yield "" if match["gone"] else start
        else:
            yield match["word"]
