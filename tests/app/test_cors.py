"""Cross-origin requests: what a browser asks of the server, and what a script may then read."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import Serve, tiles_around
from tests.app.running import area_of
from tests.world.world import World

ORIGIN = "https://maps.example.org"
OTHER = "https://elsewhere.example"
SENT = ("range", "if-none-match", "authorization", "prefer", "content-type")


def preflight(
    client: TestClient, origin: str, method: str, headers: str, path: str = "/legend"
) -> tuple[int, str | None, set[str], set[str]]:
    """Status, allowed origin, allowed methods and headers."""
    answer = client.options(
        path,
        headers={
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": headers,
        },
    )
    listed = [
        {each.strip().lower() for each in answer.headers.get(name, "").split(",")}
        for name in ("access-control-allow-methods", "access-control-allow-headers")
    ]
    allowed = answer.headers.get("access-control-allow-origin")
    return answer.status_code, allowed, listed[0], listed[1]


def test_every_page_may_read_by_default(
    serve: Serve, two_years: World, pixelwise_model: Path
) -> None:
    z, x, y = tiles_around(*two_years.scenes[0].lonlat, 17, 0)[0]
    tile = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
    with serve(two_years.directory, pixelwise_model) as client:
        for path, expected in (
            (tile, 200),
            ("/legend", 200),
            ("/nothing/here", 404),
            (f"{tile}x", 400),
        ):
            # A cache in between keeps the answer to whoever asked first: named origin or not.
            for headers in ({}, {"origin": OTHER}):
                answer = client.get(path, headers=headers)
                assert answer.status_code == expected
                assert answer.headers["access-control-allow-origin"] == "*"
                assert "origin" not in answer.headers.get("vary", "").lower()
        etag = client.get(tile).headers["etag"]
        again = client.get(tile, headers={"origin": OTHER, "if-none-match": etag})
        assert (again.status_code, again.headers["access-control-allow-origin"]) == (304, "*")


def test_a_script_may_read_every_header_that_the_docs_speak_of(
    serve: Serve, two_years: World, pixelwise_model: Path
) -> None:
    z, x, y = tiles_around(*two_years.scenes[0].lonlat, 17, 0)[0]
    with serve(two_years.directory, pixelwise_model) as client:
        tile = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png", headers={"origin": OTHER})
        exposed = {
            e.strip().lower() for e in tile.headers["access-control-expose-headers"].split(",")
        }
        own = {name for name in tile.headers if name.startswith("x-")} - {"x-content-type-options"}
        assert len(own) >= 3
        assert own <= exposed
        west, south, east, north = client.get("/sources").json()["sources"][0]["bounds"]
        middle = (west + east) / 2, (south + north) / 2
        box = f"{middle[0]},{middle[1]},{middle[0] + 0.001},{middle[1] + 0.001}"
        file = client.get(f"/bbox/{box}.tif", headers={"origin": OTHER})
        assert {"content-disposition", "content-crs"} <= set(file.headers)
        assert {
            "content-disposition", "content-crs", "etag", "retry-after", "location",
            "server-timing", "x-request-id", "x-landcover-quality", "x-landcover-scenes",
            "x-landcover-dates", "x-landcover-stale", "content-range", "accept-ranges",
        } <= exposed  # fmt: skip
        assert tile.headers["timing-allow-origin"] == "*"


@pytest.mark.parametrize("header", SENT)
def test_a_preflight_for_a_read_is_granted(
    serve: Serve, two_years: World, pixelwise_model: Path, header: str
) -> None:
    with serve(two_years.directory, pixelwise_model) as client:
        status, origin, methods, headers = preflight(client, OTHER, "GET", header)
        assert (status, origin) == (204, "*")
        assert "get" in methods
        assert header in headers


def test_only_a_named_page_may_write(serve: Serve, two_years: World, pixelwise_model: Path) -> None:
    body = {"type": "Feature", "properties": {}, "geometry": area_of(two_years, 500)}
    with serve(two_years.directory, pixelwise_model, cors_origins=("*", ORIGIN)) as client:
        status, origin, methods, _ = preflight(client, OTHER, "POST", "content-type", "/statistics")
        assert (status, origin, methods) == (403, "*", {"get", "head"})
        for method in ("POST", "DELETE", "GET"):
            status, origin, methods, headers = preflight(
                client, ORIGIN, method, "content-type, prefer", "/statistics"
            )
            assert (status, origin) == (204, ORIGIN)
            assert {"post", "delete", "get"} <= methods
            assert {"content-type", "prefer"} <= headers
        answer = client.post("/statistics", json=body, headers={"origin": ORIGIN})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in answer.headers["vary"]
        assert client.get("/legend").headers["access-control-allow-origin"] == "*"


def test_named_pages_alone(serve: Serve, two_years: World, pixelwise_model: Path) -> None:
    with serve(two_years.directory, pixelwise_model, cors_origins=(f"{ORIGIN}/",)) as client:
        answer = client.get("/legend", headers={"origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        for headers in ({}, {"origin": OTHER}, {"origin": "null"}, {"origin": f"{ORIGIN}.evil"}):
            answer = client.get("/legend", headers=headers)
            assert answer.status_code == 200
            assert "access-control-allow-origin" not in answer.headers
            assert "Origin" in answer.headers["vary"]
        status, origin, _, _ = preflight(client, OTHER, "GET", "range")
        assert (status, origin) == (403, None)


def test_no_page_when_none_is_set(serve: Serve, two_years: World, pixelwise_model: Path) -> None:
    with serve(two_years.directory, pixelwise_model, cors_origins=()) as client:
        answer = client.get("/legend", headers={"origin": ORIGIN})
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" not in answer.headers.get("vary", "").lower()
        status, origin, _, _ = preflight(client, ORIGIN, "GET", "range")
        assert (status, origin) == (405, None)
