"""Land cover tiles. The ETag is answered before any work; a warm tile is one look-up."""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.grid.tile import CRS, TMS_NAMES
from app.render import geotiff
from app.render.images import MEDIA_TYPES, Palette, render, shown_values
from app.render.transition import BASE, stayed, transition_table
from app.routes.requests import selections_of, while_connected
from app.routes.schemas import TileQuery, TileRequest, parse_tile, tile_parameters
from app.sampling.confidence import compose_confident
from app.sampling.outlines import OUTLINE, draw_outlines
from app.sampling.placer import Layer, Placed
from app.sampling.tiles import TilePlan, compose, plan_tile
from app.scheduling import background
from app.services import Rendered, Services, TileKey
from model.session import Session

router = APIRouter(tags=["tiles"])

_PLAIN = "".join(map(chr, range(0x20, 0x7F))).translate({ord(","): None, ord("%"): None})
_OUTLINE_COLOR = (63, 157, 107)

_ANSWERS = {
    200: {"content": {media: {} for media in MEDIA_TYPES.values()}, "description": "The tile."},
    304: {"description": "The client's copy is still valid."},
}


@router.get(
    "/tiles/{tileMatrixSetId}/{z}/{x}/{y}",
    response_class=Response,
    responses=_ANSWERS,  # type: ignore[arg-type]
    openapi_extra=tile_parameters(TileQuery),
)
async def tile(request: Request) -> Response:
    """Return one land cover tile; `y` may end in `@2x` and `.png`, `.webp`, `.tif` or `.npy`."""
    path = request.path_params
    return await _answer(request, path["tileMatrixSetId"], path["z"], path["x"], path["y"])


@router.get(
    "/{z}/{x}/{y}",
    response_class=Response,
    openapi_extra=tile_parameters(TileQuery, "z", "x", "y"),
)
async def tile_alias(request: Request) -> Response:
    """Return the same tile, at the short address that map libraries expect."""
    path = request.path_params
    return await _answer(request, TMS_NAMES[0], path["z"], path["x"], path["y"])


class WarmTiles:
    """Answers a tile that was rendered before from memory, without routing; passes on the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].count("/") > 2:
            services: Services = scope["app"].state.services
            address = scope["path"], scope["query_string"], services.generation
            rendered = services.rendered.get(address)
            if rendered is not None and rendered.head:
                scope["outcome"], scope["route"] = "memory", rendered.route
                await _send_warm(services, rendered, scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _send_warm(
    services: Services, rendered: Rendered, scope: Scope, receive: Receive, send: Send
) -> None:
    conditional = any(name == b"if-none-match" for name, _ in scope["headers"])
    if conditional or services.sources.get(rendered.source).unavailable:
        await _response(Request(scope), services, rendered)(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": rendered.head})
    await send({"type": "http.response.body", "body": rendered.content})


async def _answer(request: Request, tms: str, z: str, x: str, y: str) -> Response:
    services: Services = request.app.state.services
    scope = request.scope
    address = (scope["path"], scope["query_string"], services.generation)
    rendered = services.rendered.get(address)  # of a WMTS request: its own address is another
    if rendered is not None:
        scope["outcome"] = "memory"
        return _response(request, services, rendered)
    requested = parse_tile(tms, z, x, y, scope["query_string"])
    work = _rendered(request, services, requested, address)
    with background() if _is_prefetch(request) else nullcontext():
        rendered = await while_connected(request, work, services.settings.deadline_s)
    scope["outcome"] = rendered.quality
    return _response(request, services, rendered)


async def _rendered(
    request: Request, services: Services, requested: TileRequest, address: TileKey
) -> Rendered:
    """Return the tile, planned and drawn once for all who want it meanwhile; without content when
    the client's copy is still valid."""
    selections = selections_of(services, requested.query)

    async def planned() -> tuple[TilePlan, str]:
        plan = await plan_tile(services.landcover, selections, requested.tile)
        return plan, _etag(plan, requested, selections[-1].session)

    async def drawn() -> Rendered:
        rendered = await _render(services, plan, requested, etag)
        if rendered.quality == "full":
            head = _response(None, services, rendered).raw_headers
            rendered = replace(rendered, route=request.scope["route"], head=tuple(head))
            services.keep_rendered(address, rendered)
        return rendered

    plan, etag = await services.planning.run(address, planned)
    if _matches(request, etag):
        return Rendered(etag, "", b"", (), selections[-1].source.id)
    return await services.drawing.run(address, drawn)


