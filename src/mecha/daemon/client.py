"""The models of a project through its daemon, where one runs; what it does not do, this process does alone."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any

from mecha.catalog.names import is_model_name
from mecha.daemon.asking import SocketConnection
from mecha.daemon.hub_settings import settings_digest
from mecha.daemon.place import DaemonPlace
from mecha.progress import Progress, silent
from mecha.project import Project
from mecha.service.report import ModelRow, PullReport

if TYPE_CHECKING:
    from mecha.service.models import ModelService
    from mecha.service.request import PullOptions

_OPTIONS = ("force", "revision", "offline", "frozen", "quantize", "method", "limit_bytes_per_s")
"""Of a pull, those that can be asked for over the API."""


class _SilentError(Exception):
    """The daemon does not answer, or answers what only a daemon can mean."""


class DaemonModels:
    """Does what `ModelService` does, by the daemon that keeps the project where one does.

    Args:
        environ: of this process.
        alone: makes the service that does it otherwise.
    """

    def __init__(self, project: Project, environ: Mapping[str, str], alone: "Callable[[], ModelService]") -> None:
        self.project = project
        self._environ = environ
        self._alone = alone
        self._place = DaemonPlace.of_running(project.root, environ)

    def rows(self) -> tuple[ModelRow, ...]:
        """Return the lines of `mecha models list`; raises as `ModelService.rows`."""
        try:
            told = self._asked("GET", "/api/models")
            if not told["fault"]:
                keys = [field.name for field in fields(ModelRow)]
                return tuple(ModelRow(**{key: line[key] for key in keys}) for line in told["models"])
        except (_SilentError, KeyError):
            pass
        return self._alone().rows()

    def show(self, name: str) -> dict[str, Any]:
        """Return what `mecha models show` shows; raises as `ModelService.show`."""
        try:
            return self._asked("GET", f"/api/models/{_checked(name)}")
        except _SilentError:
            return self._alone().show(name)

    def remove(self, name: str) -> None:
        """Remove a model.

        Raises:
            BusyError: a node of the daemon runs it.
            MechaError: as `ModelService.remove`.
        """
        try:
            self._asked("DELETE", "/api/delete", {"model": _checked(name)})
        except _SilentError:
            self._alone().remove(name)

    def pull(self, name: str, options: "PullOptions", progress: Progress = silent) -> PullReport:
        """Pull a model. Ends the pull of the daemon where it is left, as by Ctrl-C; raises as `ModelService.pull`.

        What a daemon has begun and does not end, because it was killed, is gone on with here.
        """
        try:
            return self._pulled(_checked(name), options, progress)
        except _SilentError:
            return self._alone().pull(name, options, progress)

    def _pulled(self, name: str, options: "PullOptions", progress: Progress) -> PullReport:
        asked = {key: value for key, value in asdict(options).items() if key in _OPTIONS}
        # A service has a Hub and a cache of its own; what root's shell says of them is not meant for it.
        own = self._place.folder == DaemonPlace(self.project.root, self._environ).folder
        body = {"model": name, **({"settings": settings_digest(self._environ)} if own else {}), **asked}
        with self._answer("POST", "/api/pull", body) as answer:
            for line in _lines(answer):
                if "error" in line:
                    raise _raised(line)
                if line.get("report") is not None:
                    return _report_of(line["report"])
                if line.get("stage"):
                    progress(line["stage"], line.get("completed") or 0, line.get("total"))
        raise _SilentError

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with self._answer(method, path, body) as answer:
            return next(_lines(answer), {})

    @contextmanager
    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[HTTPResponse]:
        """Ask, and yield the answer, to be read within the context.

        Raises:
            MechaError: it says that it failed.
        """
        if self._place.pid is None or not hasattr(socket, "AF_UNIX"):
            raise _SilentError
        with closing(SocketConnection(self._place.address)) as connection:
            try:
                sent = None if body is None else json.dumps(body)
                connection.request(method, path, sent, {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except (OSError, HTTPException) as error:
                raise _SilentError from error
            if connection.sock is not None:
                # It has begun, so it lives; its work may say nothing for long.
                connection.sock.settimeout(None)
            if answer.status != HTTPStatus.OK:
                raise _raised(next(_lines(answer), {}))
            yield answer


def _checked(name: str) -> str:
    """Return a name that can stand in a request; what is no name is for the service to refuse."""
    if not is_model_name(name):
        raise _SilentError
    return name


def _lines(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Give the documents of an answer, one a line; a daemon that was killed ends it in the middle of one."""
    try:
        for line in answer:
            yield dict(json.loads(line))
    except (OSError, HTTPException, ValueError, TypeError) as error:
        raise _SilentError from error


def _raised(problem: Mapping[str, Any]) -> Exception:
    """Return the error that an answer says; a request that the daemon does not take is done alone."""
    from mecha.daemon.problems import error_of

    return error_of(problem, HTTPStatus.INTERNAL_SERVER_ERROR) if problem.get("kind") else _SilentError()


def _report_of(said: Mapping[str, Any]) -> PullReport:
    known = {field.name: said[field.name] for field in fields(PullReport) if field.name in said}
    change = known.get("change")
    return PullReport(**{**known, "change": tuple(change) if change else None})
