"""Health, readiness and metrics, for operators' machines."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app.monitoring import metrics
from app.routes.sources import last_refresh
from app.services import Services

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=None)
async def healthz() -> dict[str, str]:
    """Report that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(request: Request) -> Response:
    """Report readiness, and what is degraded: that costs speed, not answers."""
    services: Services = request.app.state.services
    cache = services.landcover.cache
    degraded = cache.degraded
    unavailable = {each.id: each.unavailable for each in services.sources if each.unavailable}
    # One unavailable source does not take the others with it.
    none_left = len(unavailable) == sum(1 for _ in services.sources)
    content = {
        "status": "unavailable" if none_left else "ready",
        "models": {name: session.sha256 for name, session in services.models.items()},
        "engines": {name: str(each.engine.spec) for name, each in services.models.items()},
        "model_refused": services.model_refused,
        "sources_unavailable": sorted(unavailable),
        "reasons": unavailable,
        "sources": {
            each.id: {"unavailable": each.unavailable, "last_refresh": last_refresh(each)}
            for each in services.sources
        },
        "cache_degraded": degraded.get("disk"),
        "redis": degraded.get("redis", "ok") if cache.redis else None,
        "jobs_unavailable": request.app.state.jobs.store.trouble,
        "blocks_in_work": services.gate.inside,
    }
    return JSONResponse(content, 503 if none_left else 200)


@router.get("/metrics", response_model=None)
async def prometheus(request: Request) -> Response:
    """Return counters, gauges and histograms of all processes in the text format of Prometheus."""
    services: Services = request.app.state.services
    content = await run_in_threadpool(metrics.page, *services.collectors)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
