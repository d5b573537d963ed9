"""The web pages: our own files, and MapLibre GL out of the installed package `maplibre`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.errors import UnknownName
from app.routes.assets import ASK_AGAIN, FOREVER, Asset, asset_of, version_of
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
    return _page(request, "index.html", {"content-security-policy": csp})


@router.get("/api.html")
async def api_page(request: Request) -> Response:
    """Return the documentation of the API."""
    return _page(request, "api.html", {"content-security-policy": CSP})


def csp_with(basemap: str) -> str:
    """Return the Content-Security-Policy of the page, open for the host of a basemap's tiles."""
    if not basemap:
        return CSP
    url = urlsplit(basemap)
    return CSP.replace("connect-src 'self'", f"connect-src 'self' {url.scheme}://{url.netloc}")


@router.get("/map/assets/{name}")
async def asset(request: Request, name: str) -> Response:
    """Return a script or style of a page."""
    return _file(request, name, {"cache-control": ASK_AGAIN})


@router.get("/map/assets/{version}/{name}")
async def asset_of_version(request: Request, version: str, name: str) -> Response:
    """Return the same, to be kept for a year where `version` is that of the files."""
    kept = FOREVER if version == _version() else ASK_AGAIN
    return _file(request, name, {"cache-control": kept})


def _file(request: Request, name: str, headers: dict[str, str]) -> Response:
    path = assets().get(name)
    if path is None:
        raise UnknownName("asset", name, assets())
    return asset_of(path).answer(request, TYPES[path.suffix], headers)


def _page(request: Request, name: str, headers: dict[str, str]) -> Response:
    headers = {**headers, "cache-control": ASK_AGAIN}
    return _html(name).answer(request, TYPES[".html"], headers)


@cache
def _html(name: str) -> Asset:
    """Return a page that names its files by the folder of their version."""
    text = assets()[name].read_text(encoding="utf-8")
    return Asset.of(text.replace("./map/assets/", f"./map/assets/{_version()}/").encode())


@cache
def _version() -> str:
    return version_of(assets())
