"""How soon a lost camera is missed, and how soon it is back: a stream that hangs, and one whose camera is switched off.

    python -m benchmarks.cameras [--rounds 10]

The camera is the one of the tests, in this process; it is read as the camera node reads it.
"""

import argparse
import logging
import time
from collections.abc import Callable

from tests.runtime.rtsp_server import RtspCamera

from mecha.runtime.sources import open_source
from mecha.runtime.sources.feed import Feed
from mecha.runtime.timing import percentile

TURN_S = 0.2


def seconds_until(feed: Feed, happened: Callable[[bool, str], bool]) -> float:
    """Read as the camera node does until something happens; return how long that took."""
    began_s = time.monotonic()
    while True:
        came = feed.take(TURN_S) is not None
        if happened(came, feed.trouble()):
            return time.monotonic() - began_s


def frames_for(feed: Feed, seconds: float) -> None:
    """Read for a while."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        feed.take(TURN_S)
        feed.trouble()


def hangs(rounds: int) -> dict[str, list[float]]:
    """A camera that sends nothing for 2.5 s, and keeps its connection."""
    figures: dict[str, list[float]] = {"missed": [], "back": []}
    with RtspCamera() as camera:
        feed = Feed(camera.address, open_source, logging.getLogger())
        for _ in range(rounds):
            frames_for(feed, 1.5)
            camera.freeze()
            # Frames that were on their way are no longer so.
            figures["missed"].append(seconds_until(feed, lambda came, trouble: bool(trouble) and not came))
            frames_for(feed, 0.8)
            camera.thaw()
            figures["back"].append(seconds_until(feed, lambda _, trouble: not trouble))
        feed.close()
    return figures


def goes(rounds: int, away_s: float) -> dict[str, list[float]]:
    """A camera that is switched off, and is on again after a while."""
    figures: dict[str, list[float]] = {"missed": [], "back": []}
    port, feed = 0, None
    for _ in range(rounds):
        with RtspCamera(port=port) as camera:
            port = camera.port
            feed = feed or Feed(camera.address, open_source, logging.getLogger())
            figures["back"].append(seconds_until(feed, lambda came, trouble: came and not trouble))
            frames_for(feed, 1.5)
        figures["missed"].append(seconds_until(feed, lambda came, trouble: bool(trouble) and not came))
        frames_for(feed, away_s)
    if feed is not None:
        feed.close()
    # The first time it was opened, and not lost before.
    return figures | {"back": figures["back"][1:]}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    for name, figures in (
        ("hangs for 2.5 s", hangs(rounds)),
        ("is off for 1 s", goes(rounds, 1.0)),
        ("is off for 8 s", goes(rounds, 8.0)),
    ):
        for what, values in figures.items():
            p50, longest = percentile(values, 0.5) or 0.0, max(values, default=0.0)
            print(f"{name}: {what} after {p50:.2f} s (median), {longest:.2f} s (longest of {len(values)})")


if __name__ == "__main__":
    main()
