"""What a server's log says of clients, and what it does not."""

import asyncio
import logging
from pathlib import Path

import pytest

from mecha.hub.mirror import running_mirror
from mecha.hub.server_log import quiet_server_log

LOG = logging.getLogger("uvicorn.error")


@pytest.fixture(autouse=True)
def quiet() -> None:
    quiet_server_log()
    for one in LOG.filters:
        one.__init__()  # type: ignore[misc]  # what other tests' servers said is forgotten


def test_what_clients_do_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        LOG.warning("Invalid HTTP request received.")
        LOG.warning("Exceeded concurrency limit.")

    assert caplog.messages == ["Invalid HTTP request received.", "Exceeded concurrency limit."]


def test_a_mirror_has_its_log_kept_short(tmp_path: Path) -> None:
    for one in list(LOG.filters):
        LOG.removeFilter(one)
    with running_mirror(tmp_path):
        assert len(LOG.filters) == 1


def test_every_mistake_is_told_and_no_answer_that_ended_with_the_server(caplog: pytest.LogCaptureFixture) -> None:
    for error in (ValueError("a"), ValueError("a"), asyncio.CancelledError()):
        LOG.error("Exception in ASGI application\n", exc_info=error)
    LOG.error("Cancel %s running task(s), timeout graceful shutdown exceeded", 3)

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError, ValueError]
    assert len(caplog.records) == 2
