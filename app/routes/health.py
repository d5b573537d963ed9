"""What operators' machines ask: is it alive, is it ready, what has it done."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app.monitoring import metrics
from app.services import Services

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=None)
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(request: Request) -> Response:
    """Ready for requests, and what is degraded: that costs speed, not answers."""
    services: Services = request.app.state.services
    cache = services.landcover.cache
    degraded = cache.degraded
    gone = {each.id: each.unavailable for each in services.sources if each.unavailable}
    # One source that is away is no reason to take the others away too.
    nothing = len(gone) == sum(1 for _ in services.sources)
    content = {
        "status": "unavailable" if nothing else "ready",
        "models": {name: session.sha256 for name, session in services.models.items()},
        "engines": {name: str(each.engine.spec) for name, each in services.models.items()},
        "sources_unavailable": sorted(gone),
        "reasons": gone,
        "cache_degraded": degraded.get("disk"),
        "redis": degraded.get("redis", "ok") if cache.redis else None,
        "blocks_in_work": services.gate.inside,
    }
    return JSONResponse(content, 503 if nothing else 200)


@router.get("/metrics", response_model=None)
async def prometheus(request: Request) -> Response:
    """Counters, gauges and histograms of all processes, in the text format of Prometheus."""
    services: Services = request.app.state.services
    content = await run_in_threadpool(metrics.page, *services.collectors)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
