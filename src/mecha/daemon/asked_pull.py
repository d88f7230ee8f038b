"""A pull that somebody asked the daemon for: it runs in a thread, and its steps go out as lines while it does."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from mecha.daemon.problems import Problem, problem_of, status_of
from mecha.daemon.pull_lines import Step, step_of
from mecha.daemon.pulling import StoppedError
from mecha.errors import MechaError
from mecha.hub.mirror_answers import client_left
from mecha.progress import FileStage, Progress
from mecha.service.report import PullReport

_TRANSFER_EVERY_S = 0.1
_STAGE_EVERY_S = 0.25
_LONGEST_QUEUE = 256
"""Lines that a slow client is behind; of steps that are under way, further ones are left out."""
_SOON_S = 1.0
"""A pull that fails within this time is answered with a status of its own."""

End = tuple[Literal[200], PullReport] | tuple[int, Problem]


class AskedPull:
    """A pull in a thread of its own. Made and used in an event loop; `leave` ends it at its next step.

    Args:
        run: pulls, and tells how far it is.
    """

    def __init__(self, run: Callable[[Progress], PullReport]) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[Step | End] = asyncio.Queue()
        self._left = threading.Event()
        self._stage = ""
        self._told_s = 0.0
        threading.Thread(target=self._work, name="asked pull", daemon=True).start()

    async def next(self) -> Step | End:
        """Return the next step, and the end after the last one."""
        return await self._steps.get()

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._left.set()

    def _work(self) -> None:
        try:
            report = self._run(self._progress)
        except MechaError as error:
            self._put((int(status_of(error)), problem_of(error)))
        except Exception:
            self._put(
                (500, Problem(error="the daemon made a mistake", hint="Its log has the trace; please report it."))
            )
            raise
        else:
            self._put((200, report))

    def _progress(self, stage: str, completed: int, total: int | None) -> None:
        if self._left.is_set():
            raise StoppedError
        now_s = time.monotonic()
        every_s = _TRANSFER_EVERY_S if isinstance(stage, FileStage) else _STAGE_EVERY_S
        if stage == self._stage and completed != total and now_s - self._told_s < every_s:
            return
        if stage == self._stage and self._steps.qsize() >= _LONGEST_QUEUE:
            return
        self._stage, self._told_s = str(stage), now_s
        self._put(step_of(stage, completed, total))

    def _put(self, step: Step | End) -> None:
        # The loop is closed when the daemon has ended meanwhile.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._steps.put_nowait, step)


class PullResponse(Response):
    """The answer to a pull: a line for each step, or its end alone. A client that leaves ends the pull."""

    media_type = "application/x-ndjson"

    def __init__(self, pull: AskedPull, *, stream: bool) -> None:
        super().__init__()
        self._pull = pull
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        left = asyncio.create_task(client_left(receive))
        try:
            if self._stream:
                await self._answer_lines(left, scope, receive, send)
            else:
                await self._answer_once(left, scope, receive, send)
        finally:
            left.cancel()
            self._pull.leave()

    async def _answer_once(self, left: "asyncio.Task[None]", scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            step = await self._next(left)
            if step is None:
                return
            if not isinstance(step, Step):
                await _last_answer(step)(scope, receive, send)
                return

    async def _answer_lines(self, left: "asyncio.Task[None]", scope: Scope, receive: Receive, send: Send) -> None:
        first = await self._next(left, timeout_s=_SOON_S)
        if first is not None and not isinstance(first, Step) and first[0] != 200:  # noqa: PLR2004 - HTTP's OK
            await _last_answer(first)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._line_headers})
        await _send_line(send, Step(status="pulling manifest"))
        step = first if first is not None else await self._next(left)
        while isinstance(step, Step):
            await _send_line(send, step)
            step = await self._next(left)
        if step is not None:
            await _send_line(send, _last(step))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def _line_headers(self) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in self.raw_headers if key != b"content-length"]

    async def _next(self, left: "asyncio.Task[None]", timeout_s: float | None = None) -> Step | End | None:
        """Return the next step; None when the client has left, or none came in time."""
        coming = asyncio.create_task(self._pull.next())
        try:
            await asyncio.wait({coming, left}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()


def _last(end: End) -> BaseModel:
    said = end[1]
    return said if isinstance(said, Problem) else Step(status="success", report=said)


def _last_answer(end: End) -> Response:
    return JSONResponse(_last(end).model_dump(mode="json", exclude_unset=True), end[0])


async def _send_line(send: Send, line: BaseModel) -> None:
    body = f"{line.model_dump_json(exclude_unset=True)}\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
