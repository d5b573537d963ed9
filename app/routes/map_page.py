"""The web page: our own files, and MapLibre GL out of the installed package `maplibre`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.errors import UnknownName
from app.services import Services

router = APIRouter(include_in_schema=False)

VIEWER = Path(__file__).parent.parent / "viewer"
CSP = (
    "default-src 'self'; script-src 'self'; worker-src 'self' blob:; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


@cache
def assets() -> dict[str, Path]:
    """Return {file name: path} of everything the page may load. Only these are ever opened."""
    files = {path.name: path for path in VIEWER.iterdir() if path.suffix in TYPES}
    package = find_spec("maplibre")
    if package and package.origin:
        folder = Path(package.origin).parent / "srcjs"
        for name in ("maplibre-gl.js", "maplibre-gl.css"):
            files[name] = folder / name
    return files


@router.get("/map")
async def map_page(request: Request) -> Response:
    """Return the map page."""
    services: Services = request.app.state.services
    csp = csp_with(services.settings.basemap)
    return _file("index.html", {"content-security-policy": csp, "cache-control": "no-cache"})


def csp_with(basemap: str) -> str:
    """Return the Content-Security-Policy of the page, open for the host of a basemap's tiles."""
    if not basemap:
        return CSP
    url = urlsplit(basemap)
    return CSP.replace("connect-src 'self'", f"connect-src 'self' {url.scheme}://{url.netloc}")


@router.get("/map/assets/{name}")
async def asset(name: str) -> Response:
    """Return a script or style of the page."""
    return _file(name, {"cache-control": "no-cache"})


def _file(name: str, headers: dict[str, str]) -> Response:
    path = assets().get(name)
    if path is None:
        raise UnknownName("asset", name, assets())
    return FileResponse(path, headers=headers, media_type=TYPES[path.suffix])
