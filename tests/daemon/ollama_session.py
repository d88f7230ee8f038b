"""What a user of Ollama's own Python client does, with the daemon at the other end. Run by an interpreter that has it.

python ollama_session.py http://127.0.0.1:8765 arena
"""

import json
import sys

from ollama import Client, ResponseError  # type: ignore[import-not-found]  # not a library of this project


def session(host: str, name: str) -> dict[str, object]:
    client = Client(host=host)
    steps = list(client.pull(name, stream=True))
    once = client.pull(name)
    (listed,) = client.list().models
    shown = client.show(name)
    running = client.ps().models
    deleted = client.delete(name)
    try:
        client.show(name)
    except ResponseError as error:
        missing = [error.status_code, error.error]
    try:
        list(client.pull("nothing-of-this-name", stream=True))
    except ResponseError as error:
        unknown = [error.status_code, error.error]
    return {
        "statuses": [steps[0].status, steps[-1].status],
        "digests": sorted({step.digest for step in steps if step.digest}),
        "transferred": [[step.completed, step.total] for step in steps if step.digest][-1],
        "once": once.status,
        "listed": [listed.model, listed.size > 0, listed.modified_at.tzinfo is not None, len(listed.digest)],
        "details": [listed.details.format, listed.details.family, listed.details.quantization_level],
        "shown": [shown.license, shown.details.format, shown.modelinfo["mecha.classes"], shown.capabilities],
        "running": [[model.model, model.size_vram, model.expires_at.year] for model in running],
        "deleted": deleted.status,
        "missing": missing,
        "unknown": unknown,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(session(sys.argv[1], sys.argv[2])))
