"""`GET /healthz` and `/readyz`: for what restarts the daemon, and for what waits for it."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon

_UNAVAILABLE = 503


class Health(BaseModel):
    """Whether the daemon itself works, whatever becomes of its models and nodes."""

    alive: bool


class Ready(BaseModel):
    """Whether everything that the project asks for is there and works."""

    ready: bool
    why: str = Field(description='What is missing, in a sentence; "" when nothing is.')


def health_router(daemon: "Daemon") -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["daemon"])

    @router.get("/healthz", responses={_UNAVAILABLE: {"model": Health}})
    def health(response: Response) -> Health:
        """Tell whether the daemon is alive; 503 where it should be started again."""
        alive = daemon.running and daemon.alive
        response.status_code = 200 if alive else _UNAVAILABLE
        return Health(alive=alive)

    @router.get("/readyz", responses={_UNAVAILABLE: {"model": Ready}})
    def readiness(response: Response) -> Ready:
        """Tell whether every model that is needed can be used and every node works; 503 and why, where not."""
        ready = daemon.ready
        response.status_code = 200 if ready.ok else _UNAVAILABLE
        return Ready(ready=ready.ok, why=ready.why)

    return router