async def _render(
    services: Services, plan: TilePlan, requested: TileRequest, etag: str
) -> Rendered:
    selection, query = plan.selections[-1], requested.query
    media_type = MEDIA_TYPES[requested.suffix]
    session, source = selection.session, selection.source
    if requested.tile.z < source.zooms[0]:
        outlines = await services.reads.run(draw_outlines, source, requested.tile)
        content = await services.reads.run(_encode, Placed(outlines), requested, session)
        etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        marked = (("X-Landcover-Quality", "footprints"),)
        return Rendered(
            etag, MEDIA_TYPES[requested.suffix], content, marked, source.id, "footprints"
        )
    how: dict[str, Any] = {
        "quality": query.quality,
        "budget": services.settings.block_budget,
        "backfill": services.backfill,
    }
    if query.min_confidence:
        composed = await compose_confident(services.landcover, plan, query.min_confidence, **how)
    else:
        layer: Layer = "confidence" if query.layer == "confidence" else "class"
        composed = await compose(services.landcover, plan, layer, **how)
    content = await services.reads.run(_encode, composed.placed, requested, session)
    scenes = list(composed.placed.scenes)
    quality = "full" if composed.is_exact else "estimate"
    headers = (
        ("X-Landcover-Quality", quality),
        ("X-Landcover-Scenes", ",".join(_in_header(scene.id) for scene in scenes[:20])),
        ("X-Landcover-Dates", ",".join(sorted({s.date for s in scenes if s.date})[-20:])),
    )
    if not composed.is_exact:
        etag = _etag(composed.plan, requested, session)
    return Rendered(etag, media_type, content, headers, source.id, quality)


def _in_header(name: str) -> str:
    """Return a name as a header can hold it: what is not printable ASCII, and the comma between
    names, percent-encoded in UTF-8."""
    return quote(name, safe=_PLAIN, errors="surrogateescape")


def _encode(placed: Placed, requested: TileRequest, session: Session) -> bytes:
    palette = _palette(requested.query, session, data=requested.suffix in ("tif", "npy"))
    if requested.suffix != "tif":
        return render(placed.values, palette, requested.suffix)
    values = shown_values(placed.values, palette)
    return geotiff.tile_tif(
        values, palette.colors, requested.tile.bounds, CRS, session.metadata, tuple(placed.scenes)
    )


def _palette(query: TileQuery, session: Session, data: bool = False) -> Palette:
    """Return the colors of a tile's values.

    Of change, what stayed is transparent in an image and kept in a file of `data`.
    """
    outline = () if data else ((OUTLINE, _OUTLINE_COLOR),)
    if query.layer == "confidence":
        return Palette((*Palette.of_confidence().colors, *outline))
    legend = session.card.legend
    colors = query.colors(legend.colors(query.colormap_name))
    shown = query.shown(legend.values)
    if query.layer == "change":
        kept = [
            (entry.value, entry.rgb)
            for entry in transition_table(legend, colors)
            if (data or not stayed(entry.value)) and (shown is None or entry.value % BASE in shown)
        ]
        return Palette((*kept, *outline))
    return Palette((*Palette.of_classes(legend, colors, shown).colors, *outline))


def _etag(plan: TilePlan, requested: TileRequest, session: Session) -> str:
    """Return a digest of the blocks' keys and of how they are drawn; no pixel is read for it."""
    query, palette = requested.query, _palette(requested.query, session)
    style = f"{requested.suffix} {query.layer} {palette.colors} {query.min_confidence}"
    text = f"{plan.digest} {requested.tile} {style}"
    return f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def _is_prefetch(request: Request) -> bool:
    """Return whether the client fetches ahead of need: an urgency of 6 or 7 (RFC 9218 4.1)."""
    return bool(re.search(r"(^|,)\s*u=[67]\b", request.headers.get("priority", "")))


def _matches(request: Request, etag: str) -> bool:
    """Return whether If-None-Match names the tag (RFC 9110 13.1.2)."""
    header = request.headers.get("if-none-match")
    if not header or not etag:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return header.strip() == "*" or etag in tags


def _response(request: Request | None, services: Services, rendered: Rendered) -> Response:
    """Return the answer to a request; None: that to one without conditions, of a source that can
    be reached."""
    headers = dict(rendered.headers)
    if request and services.sources.get(rendered.source).unavailable:
        # From the cache: whether the imagery is still the same cannot be checked.
        headers["X-Landcover-Stale"] = "true"
    headers["etag"] = rendered.etag
    lasts = f"public, max-age={services.settings.tile_max_age}"
    # An estimate is replaced as exact blocks arrive: clients ask again before they show it again.
    headers["cache-control"] = "no-cache" if rendered.quality == "estimate" else lasts
    if request and _matches(request, rendered.etag):
        return Response(status_code=304, headers=headers)
    return Response(rendered.content, 200, headers, rendered.media_type)
