"""Pulls a model for the daemon: `python -m mecha.daemon.pull_child`, a job of `mecha.daemon.pull_aside` on its input.

It answers with the lines of `POST /api/pull`, and ends when the daemon ends.
"""

import os
import sys
import traceback

from pydantic import BaseModel

from mecha.daemon.problems import problem_of
from mecha.daemon.pull_aside import read_job
from mecha.daemon.pull_lines import Step, step_of
from mecha.errors import MechaError
from mecha.redaction import redacted
from mecha.runtime.events import take_stdout
from mecha.service.background import end_with_parent
from mecha.service.models import ModelService


def main() -> int:
    """Do the job; returns the exit code, 0 also where it fails for a reason that is told."""
    lines = take_stdout()
    job = read_job()
    end_with_parent()

    def tell(line: BaseModel) -> None:
        try:
            lines.write(f"{line.model_dump_json(exclude_unset=True)}\n".encode())
            lines.flush()
        except OSError:
            os._exit(1)  # the daemon is gone

    try:
        report = ModelService(job.project, os.environ).pull(
            job.name, job.options, lambda stage, completed, total: tell(step_of(stage, completed, total))
        )
    except MechaError as error:
        tell(problem_of(error))
    except Exception:  # noqa: BLE001 - a trace may hold what is not meant for a log
        sys.stderr.write(redacted(traceback.format_exc()))
        return 1
    else:
        tell(Step(status="success", report=report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
