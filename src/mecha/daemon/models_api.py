"""Models over HTTP: pull, tags, ps, show, delete and version as Ollama has them, and the list of `mecha models`."""

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from mecha import __version__
from mecha.catalog.names import NAME_WORDS, is_model_name
from mecha.daemon.asked_pull import AskedPull, PullResponse
from mecha.daemon.hub_settings import settings_digest
from mecha.daemon.local_models import loaded_model, local_model, shown_model
from mecha.daemon.models_shapes import (
    LoadedModels,
    LocalModels,
    ModelLine,
    Models,
    Named,
    PullRequest,
    ShownModel,
    Version,
)
from mecha.daemon.problems import Problem
from mecha.daemon.pull_lines import Step
from mecha.daemon.status_api import ModelAnswer
from mecha.errors import ConfigError, NotFoundError
from mecha.progress import Progress
from mecha.service.report import ModelRow, PullReport
from mecha.service.request import PullOptions
from mecha.service.rows import model_row
from mecha.store.published import BrokenModel, PublishedModel
from mecha.words import printable

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon

_LATEST = ":latest"
"""What clients of Ollama put behind a name that has no tag."""
_SHOWN = 80
"""Letters of a name that is none, in an answer."""
_PULLS = 16
"""That run at a time, asked for over the API."""
_RETRY_S = 10
_LOADED = frozenset({"ready", "running", "paused"})


_REFUSALS: dict[int | str, dict[str, Any]] = {
    statuses: {
        "model": Problem,
        "description": "Not done.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for statuses in ("4XX", "5XX")
}
"""Of a route whose answers are something else than JSON: the framework takes refusals for that too."""


class LenientRoute(APIRoute):
    """Takes a body for JSON whatever its type says: `curl -d` says that it is a form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request of this route."""
        answer = super().get_route_handler()

        async def answer_json(request: Request) -> Response:
            kept = [(key, value) for key, value in request.scope["headers"] if key != b"content-type"]
            scope = {**request.scope, "headers": [*kept, (b"content-type", b"application/json")]}
            return await answer(Request(scope, request.receive))

        return answer_json


def models_router(daemon: "Daemon") -> APIRouter:
    """Return the routes about models."""
    router = APIRouter(tags=["models"], route_class=LenientRoute)
    _add_reading_routes(router, daemon)
    places = BoundedSemaphore(_PULLS)

    @router.post(
        "/api/pull",
        status_code=200,
        response_class=PullResponse,
        responses={
            200: {
                "model": Step,
                "description": "A line for each step and one for the end; with `stream` false the end alone, as JSON.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Step"}}},
            },
            **_REFUSALS,
        },
    )
    async def pull(wanted: PullRequest) -> Response:
        """Bring a model: FP32 from the Hub, INT8 made and measured on this device. Whoever leaves ends it."""
        name = name_of(wanted)
        if wanted.settings is not None and wanted.settings != settings_digest(daemon.environ):
            raise HTTPException(HTTPStatus.PRECONDITION_FAILED, "the daemon was started with another Hub or cache")
        if not places.acquire(blocking=False):
            raise _not_now(HTTPStatus.TOO_MANY_REQUESTS, f"{_PULLS} pulls run already")

        def run(progress: Progress) -> PullReport:
            try:
                return daemon.pull(name, options_of(wanted), progress)
            finally:
                places.release()

        try:
            asked = AskedPull(run)
        except RuntimeError as error:
            places.release()
            raise _not_now(HTTPStatus.SERVICE_UNAVAILABLE, "no thread can be started for it") from error
        return PullResponse(asked, stream=wanted.stream)

    @router.delete("/api/delete", response_class=Response)
    def delete(named: Named) -> Response:
        """Remove a model from this project, unless a node runs it."""
        daemon.remove(name_of(named))
        return Response(status_code=200)

    return router


