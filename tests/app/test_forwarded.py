"""Behind proxies: links carry the client's own scheme, host and path, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.errors import ConfigurationError
from app.main import create_app
from app.settings import Settings
from tests.world.world import World

PROXY = ("10.1.2.3", 4711)
TOLD = {"x-forwarded-proto": "https", "x-forwarded-host": "maps.example.org"}
PAGES = (
    "/",
    "/WMTSCapabilities.xml",
    "/wmts?service=WMTS&request=GetCapabilities",
    "/WebMercatorQuad/tilejson.json",
)


@contextmanager
def behind(
    world: World, model: Path, trusted: tuple[str, ...] | None, **settings: object
) -> Iterator[TestClient]:
    values = {"imagery": world.directory, "model": model, **settings}
    if trusted is not None:
        values["trusted_proxies"] = trusted
    app = create_app(Settings.model_validate(values))
    with TestClient(app, client=PROXY, base_url="http://web:8000") as client:
        yield client


def hosts_of(text: str) -> set[str]:
    """Scheme and host of every link to this service."""
    found = re.findall(r"(https?://(?:web|maps|evil)[^/\"<&]*)", text)
    return set(found)


@pytest.mark.parametrize("trusted", [("10.0.0.0/8",), ("10.1.2.3",), ("*",)])
def test_links_are_https_behind_a_proxy_that_is_trusted(
    two_years: World, pixelwise_model: Path, trusted: tuple[str, ...]
) -> None:
    with behind(two_years, pixelwise_model, trusted) as client:
        for path in PAGES:
            text = client.get(path, headers=TOLD).text
            assert hosts_of(text) == {"https://maps.example.org"}, path


@pytest.mark.parametrize("trusted", [None, ("192.168.0.0/16",), ()])
def test_nobody_else_is_believed(
    two_years: World, pixelwise_model: Path, trusted: tuple[str, ...] | None
) -> None:
    with behind(two_years, pixelwise_model, trusted) as client:
        for path in PAGES:
            assert hosts_of(client.get(path, headers=TOLD).text) == {"http://web:8000"}, path


def test_the_root_path_stays_in_every_link(two_years: World, pixelwise_model: Path) -> None:
    with behind(two_years, pixelwise_model, ("*",), root_path="/cover") as client:
        text = client.get("/WMTSCapabilities.xml", headers=TOLD).text
        assert "https://maps.example.org/cover/tiles/{TileMatrixSet}/" in text
        assert "https://maps.example.org/cover/wmts?" in text
        assert "maps.example.org/tiles" not in text
        tile = "layer=two&style=&format=image/png&tilematrixset=WebMercatorQuad"
        source = client.get("/sources").json()["sources"][0]["id"]
        answer = client.get(
            f"/wmts?service=WMTS&request=GetTile&{tile}".replace("two", f"{source}.class")
            + "&tilematrix=3&tilerow=1&tilecol=1"
        )
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.org/x", 'evil.org"><script>', "a b", "evil.org:99999999", "ev%69l@x", ""]
)
def test_a_host_that_is_none_is_not_taken_over(
    two_years: World, pixelwise_model: Path, host: str
) -> None:
    with behind(two_years, pixelwise_model, ("*",)) as client:
        told = {"x-forwarded-host": host, "x-forwarded-proto": "gopher"}
        text = client.get("/WMTSCapabilities.xml", headers=told).text
        assert hosts_of(text) == {"http://web:8000"}


def test_the_clients_address_is_the_last_one_that_a_trusted_proxy_saw(
    two_years: World, pixelwise_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chains = {
        "203.0.113.9": "203.0.113.9",
        "1.1.1.1, 203.0.113.9": "203.0.113.9",
        "203.0.113.9, 10.9.9.9": "203.0.113.9",
        "nonsense": PROXY[0],
        "": PROXY[0],
    }
    with (
        behind(two_years, pixelwise_model, ("10.0.0.0/8",), access_log=True) as client,
        caplog.at_level("INFO", "landcover.access"),
    ):
        for chain in chains:
            client.get("/healthz", headers={"x-forwarded-for": chain})
    seen = [
        getattr(record, "client", "")
        for record in caplog.records
        if record.name == "landcover.access"
    ]
    assert seen == list(chains.values())


def test_a_proxy_that_is_no_address_is_refused_at_start(
    two_years: World, pixelwise_model: Path
) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"nginx.*10\.0\.0\.0/8"),
        behind(two_years, pixelwise_model, ("nginx",)),
    ):
        pass


def test_nginx_hands_on_what_a_proxy_in_front_of_it_says() -> None:
    conf = (Path(__file__).parents[2] / "docker" / "nginx.conf").read_text()
    assert "proxy_set_header X-Forwarded-Proto $client_scheme;" in conf
    assert re.search(r"map \$http_x_forwarded_proto \$client_scheme \{[^}]*https https;", conf)
    assert "proxy_set_header X-Forwarded-Host $client_host;" in conf
