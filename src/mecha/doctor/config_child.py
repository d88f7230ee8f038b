"""Reads what each node runs with: `python -m mecha.doctor.config_child ROOT [ENVIRONMENT]`.

A config is checked by the code of its node, which is somebody else's and may do anything: it gets its own process.
"""

import json
import os
import sys
from pathlib import Path

from mecha.errors import MechaError
from mecha.project import find_project
from mecha.runtime.program import node_names
from mecha.runtime.settle import effective_config


def main(root: str, environment: str | None = None) -> None:
    """Write a line of JSON for each node: its `config`, or its `fault` and `hint`."""
    project = find_project(Path(root), os.environ, environment)
    for node in node_names(project.nodes_dir):
        told: dict[str, object] = {"node": node}
        try:
            told["config"] = effective_config(project, node, os.environ).model_dump(mode="json")
        except MechaError as error:
            told |= {"fault": str(error), "hint": error.hint}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
