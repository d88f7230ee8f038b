"""What the daemon answers when something fails: one sentence, what to do, and a status that programs understand."""

from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel, Field

from mecha import errors
from mecha.errors import MechaError
from mecha.redaction import redacted

_STATUS: dict[type[MechaError], HTTPStatus] = {
    errors.UsageError: HTTPStatus.BAD_REQUEST,
    errors.ConfigError: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.NetworkError: HTTPStatus.BAD_GATEWAY,
    errors.OfflineError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IntegrityError: HTTPStatus.BAD_GATEWAY,
    errors.DiskError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.QuantizationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NodeError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BusyError: HTTPStatus.CONFLICT,
}


class Problem(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="One sentence: where, what, got, expected.")
    hint: str = Field(default="", description="What to do next; empty where the sentence says it all.")
    kind: str = Field(default="", description="The class of docs/errors.md; empty where the request itself is wrong.")


def status_of(error: MechaError) -> HTTPStatus:
    """Return the status of an answer that says this error."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_of(error: MechaError) -> Problem:
    """Return what the answer says of an error, without secrets."""
    return Problem(error=redacted(str(error)), hint=redacted(error.hint), kind=_kind_of(error))


def error_of(problem: Mapping[str, object], status: int) -> MechaError:
    """Return the error that an answer says: of the class that was raised in the daemon, so with its exit code."""
    kind = getattr(errors, str(problem.get("kind", "")), None)
    known = isinstance(kind, type) and issubclass(kind, MechaError)
    said = str(problem.get("error", "")) or f"the daemon answered {status}"
    return (kind if known and kind is not None else errors.NodeError)(said, hint=str(problem.get("hint", "")))


def _kind_of(error: MechaError) -> str:
    """Return the name of the nearest class of mecha/errors.py."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
