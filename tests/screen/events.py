"""Events of nodes, as their supervisor hands them on."""

from typing import Any


def state(node: str, word: str, *, pid: int = 1, restarts: int = 0, reason: str = "") -> dict[str, Any]:
    return {"event": "state", "node": node, "state": word, "pid": pid, "restarts": restarts, "reason": reason}


def stats(node: str, **changed: Any) -> dict[str, Any]:
    return {
        "event": "stats",
        "node": node,
        "frames": 100,
        "dropped": 0,
        "p50_ms": 0.42,
        "p95_ms": 1.75,
        "rss_mb": 155.6,
        "fps_in": None,
        "fps_out": 30.04,
        "cpu_percent": 12.4,
        "precision": None,
        "stages": None,
        "stale": False,
        "degraded": "",
    } | changed


def detector_stats(node: str = "object-detector", **changed: Any) -> dict[str, Any]:
    stages = {
        "pre": {"p50": 1.41, "p95": 2.02},
        "session": {"p50": 15.91, "p95": 19.14},
        "post": {"p50": 0.38, "p95": 0.61},
    }
    return stats(
        node,
        **{"fps_in": 30.0, "fps_out": 29.6, "precision": "INT8", "stages": stages, "rss_mb": 312.0} | changed,
    )
