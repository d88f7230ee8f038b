"""The daemon as a web application: its routers, and what it answers when something fails."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from mecha import __version__
from mecha.daemon.device_api import device_router
from mecha.daemon.models_api import models_router
from mecha.daemon.page import page_router
from mecha.daemon.problems import Problem, problem_of, status_of
from mecha.daemon.status_api import status_router
from mecha.errors import MechaError
from mecha.hub.mirror_answers import ReadableQueries

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon

_FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "Not done: the reason is the request, or what it asks for."},
    "5XX": {"model": Problem, "description": "Not done: the reason is this device, or the Hub."},
}
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_DESCRIPTION = "Keeps models and nodes of a device as its catalog, lock and configs describe them."


def daemon_app(daemon: "Daemon") -> FastAPI:
    """Return the application that answers for a daemon; who may use it is for `Access.guard` around it to say."""
    # No pages that show the description: they would load scripts of third parties.
    app = FastAPI(
        title="mecha", description=_DESCRIPTION, version=__version__, docs_url=None, redoc_url=None, responses=_FAILURES
    )
    for router in _routers(daemon):
        app.include_router(router)
    app.add_exception_handler(MechaError, _told)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(ReadableQueries)
    return app


def _routers(daemon: "Daemon") -> Iterator[APIRouter]:
    yield status_router(daemon)
    yield models_router(daemon)
    yield page_router()
    yield device_router(daemon)


def _answer(status: int, problem: Problem) -> Response:
    return JSONResponse(problem.model_dump(), status)


def _told(_request: Request, error: Exception) -> Response:
    if not isinstance(error, MechaError):
        raise error
    return _answer(status_of(error), problem_of(error))


def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return _answer(HTTPStatus.BAD_REQUEST, Problem(error="; ".join(_sentence(fault) for fault in error.errors())))


def _sentence(fault: Mapping[str, Any]) -> str:
    """Say where a request is wrong; not what stood there, which may be anything."""
    if fault["type"] == "json_invalid":
        return f"body: got no JSON: {fault['ctx']['error']}"
    where = ".".join(str(part) for part in fault["loc"])
    said = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {said[:1].lower()}{said[1:]}"


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    answer = _answer(error.status_code, Problem(error=str(error.detail)))
    answer.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """Return what a path can be asked for by any of its routes; the framework names those of the first one."""
    scopes = [(method, {**request.scope, "method": method}) for method in _METHODS]
    routes = request.app.router.routes
    return [method for method, scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _broken(_request: Request, error: Exception) -> Response:
    """Answer for a mistake of this program; the server that runs the application logs the trace."""
    problem = Problem(
        error=f"the daemon made a mistake ({type(error).__name__})", hint="Its log has the trace; please report it."
    )
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, problem)
