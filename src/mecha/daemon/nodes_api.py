"""`/api/nodes`: what nodes do, what they run with and what they see; and orders to them."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Header, Path
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from mecha.daemon.live_view import LiveView, Picture
from mecha.daemon.node_config import ConfigAnswer, NodeConfigs
from mecha.daemon.refusals import failed, problems, refused
from mecha.daemon.topics import LatestMessages
from mecha.errors import ConfigError
from mecha.runtime.messages import ControlMessage

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon
    from mecha.daemon.state import NodeStatus

_UNPROCESSABLE = 422
_JPEG = "image/jpeg"
Name = Annotated[str, Path(description="Name of a node.")]


class NodeRow(BaseModel):
    """A node, and what it does."""

    name: str
    state: str = Field(
        description="waiting, starting, ready, running, paused, restarting, hung, stopping, ended, failed"
    )
    pid: int | None
    restarts: int
    reason: str
    stats: dict[str, Any] | None = Field(description='Its last "stats" event; null before the first.')
    swaps: int
    last_error: str
    model: str | None = Field(description="What its config asks for; null for a node without a model.")


class NodeRows(BaseModel):
    """All nodes of the project, by name."""

    nodes: list[NodeRow]


class Order(BaseModel):
    """What was asked of a node; its events tell when it is done."""

    node: str
    order: str


class Sent(BaseModel):
    """The command that was sent to the detectors."""

    sent: dict[str, Any]


class Command(ControlMessage):
    """A command from outside: nothing is taken for true or false that is something else."""

    model_config = ConfigDict(strict=True)


class FoundThere(BaseModel):
    """What a node found last; boxes are x1, y1, x2, y2 in pixels of the frame."""

    frame: int
    captured_at: int
    width: int
    height: int
    precision: str
    model: str
    model_digest: str
    detections: list[dict[str, Any]]
    ms: dict[str, float]
    source: str
    stale: bool


def nodes_router(daemon: "Daemon") -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["nodes"])
    _add_orders(router, daemon)
    _add_configs(router, daemon, NodeConfigs(daemon.environ))
    _add_views(router, daemon, LiveView(LatestMessages(lambda: daemon.nodes.bus)))
    return router


def _add_orders(router: APIRouter, daemon: "Daemon") -> None:
    @router.get("/api/nodes")
    def nodes() -> NodeRows:
        """Return all nodes with their state and figures."""
        models = {node: model.name for model in daemon.state.models() for node in model.wanted_by}
        return NodeRows(nodes=[_row(node, models.get(node.name)) for node in daemon.state.nodes()])

    @router.post("/api/nodes/{name}/restart", status_code=202, responses=problems(404, 503))
    def restart(name: Name) -> Order:
        """Stop a node in order and start it again, one that has failed too."""
        daemon.nodes.restart(name)
        return Order(node=name, order="restart")

    @router.post("/api/nodes/{name}/pause", status_code=202, responses=problems(404, 503))
    def pause(name: Name) -> Order:
        """Hold a node between two frames."""
        daemon.nodes.pause(name)
        return Order(node=name, order="pause")

    @router.post("/api/nodes/{name}/resume", status_code=202, responses=problems(404, 503))
    def resume(name: Name) -> Order:
        """Let a node go on."""
        daemon.nodes.resume(name)
        return Order(node=name, order="resume")

    @router.post("/api/control", responses=problems(_UNPROCESSABLE, 503))
    def control(message: Command) -> Sent:
        """Tell the detectors what to do until their config.json says something else."""
        daemon.nodes.control(message)
        return Sent(sent=message.model_dump(exclude_none=True))


def _add_configs(router: APIRouter, daemon: "Daemon", configs: NodeConfigs) -> None:
    responses = problems(404, _UNPROCESSABLE, 503)

    @router.get("/api/nodes/{name}/config", response_model=ConfigAnswer, responses=responses)
    def config(name: Name) -> ConfigAnswer | JSONResponse:
        """Return what a node runs with: its files together, with the defaults."""
        try:
            return configs.read(daemon.project, name)
        except ConfigError as error:
            return failed(error, _UNPROCESSABLE)

    @router.patch("/api/nodes/{name}/config", response_model=ConfigAnswer, responses=problems(400, 507) | responses)
    def change(
        name: Name, values: Annotated[dict[str, Any], Body(examples=[{"use_int8": True}])]
    ) -> ConfigAnswer | JSONResponse:
        """Write values into the config.json of a node: all of them, or none where one would be refused."""
        try:
            return configs.change(daemon.project, name, values)
        except ConfigError as error:
            return failed(error, _UNPROCESSABLE)


def _add_views(router: APIRouter, daemon: "Daemon", view: LiveView) -> None:  # noqa: ARG001 - as the others
    nothing = {"Retry-After": "1", "Cache-Control": "no-store"}

    @router.get(
        "/api/nodes/{name}/frame.jpg",
        response_class=Response,
        responses={
            200: {"content": {_JPEG: {"schema": {"type": "string", "format": "binary"}}}},
            304: {"description": "No newer frame has come."},
            **problems(404, 503),
        },
    )
    def frame(name: Name, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """Return the last frame that a node published or reads, at most ten new ones a second."""
        picture = view.picture(name)
        if picture is None:
            return refused(503, f"{name}: no frame has come yet", headers=nothing)
        headers = _headers(picture)
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(picture.jpeg, media_type=_JPEG, headers=headers)

    @router.get("/api/nodes/{name}/detections", response_model=FoundThere, responses=problems(404, 503))
    def detections(name: Name, response: Response) -> FoundThere | JSONResponse:
        """Return what a node found last, to be drawn on the frame of this number."""
        found = view.detections(name)
        if found is None:
            return refused(503, f"{name}: nothing was detected in yet", headers=nothing)
        response.headers["Cache-Control"] = "no-store"
        return FoundThere(**{key: getattr(found, key) for key in FoundThere.model_fields})


def _headers(picture: Picture) -> dict[str, str]:
    return {
        "ETag": f'"{picture.captured_at}-{picture.seq}"',
        "Cache-Control": "no-store",
        "X-Frame": str(picture.seq),
        "X-Frame-Size": f"{picture.width}x{picture.height}",
        "X-Captured-At": str(picture.captured_at),
    }


def _row(node: "NodeStatus", model: str | None) -> NodeRow:
    return NodeRow(**node.to_json(), model=model)
