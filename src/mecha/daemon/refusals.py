"""Answers that refuse a request for what it is, or for when it comes: no failure of anything."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from mecha.daemon.problems import Problem, problem_of, status_of
from mecha.errors import MechaError


def refused(status: int, error: str, hint: str = "", headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer that says why a request is not done."""
    return JSONResponse(Problem(error=error, hint=hint).model_dump(), status, dict(headers or {}))


def failed(error: MechaError, status: int | None = None) -> JSONResponse:
    """Return the answer that says what failed; `status` where it is another one than usually."""
    return JSONResponse(problem_of(error).model_dump(), status or status_of(error))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the description of the API says of these statuses."""
    return {status: {"model": Problem} for status in statuses}
