"""A small part of `make fuzz` with every run of the tests: the same inputs each time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from app.main import create_app
from app.routes.geojson_schema import AREA
from app.routes.openapi import as_3_0
from app.settings import Settings
from tests.app.bad_areas import RING, collection, feature, polygon
from tests.app.conftest import Serve
from tests.fuzz.kinds import Kind, kinds_of
from tests.world.world import World

EXAMPLES = 25


@pytest.fixture(scope="module")
def kinds(
    serve: Serve,
    two_quads: World,
    pixelwise_model: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Kind]]:
    with serve(two_quads.directory, pixelwise_model) as client:
        found = kinds_of(client, two_quads, tmp_path_factory.mktemp("fuzz"))
        yield {kind.name: kind for kind in found}


@pytest.mark.parametrize(
    "name",
    ["areas over HTTP", "tiles", "other addresses", "executions of processes", "sources.toml",
     "STAC items", "MosaicJSON", "model cards"],
)  # fmt: skip
def test_nothing_undeclared_comes_of_odd_inputs(kinds: dict[str, Kind], name: str) -> None:
    answers = kinds[name].play(EXAMPLES, derandomize=True)
    assert sum(answers.values()) >= EXAMPLES * 0.8, answers


def test_some_areas_are_good(kinds: dict[str, Kind]) -> None:
    """What is always refused tests little."""
    assert kinds["areas over HTTP"].play(60, derandomize=True)["200"] >= 5


def test_the_schema_of_areas_is_that_of_geojson() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    valid = jsonschema.Draft202012Validator(AREA).is_valid
    ring = [list(position) for position in RING]
    multi = {"type": "MultiPolygon", "coordinates": [[ring]]}
    for good in (
        polygon(ring), multi, feature(polygon(ring)), feature(multi, id=7),
        collection(feature(polygon(ring)), feature(None)),
        polygon([[*position, 100.0] for position in ring]),
    ):  # fmt: skip
        assert valid(good), good
    for bad in (
        {}, polygon(), polygon(ring[:3]), {"type": "Point", "coordinates": [0, 0]},
        feature({"type": "Point", "coordinates": [0, 0]}), collection(),
        polygon([[200.0, 0.0], *ring[1:]]), polygon([["a", 0.0], *ring[1:]]),
    ):  # fmt: skip
        assert not valid(bad), bad


def test_every_body_of_the_api_is_described() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    bodies = {
        path: body["content"]
        for path, methods in paths.items()
        if (body := methods.get("post", {}).get("requestBody"))
    }
    posts = {path for path, methods in paths.items() if "post" in methods}
    assert set(bodies) == posts
    area = as_3_0({"area": AREA})["area"]
    for path, content in bodies.items():
        schema = content["application/json"]["schema"]
        if "inputs" in schema.get("properties", {}):
            schema = schema["properties"]["inputs"]["properties"]["area"]
        assert schema == area, path


def test_every_part_of_a_path_is_described() -> None:
    """As OpenAPI wants it: each name in braces is a required parameter in the path."""
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            described = {p["name"] for p in parameters if p["in"] == "path" and p["required"]}
            assert described == set(re.findall(r"{(\w+)}", path)), f"{method} {path}"
