"""Land cover tiles. The ETag is answered before any work; a warm tile is one look-up."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.grid.tile import CRS, TMS_NAMES
from app.landcover.blocks import Selection
from app.render import geotiff
from app.render.images import MEDIA_TYPES, Palette, render, shown_values
from app.render.transition import BASE, stayed, transition_table
from app.routes.requests import selections_of, while_connected
from app.routes.schemas import TileQuery, TileRequest, openapi_parameters, tile_request
from app.sampling.confidence import without_doubtful
from app.sampling.tiles import View, compose, compose_change, fingerprint
from app.services import Rendered, Services
from model.session import Session

router = APIRouter(tags=["tiles"])

_DOCUMENTED = openapi_parameters(TileQuery)
_ANSWERS = {
    200: {"content": {media: {} for media in MEDIA_TYPES.values()}, "description": "The tile."},
    304: {"description": "The client's copy is still right."},
}


@router.get(
    "/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
    response_class=Response,
    responses=_ANSWERS,  # type: ignore[arg-type]
    openapi_extra=_DOCUMENTED,
)
async def tile(request: Request) -> Response:
    """One land cover tile; `y` may end in `@2x` and `.png`, `.webp`, `.tif` or `.npy`."""
    path = request.path_params
    return await _answer(request, path["tileMatrixSetId"], path["z"], path["x"], path["y"])


@router.get("/{z}/{x}/{y}", response_class=Response, openapi_extra=_DOCUMENTED)
async def tile_alias(request: Request) -> Response:
    """The same, as the short address that map libraries expect."""
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
    asked = tile_request(tms, z, x, y, scope["query_string"])
    selections = selections_of(services, asked.query)
    source = selections[-1].source
    if source.shows(asked.tile):
        for each in selections:
            ground = services.landcover.prepare(each, asked.tile.lonlat_bounds)
            await while_connected(request, ground, services.settings.deadline_s)
    etag = _etag(services, selections, asked)
    if _matches(request, etag):
        return _send(request, services, Rendered(etag, "", b"", (), source.id))
    work = _render(services, selections, asked, etag)
    rendered = await while_connected(request, work, services.settings.deadline_s)
    scope["outcome"] = "full" if rendered.etag else "partial"
    if rendered.etag:
        services.rendered.put(address, rendered, len(rendered.content) + 1024)
    return _send(request, services, rendered)


async def _render(
    services: Services, selections: list[Selection], asked: TileRequest, etag: str
) -> Rendered:
    view = await _view(services, asked, selections)
    content = await services.reads.run(_encode, view, asked, selections[-1].session)
    headers = [
        ("X-Landcover-Quality", "full" if view.complete else "partial"),
        ("X-Landcover-Scenes", ",".join(scene.id for scene in view.scenes[:20])),
        ("X-Landcover-Dates", ",".join(sorted({s.date for s in view.scenes if s.date})[-20:])),
    ]
    kept_as = etag if view.complete else ""
    media_type = MEDIA_TYPES[asked.suffix]
    return Rendered(kept_as, media_type, content, tuple(headers), selections[-1].source.id)


async def _view(services: Services, asked: TileRequest, selections: list[Selection]) -> View:
    layer, budget = asked.query.layer, services.settings.block_budget
    if layer != "change":
        view = await compose(services.landcover, selections[0], asked.tile, layer, budget)
        if not (least := asked.query.min_confidence):
            return view
        return await without_doubtful(
            view, services.landcover, selections[0], asked.tile, least, budget
        )
    before, after = selections
    return await compose_change(services.landcover, before, after, asked.tile, budget)


def _encode(view: View, asked: TileRequest, session: Session) -> bytes:
    palette = _palette(asked.query, session, data=asked.suffix in ("tif", "npy"))
    if asked.suffix != "tif":
        return render(view.array, palette, asked.suffix)
    array = shown_values(view.array, palette)
    return geotiff.tile_tif(
        array, palette.colors, asked.tile.bounds, CRS, session.metadata, view.scenes
    )


def _palette(query: TileQuery, session: Session, data: bool = False) -> Palette:
    """Of change, what stayed is transparent in an image and kept in a file of `data`."""
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


def _etag(services: Services, selections: list[Selection], asked: TileRequest) -> str:
    """Digest of the blocks' keys and of how they are drawn; no pixel is read for it."""
    palette = _palette(asked.query, selections[-1].session)
    style = f"{asked.tile} {asked.suffix} {asked.query.layer} {palette.colors}"
    style += f" {asked.query.min_confidence}"
    blocks = " ".join(fingerprint(services.landcover, each, asked.tile) for each in selections)
    return f'"{hashlib.blake2b(f"{blocks} {style}".encode(), digest_size=12).hexdigest()}"'


def _matches(request: Request, etag: str) -> bool:
    """RFC 9110 If-None-Match."""
    asked = request.headers.get("if-none-match")
    if not asked or not etag:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in asked.split(","))
    return asked.strip() == "*" or etag in tags


def _send(request: Request, services: Services, rendered: Rendered) -> Response:
    headers = dict(rendered.headers)
    if services.sources.get(rendered.source).unavailable:
        # From what is kept: the imagery cannot be asked whether it is still the same.
        headers["X-Landcover-Stale"] = "true"
    if not rendered.etag:
        headers["cache-control"] = "no-store"
        return Response(rendered.content, 200, headers, rendered.media_type)
    headers["etag"] = rendered.etag
    headers["cache-control"] = f"public, max-age={services.settings.tile_max_age}"
    if _matches(request, rendered.etag):
        return Response(status_code=304, headers=headers)
    return Response(rendered.content, 200, headers, rendered.media_type)
