"""What uvicorn says to the log: what clients do is told once in a while."""

import asyncio
import logging
import time

_TELL_EVERY_S = 10.0


class _Quiet(logging.Filter):
    """Holds back what any client could fill a log with, and what only says that the server ends."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if record.exc_info is not None:
            return not isinstance(record.exc_info[1], asyncio.CancelledError)
        if record.msg.startswith("Cancel %s running task(s)"):
            return False
        now_s = time.monotonic()
        if now_s - self._told_s.get(record.msg, -_TELL_EVERY_S) < _TELL_EVERY_S:
            return False
        self._told_s[record.msg] = now_s
        return True


_QUIET = _Quiet()


def quiet_server_log() -> None:
    """Keep the log of this process's servers short: each sentence once in ten seconds, no trace of answers cut off."""
    logging.getLogger("uvicorn.error").addFilter(_QUIET)
