"""`GET /metrics`: the daemon in numbers, for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from mecha.daemon.metrics import Metrics

_TEXT = "text/plain"


def metrics_router(metrics: Metrics) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["daemon"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {
                "content": {
                    _TEXT: {"schema": {"type": "string"}},
                    "application/openmetrics-text": {"schema": {"type": "string"}},
                }
            }
        },
    )
    def numbers(accept: Annotated[str, Header()] = "") -> Response:
        """Return all figures, as Prometheus reads them."""
        text, content_type = metrics.text(accept)
        return Response(text, headers={"Content-Type": content_type})

    return router
