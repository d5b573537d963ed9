"""The application: settings → services → routes. Nothing is built at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import __version__
from app.access import Clients, Quota
from app.jobs.service import JobService
from app.routes import (
    areas,
    clients,
    health,
    imagery,
    jobs,
    legend_picture,
    map_page,
    map_style,
    meta,
    ogc,
    openapi,
    point,
    problems,
    processes,
    sources,
    tiles,
    wmts,
)
from app.routes.access import Identified
from app.routes.compression import Compressed
from app.routes.cors import CrossOrigin
from app.routes.forwarded import Forwarded
from app.routes.middleware import HeadAsGet, Observed
from app.routes.results import JobHasNoResults
from app.services import Services
from app.settings import Settings

DESCRIPTION = "1 m land cover of any place NAIP aerial imagery covers, on demand."


def create_app(settings: Settings | None = None, services: Services | None = None) -> FastAPI:
    """Return the ASGI application; `settings` default to the environment, `services` to theirs.

    The services are closed with the application. ConfigurationError at start-up when the settings
    cannot work.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        app.state.services = services or Services(settings)
        redis = app.state.services.landcover.cache.redis
        if redis:
            await redis.look()
        watch = asyncio.create_task(app.state.services.watch())
        app.state.jobs = await asyncio.to_thread(
            JobService, app.state.services, asyncio.get_running_loop()
        )
        try:
            yield {"body_bytes": settings.body_kb * 1024}
        finally:
            watch.cancel()
            app.state.services.backfill.close()
            # In a thread: work in progress is stopped on this loop.
            await asyncio.to_thread(app.state.jobs.close)
            if redis:
                await redis.close()
            app.state.services.close()

    app = FastAPI(
        title="Land cover tiles",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api",
        docs_url=None,  # app.routes.map_page: FastAPI's loads its script from elsewhere
        redoc_url=None,
    )
    openapi.install(app)
    problems.install(app)
    app.add_exception_handler(JobHasNoResults, jobs.no_results)
    # Tiles last: their short address matches any three segments.
    for module in (
        health,
        meta,
        sources,
        point,
        imagery,
        map_page,
        areas,
        processes,
        jobs,
        legend_picture,
        wmts,
        ogc,
        map_style,
        clients,
        tiles,
    ):
        app.include_router(module.router)
    app.add_middleware(tiles.WarmTiles)
    app.add_middleware(Identified, clients=_clients_of(settings))
    app.add_middleware(Compressed)
    app.add_middleware(CrossOrigin, origins=settings.cors_origins)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Observed, access_log=settings.access_log)
    app.add_middleware(Forwarded, trusted=settings.trusted_proxies, root_path=settings.root_path)
    return app


def _clients_of(settings: Settings) -> Clients:
    quota = Quota(settings.jobs_per_client, settings.job_mb_per_client * 1_000_000)
    key = settings.operator_key.get_secret_value() if settings.operator_key else None
    return Clients(quota, key, settings.keys)
