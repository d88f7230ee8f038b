"""Reads or changes what a node runs with: `python -m mecha.daemon.config_child NODE --project ROOT`.

A config is checked by the code of its node, which is somebody else's, may do anything, and loads what the daemon has no
need of: it gets its own process. On standard input comes `{"values":{…}}`, or `{}` to change nothing; the answer is a
line of JSON, `{"config":{…},"schema":{…}}` or `{"kind","error","hint"}`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mecha.daemon.problems import problem_of
from mecha.errors import MechaError
from mecha.project import find_project
from mecha.runtime.events import take_stdout
from mecha.runtime.program import load_node
from mecha.runtime.settle import effective_config, set_values


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what standard input asks for; returns the exit code."""
    # What the program of the node prints is no answer.
    pipe = take_stdout()
    parser = argparse.ArgumentParser(prog="python -m mecha.daemon.config_child")
    parser.add_argument("node")
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--environment")
    parsed = parser.parse_args(arguments)
    asked = json.loads(sys.stdin.read())
    try:
        project = find_project(parsed.project, os.environ, parsed.environment)
        if asked.get("values"):
            set_values(project, parsed.node, asked["values"], os.environ)
        config = effective_config(project, parsed.node, os.environ).model_dump(mode="json")
        schema = load_node(project.nodes_dir, parsed.node).config_model.model_json_schema()
        answer = {"config": config, "schema": schema}
    except MechaError as error:
        answer = problem_of(error).model_dump()
    pipe.write(json.dumps(answer).encode())
    pipe.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
