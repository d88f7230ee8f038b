"""The routes about nodes, pictures, events and figures, together."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from mecha.daemon.detect_api import Detection, detect_router
from mecha.daemon.events_api import events_router
from mecha.daemon.health_api import health_router
from mecha.daemon.metrics import Metrics
from mecha.daemon.metrics_api import metrics_router
from mecha.daemon.nodes_api import nodes_router

if TYPE_CHECKING:
    from mecha.daemon.daemon import Daemon


def device_router(daemon: "Daemon") -> APIRouter:
    """Return the routes; figures are counted from now on."""
    detection = Detection(daemon)
    router = APIRouter()
    for part in (
        health_router(daemon),
        nodes_router(daemon),
        events_router(daemon),
        detect_router(detection),
        metrics_router(Metrics(daemon, detection.counts)),
    ):
        router.include_router(part)
    return router