def _add_reading_routes(router: APIRouter, daemon: "Daemon") -> None:
    @router.get("/api/tags")
    def tags() -> LocalModels:
        """Return all models that are published."""
        return LocalModels(models=[local_model(model) for model in _published(daemon)])

    @router.get("/api/ps")
    def ps() -> LoadedModels:
        """Return all models that nodes run."""
        published = {model.name: model for model in _published(daemon)}
        precisions = {
            node.name: str(node.stats["precision"])
            for node in daemon.state.nodes()
            if node.state in _LOADED and node.stats is not None and node.stats["precision"]
        }
        return LoadedModels(
            models=[
                loaded_model(published[model.name], node, precisions[node])
                for model in daemon.state.models()
                for node in model.wanted_by
                if node in precisions and model.name in published
            ]
        )

    @router.post("/api/show")
    def show(named: Named) -> ShownModel:
        """Return what is known of a model that is published."""
        return shown_model(daemon.service().store.require(name_of(named)))

    @router.get("/api/version")
    def version() -> Version:
        """Return the version of mecha."""
        return Version(version=__version__)

    @router.get("/api/models")
    def models() -> Models:
        """Return every model that a catalog names or that is published."""
        rows, fault = _rows(daemon)
        return Models(models=[_line(row, daemon) for row in rows], fault=fault)

    @router.get("/api/models/{name}")
    def model(name: str) -> dict[str, Any]:
        """Return what `mecha models show NAME --json` writes."""
        return daemon.service().show(checked_name(name))


def options_of(wanted: PullRequest) -> PullOptions:
    """Return how a pull that was asked for differs from the plain one."""
    return PullOptions(
        force=wanted.force,
        revision=wanted.revision,
        offline=wanted.offline,
        frozen=wanted.frozen,
        quantize=wanted.quantize,
        method=wanted.method,
        limit_bytes_per_s=wanted.limit_bytes_per_s,
    )


def name_of(named: Named) -> str:
    """Return the name of the model that a request is about.

    Raises:
        NotFoundError: no model can be called so.
    """
    return checked_name(named.model or named.name)


def checked_name(text: str) -> str:
    """Return the name of a model without the tag that clients of Ollama add.

    Raises:
        NotFoundError: no model can be called so.
    """
    name = text.removesuffix(_LATEST)
    if not is_model_name(name):
        raise NotFoundError(
            f'model: got "{printable(text[:_SHOWN])}"; expected {NAME_WORDS}', hint="GET /api/models names all models."
        )
    return name


def _published(daemon: "Daemon") -> list[PublishedModel]:
    return [model for model in daemon.service().store.all() if isinstance(model, PublishedModel)]


def _rows(daemon: "Daemon") -> tuple[tuple[ModelRow, ...], str]:
    """Return the lines of `mecha models list`; those of published models, and why, where no catalog can be read."""
    service = daemon.service()
    try:
        return service.rows(), ""
    except ConfigError as error:
        found: tuple[PublishedModel | BrokenModel, ...] = service.store.all()
        return tuple(model_row(model.name, None, model, "unlisted") for model in found), str(error)


def _line(row: ModelRow, daemon: "Daemon") -> ModelLine:
    published = daemon.service().store.published(row.name) if row.state in {"ready", "fp32-only"} else None
    int8 = published.manifest.int8 if published is not None else None
    gate = int8.gate if int8 is not None else None
    status = daemon.state.model(row.name)
    return ModelLine.model_validate(
        {
            **asdict(row),
            "speedup": gate.speedup if gate else None,
            "agreement": gate.agreement.agreement if gate and gate.agreement else None,
            "fp32_ms": gate.latency.fp32_ms if gate and gate.latency else None,
            "int8_ms": gate.latency.int8_ms if gate and gate.latency else None,
            "provisional": bool(int8 and int8.calibration and int8.calibration.provisional),
            "status": ModelAnswer.model_validate(status.to_json()) if status is not None else None,
        }
    )


def _not_now(status: HTTPStatus, why: str) -> HTTPException:
    return HTTPException(status, why, headers={"Retry-After": str(_RETRY_S)})
