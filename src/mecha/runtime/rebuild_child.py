"""The process that builds INT8 again beside the nodes: `python -m mecha.runtime.rebuild_child`.

It gives way to everything else on the device, ends when its parent ends, and writes one JSON line at its end:

    {"event":"done","published":true,"message":"…"}     built and compared; published or not
    {"event":"busy","message":"…"}                      somebody else is building: later
    {"event":"fault","message":"…"}                     it could not be made
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mecha.errors import BusyError, MechaError
from mecha.project import cache_dir, find_project
from mecha.service.background import end_with_parent, give_way
from mecha.service.models import ModelService
from mecha.store.locks import exclusive

FOLDER = "self-calibration"
"""In the user cache: the lock of the one build of this device, and the frames that nodes keep."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build once; returns the exit code."""
    end_with_parent()
    give_way(disk_too=True)
    parser = argparse.ArgumentParser(prog="python -m mecha.runtime.rebuild_child")
    parser.add_argument("model")
    parser.add_argument("frames", type=Path)
    parser.add_argument("--node", required=True)
    parser.add_argument("--project", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    try:
        project = find_project(parsed.project, os.environ)
        # Whatever project it belongs to: two builds at once are too much for a small device.
        with exclusive(cache_dir(os.environ) / FOLDER / "lock", timeout_s=0):
            rebuilds = ModelService(project, os.environ).rebuilds()
            report = rebuilds.recalibrate(parsed.model, parsed.frames, seen_by=parsed.node)
    except BusyError as error:
        _say({"event": "busy", "message": str(error)})
        return error.exit_code
    except MechaError as error:
        _say({"event": "fault", "message": str(error)})
        return error.exit_code
    _say({"event": "done", "published": report.published, "message": report.message})
    return 0


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
