"""Compressed answers, files kept for a year, and a documentation page that needs nobody else."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import Serve, tiles_around
from tests.world.world import World

PLAIN = {"accept-encoding": "identity"}
GZIP = {"accept-encoding": "gzip"}


@pytest.fixture(scope="module")
def client(serve: Serve, two_years: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_years.directory, pixelwise_model) as started:
        yield started


def raw(client: TestClient, path: str, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        return b"".join(answer.iter_raw()), dict(answer.headers)


@pytest.mark.parametrize(
    "path", ["/api", "/map", "/wmts?service=WMTS&request=GetCapabilities", "/metrics", "npy"]
)
def test_text_json_and_values_are_compressed_for_who_takes_it(
    client: TestClient, two_years: World, path: str
) -> None:
    if path == "npy":
        z, x, y = tiles_around(*two_years.scenes[0].lonlat, 17, 0)[0]
        path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
        client.get(path)  # the second is the one from memory
    plain, uncompressed = raw(client, path, PLAIN)
    packed, reported = raw(client, path, GZIP)
    assert "content-encoding" not in uncompressed
    assert reported["content-encoding"] == "gzip"
    assert int(reported["content-length"]) == len(packed) < len(plain) / 2
    assert "accept-encoding" in uncompressed["vary"].lower()
    assert "accept-encoding" in reported["vary"].lower()
    if path != "/metrics":
        assert gzip.decompress(packed) == plain
    if "etag" in reported:
        again = client.get(path, headers={**GZIP, "if-none-match": reported["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize("refusal", ["gzip;q=0", "br, gzip; q=0.0", "*;q=0", ""])
def test_who_refuses_gzip_gets_none(client: TestClient, refusal: str) -> None:
    _, reported = raw(client, "/api", {"accept-encoding": refusal})
    assert "content-encoding" not in reported


def test_images_small_answers_and_ranges_stay_as_they_are(
    client: TestClient, two_years: World
) -> None:
    z, x, y = tiles_around(*two_years.scenes[0].lonlat, 17, 0)[0]
    for path in (f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png", "/healthz"):
        _, reported = raw(client, path, GZIP)
        assert "content-encoding" not in reported
    answer = client.get("/api", headers={**GZIP, "range": "bytes=0-9"})
    assert "content-encoding" not in answer.headers


def test_files_of_the_page_are_kept_for_a_year_and_the_page_is_asked_for_again(
    client: TestClient,
) -> None:
    page = client.get("/map")
    assert page.headers["cache-control"] == "no-cache"
    named = re.findall(r'"\./(map/assets/[^"]+)"', page.text)
    assert len(named) >= 5
    for path in named:
        answer = client.get(f"/{path}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    version, name = named[-1].split("/")[2:]
    other = client.get(f"/map/assets/{'0' * len(version)}/{name}")  # of a page from before
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    again = client.get("/map", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_first_load_of_the_map_weighs_little(client: TestClient) -> None:
    """The page, its files, and the modules that these import."""
    seen: dict[str, int] = {}
    waiting = ["/map"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        content, reported = raw(client, path, GZIP)
        seen[path] = len(content)
        text = (gzip.decompress(content) if "content-encoding" in reported else content).decode()
        if path == "/map":
            waiting += [f"/{found}" for found in re.findall(r'"\./(map/assets/[^"]+)"', text)]
        elif "maplibre" not in path:
            folder = path.rpartition("/")[0]
            imports = re.findall(r'from "\./([\w.-]+)"', text)
            waiting += [f"{folder}/{found}" for found in imports]
    assert len(seen) > 12
    assert sum(seen.values()) <= 600_000, seen


def test_the_documentation_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/api.html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith("./")
        assert client.get(address[1:]).status_code == 200
