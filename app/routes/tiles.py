"""Land cover tiles. The ETag is answered before any work; a warm tile is one look-up."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.grid.tile import CRS, TMS_NAMES
from app.render import geotiff
from app.render.images import MEDIA_TYPES, Palette, render, shown_values
from app.render.transition import BASE, stayed, transition_table
from app.routes.requests import selections_of, while_connected
from app.routes.schemas import TileQuery, TileRequest, openapi_parameters, tile_request
from app.sampling.placer import Layer, Placed
from app.sampling.tiles import TilePlan, compose, plan_tile
from app.services import Rendered, Services
from model.session import Session

router = APIRouter(tags=["tiles"])

_DOCUMENTED = openapi_parameters(TileQuery)
_ANSWERS = {
    200: {"content": {media: {} for media in MEDIA_TYPES.values()}, "description": "The tile."},
    304: {"description": "The client's copy is still valid."},
}


@router.get(
    "/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
    response_class=Response,
    responses=_ANSWERS,  # type: ignore[arg-type]
    openapi_extra=_DOCUMENTED,
)
async def tile(request: Request) -> Response:
    """Return one land cover tile; `y` may end in `@2x` and `.png`, `.webp`, `.tif` or `.npy`."""
    path = request.path_params
    return await _answer(request, path["tileMatrixSetId"], path["z"], path["x"], path["y"])


@router.get("/{z}/{x}/{y}", response_class=Response, openapi_extra=_DOCUMENTED)
async def tile_alias(request: Request) -> Response:
    """Return the same tile, at the short address that map libraries expect."""
    path = request.path_params
    return await _answer(request, TMS_NAMES[0], path["z"], path["x"], path["y"])


async def _answer(request: Request, tms: str, z: str, x: str, y: str) -> Response:
    services: Services = request.app.state.services
    scope = request.scope
    address = (scope["path"], scope["query_string"], services.generation)
    rendered = services.rendered.get(address)
    if rendered is not None:
        scope["outcome"] = "memory"
        return _send(request, services, rendered)
    tile = tile_request(tms, z, x, y, scope["query_string"])
    selections = selections_of(services, tile.query)
    planning = plan_tile(services.landcover, selections, tile.tile)
    plan = await while_connected(request, planning, services.settings.deadline_s)
    session = selections[-1].session
    etag = _etag(plan, tile, session)
    if _matches(request, etag):
        return _send(request, services, Rendered(etag, "", b"", (), selections[-1].source.id))
    work = _render(services, plan, tile, etag)
    rendered = await while_connected(request, work, services.settings.deadline_s)
    scope["outcome"] = "full" if rendered.etag else "partial"
    if rendered.etag:
        services.rendered.put(address, rendered, len(rendered.content) + 1024)
    return _send(request, services, rendered)


async def _render(services: Services, plan: TilePlan, tile: TileRequest, etag: str) -> Rendered:
    selection, _ = plan.parts[-1]
    layer: Layer = "confidence" if tile.query.layer == "confidence" else "class"
    placed = await compose(services.landcover, plan, layer, services.settings.block_budget)
    content = await services.reads.run(_encode, placed, tile, selection.session)
    scenes = list(placed.scenes)
    headers = (
        ("X-Landcover-Quality", "full" if placed.complete else "partial"),
        ("X-Landcover-Scenes", ",".join(scene.id for scene in scenes[:20])),
        ("X-Landcover-Dates", ",".join(sorted({s.date for s in scenes if s.date})[-20:])),
    )
    kept_as = etag if placed.complete else ""
    return Rendered(kept_as, MEDIA_TYPES[tile.suffix], content, headers, selection.source.id)


def _encode(placed: Placed, tile: TileRequest, session: Session) -> bytes:
    palette = _palette(tile.query, session, data=tile.suffix in ("tif", "npy"))
    if tile.suffix != "tif":
        return render(placed.values, palette, tile.suffix)
    values = shown_values(placed.values, palette)
    return geotiff.tile_tif(
        values, palette.colors, tile.tile.bounds, CRS, session.metadata, tuple(placed.scenes)
    )


def _palette(query: TileQuery, session: Session, data: bool = False) -> Palette:
    """Return the colors of a tile's values.

    Of change, what stayed is transparent in an image and kept in a file of `data`.
    """
    if query.layer == "confidence":
        return Palette.of_confidence()
    legend = session.card.legend
    colors = query.colors(legend.colors(query.colormap_name))
    shown = query.shown(legend.values)
    if query.layer == "change":
        kept = [
            (entry.value, entry.rgb)
            for entry in transition_table(legend, colors)
            if (data or not stayed(entry.value)) and (shown is None or entry.value % BASE in shown)
        ]
        return Palette(tuple(kept))
    return Palette.of_classes(legend, colors, shown)


def _etag(plan: TilePlan, tile: TileRequest, session: Session) -> str:
    """Return a digest of the blocks' keys and of how they are drawn; no pixel is read for it."""
    palette = _palette(tile.query, session)
    text = f"{plan.digest} {tile.tile} {tile.suffix} {tile.query.layer} {palette.colors}"
    return f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def _matches(request: Request, etag: str) -> bool:
    """Return whether If-None-Match names the tag (RFC 9110 13.1.2)."""
    header = request.headers.get("if-none-match")
    if not header or not etag:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return header.strip() == "*" or etag in tags


def _send(request: Request, services: Services, rendered: Rendered) -> Response:
    headers = dict(rendered.headers)
    if services.sources.get(rendered.source).unavailable:
        # From the cache: whether the imagery is still the same cannot be checked.
        headers["X-Landcover-Stale"] = "true"
    if not rendered.etag:
        headers["cache-control"] = "no-store"
        return Response(rendered.content, 200, headers, rendered.media_type)
    headers["etag"] = rendered.etag
    headers["cache-control"] = f"public, max-age={services.settings.tile_max_age}"
    if _matches(request, rendered.etag):
        return Response(status_code=304, headers=headers)
    return Response(rendered.content, 200, headers, rendered.media_type)
