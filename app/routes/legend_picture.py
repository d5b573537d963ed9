"""The legend of a layer's style as a picture."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.errors import UnknownName
from app.render.images import Palette
from app.render.legend_image import Entries, legend_image, ramp
from app.routes.map_layers import PNG, Kind
from app.services import Services
from model.legend import COLORMAPS, Legend

router = APIRouter(tags=["meta"])


@router.get("/legend.png", response_class=Response, responses={200: {"content": {PNG: {}}}})
async def legend_picture(
    request: Request,
    layer: Annotated[Literal["class", "confidence"], Query(description="of which tiles")] = "class",
    colormap_name: Annotated[str, Query(description="a colormap of /legend")] = "landcover",
    model: Annotated[str | None, Query(description="name of a model")] = None,
) -> Response:
    """The classes in a colormap, or the ramp of confidence, as a picture to put beside a map."""
    services: Services = request.app.state.services
    if colormap_name not in COLORMAPS:
        raise UnknownName("colormap_name", colormap_name, COLORMAPS)
    entries = entries_of(layer, colormap_name, services.model(model).card.legend)
    return Response(legend_image(entries), media_type=PNG)


def entries_of(kind: Kind, style: str, legend: Legend) -> Entries:
    """Return the lines of a style's legend; none for imagery."""
    if kind == "imagery":
        return ()
    if kind == "confidence":
        return ramp(Palette.of_confidence().colors, "%")
    colors = legend.colors(style)
    return tuple((each.title, colors[each.value]) for each in legend.classes)


def legend_address(base: str, kind: Kind, style: str) -> str:
    """Return where the picture of a style is."""
    suffix = f"&colormap_name={style}" if kind == "class" else ""
    return f"{base}legend.png?layer={kind}{suffix}"
