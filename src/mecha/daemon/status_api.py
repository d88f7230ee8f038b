"""`GET /api/status`: what the daemon knows of itself, its models and its nodes."""

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon


class ModelAnswer(BaseModel):
    """See `mecha.daemon.state.ModelStatus`."""

    name: str
    state: Literal["absent", "pulling", "verifying", "quantizing", "gating", "ready", "degraded"]
    reason: str
    stage: str
    completed: int
    total: int | None
    wanted_by: list[str]
    usable: bool
    tries: int
    retry_at: str | None


class NodeAnswer(BaseModel):
    """See `mecha.daemon.state.NodeStatus`."""

    name: str
    state: str
    pid: int | None
    restarts: int
    reason: str
    stats: dict[str, Any] | None
    swaps: int
    last_error: str


class StatusAnswer(BaseModel):
    """What `mecha daemon status --json` writes."""

    schema_: Literal[1] = Field(1, alias="schema")
    running: bool
    pid: int
    version: str
    project: str
    environment: str | None
    started_at: str | None
    uptime_s: float
    ready: bool
    why: str
    catalog_fault: str
    mirror_fault: str
    models: list[ModelAnswer]
    nodes: list[NodeAnswer]


def status_router(daemon: "Daemon") -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["daemon"])

    @router.get("/api/status", response_model=StatusAnswer)
    def status() -> dict[str, Any]:
        """Return what `mecha daemon status --json` writes."""
        return daemon.status()

    return router
