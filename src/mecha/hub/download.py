"""Downloading one file over a bad line: it goes on where it stopped, in this process or a later one.

The steps are the reader's: `partial.py` holds the bytes, `transfer.py` makes one request, `answers.py` judges its
answer, `pace.py` says how long to wait. Here is the order: ask for what is missing until the file is as long as it
should be, then compare its digest; when bytes of several answers do not fit together, start over once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from mecha.errors import IntegrityError, MechaError, NetworkError
from mecha.hub.answers import TryAgain, name_of
from mecha.hub.lanes import widened
from mecha.hub.line import Line
from mecha.hub.pace import Clock, RateLimit, RateWatch, Retries, Widening, retry_after_s
from mecha.hub.partial import PartialFile, discard, opened_partial
from mecha.hub.source import RemoteFile
from mecha.hub.transfer import Timeouts, TooSlow, Transfer
from mecha.progress import Progress


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download.

    Attributes:
        sha256: of the whole file, lower-case hex.
        transferred_bytes: body bytes that came over the line in this call.
        resumed_from: bytes that an earlier process had left and that were kept.
    """

    sha256: str
    size_bytes: int
    transferred_bytes: int
    resumed_from: int


def download(
    remote: RemoteFile,
    partial: Path,
    *,
    progress: Progress,
    limit_bytes_per_s: int | None = None,
    check_start: Callable[[bytes], None] | None = None,
    timeouts: Timeouts | None = None,
    retries: Retries | None = None,
    clock: Clock | None = None,
    widening: Widening | None = None,
) -> Downloaded:
    """Fetch a file into `partial`, and leave it there, whole and verified, for the caller to take.

    Only one process may use a partial file at a time; the caller holds the lock.

    Args:
        remote: what to fetch, and what its bytes must be.
        partial: where the bytes go (mode 0600), with `<partial>.json` beside it until they are whole.
        progress: told ("download", bytes held, size); bytes of an earlier process count.
        limit_bytes_per_s: the average rate to stay under.
        check_start: called with the first bytes (512, or all of a smaller file) before any is written; raises what is
            wrong with them. Not called when a download goes on.
        timeouts: when a silent line is given up.
        retries: how often and how patiently to try again.
        clock: time and chance.
        widening: when more connections than one are tried; never with `limit_bytes_per_s`.

    Returns:
        What was fetched. A file that was whole already costs no connection.

    Raises:
        AccessDeniedError: 401 or 403.
        NotFoundError: 404 or 410.
        NetworkError: no answer, or one of no use, after all tries. What came is kept for the next call.
        IntegrityError: a web page instead of the file, or wrong bytes, which are removed.
        DiskError: the disk is full, or refuses. What came is kept for the next call.
        ConfigError: the environment names a proxy or certificates that cannot be used.
    """
    clock, retries, timeouts = clock or Clock(), retries or Retries(), timeouts or Timeouts()
    try:
        with opened_partial(partial, remote) as file, _line(timeouts) as line:
            transfer = Transfer(remote, file, line, progress, RateLimit(limit_bytes_per_s, clock), check_start)
            wide = widening or Widening()
            if wide.connections > 1 and not limit_bytes_per_s:
                transfer.watch = RateWatch(wide, clock)
            _complete(transfer, retries, clock, wide)
            result = Downloaded(file.sha256, file.size, transfer.transferred_bytes, file.resumed_bytes)
    except MechaError:
        _remove_if_empty(partial)
        raise
    discard(partial, sidecar_only=True)
    return result


def _complete(transfer: Transfer, retries: Retries, clock: Clock, widening: Widening) -> None:
    """Fetch until the digest is right."""
    file, remote = transfer.file, transfer.remote
    transfer.progress("download", file.size, remote.size_bytes)
    if not _is_as_long_as_said(file):
        _fetch(transfer, retries, clock, widening)
    transfer.watch = None
    if file.mixed and file.fault() is not None:
        # After a loss of power the end of the partial file can be garbage, and a server can change a file between two
        # requests: then all of it is asked for once more, in one piece.
        file.start_over(None)
        _fetch(transfer, retries, clock, widening)
    fault = file.fault()
    if fault is not None:
        file.start_over(None)
        raise IntegrityError(
            f"{name_of(remote)}: {fault}",
            hint="The bytes were damaged on the way, or the server's copy is wrong; none were kept. Try again.",
        )
    file.sync()


def _fetch(transfer: Transfer, retries: Retries, clock: Clock, widening: Widening) -> None:
    failures, furthest, whole = 0, transfer.file.size, False
    while (refusal := transfer.attempt(whole=whole)) is not None:
        if isinstance(refusal, TooSlow):
            rate, transfer.watch = transfer.watch.rate if transfer.watch else 0.0, None
            widened(transfer, rate, widening, clock)
            if _is_as_long_as_said(transfer.file):
                return
            failures, furthest, whole = 0, transfer.file.size, False
            continue
        transfer.file.sync()
        whole = refusal.whole
        failures = 0 if transfer.file.size > furthest else failures + 1
        furthest = max(furthest, transfer.file.size)
        clock.sleep(_wait_s(transfer.remote, refusal, failures, retries, clock))


def _wait_s(remote: RemoteFile, refusal: TryAgain, failures: int, retries: Retries, clock: Clock) -> float:
    if failures >= retries.attempts:
        raise NetworkError(
            f"{name_of(remote)}: {refusal.reason}; gave up after {failures} tries",
            hint="Check the network and try again; what has come so far is kept.",
        )
    asked = retry_after_s(refusal.retry_after, clock.now())
    if asked is None:
        return retries.wait_s(max(failures, 1), clock.random())
    if asked > retries.longest_retry_after_s:
        raise NetworkError(
            f"{name_of(remote)}: {refusal.reason} and asks to wait {asked:.0f} s",
            hint=f"Try again in {asked:.0f} s; what has come so far is kept.",
        )
    return asked


def _is_as_long_as_said(file: PartialFile) -> bool:
    return file.size > 0 and file.size == file.remote.size_bytes


def _line(timeouts: Timeouts) -> Line:
    return Line(httpx2.Timeout(timeouts.stall_s, connect=timeouts.connect_s))


def _remove_if_empty(partial: Path) -> None:
    if partial.is_file() and partial.stat().st_size == 0:
        discard(partial)
