# ruff: noqa: E501 - GeoJSON on one line
"""Jobs: the standard's statuses, the same classes as everybody else's, stopping and resuming."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx2 as httpx
import numpy as np
import pytest
import rasterio
from pyogrio import raw
from pyproj import Geod
from rasterio.io import MemoryFile
from shapely.geometry import box, mapping, shape
from starlette.testclient import TestClient

from app.errors import Busy, UnknownName
from app.jobs.job import ALLOWED, IllegalTransition, Spec, Status
from app.jobs.store import LEASE_S, Store
from model.legend import NODATA
from tests.app.conftest import Serve, classes_in, raster_at_tile, tiles_around
from tests.app.running import area_of, server, until
from tests.world.world import World

pytestmark = pytest.mark.alone

KEY = "operator-key-of-the-tests"
ASYNC = {"prefer": "respond-async"}
SPEC = Spec(
    "classify-area", {"type": "Polygon", "coordinates": []}, "s", "m", ("latest",), ("cog",)
)


def body(world: World, **inputs: object) -> dict[str, Any]:
    return {"inputs": {"area": area_of(world), **inputs}}


def ended(client: Any, job_id: str) -> dict[str, Any]:  # noqa: ANN401
    def look() -> dict[str, Any] | None:
        info: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        return info if info["status"] not in ("accepted", "running") else None

    found: dict[str, Any] = until(look)
    return found


@pytest.fixture(scope="module")
def client(serve: Serve, two_quads: World, neighborhood_model: Path) -> Iterator[TestClient]:
    with serve(two_quads.directory, neighborhood_model) as running:
        yield running


# The store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "jobs.sqlite")


@pytest.mark.parametrize("old", ALLOWED)
@pytest.mark.parametrize("new", ALLOWED)
def test_a_status_is_followed_only_by_those_allowed(store: Store, old: Status, new: Status) -> None:
    job = store.add(SPEC, 1, 9)
    if old != "accepted":
        store.claim("a")
    if old not in ("accepted", "running"):
        store.transition(job.id, old)
    if new in ALLOWED[old]:
        assert store.transition(job.id, new).status == new
    else:
        with pytest.raises(IllegalTransition, match=f"is {old} and cannot become {new}"):
            store.transition(job.id, new)
        assert store.get(job.id).status == old


def test_a_job_is_claimed_by_one_process_only(store: Store, tmp_path: Path) -> None:
    job = store.add(SPEC, 1, 9)
    other = Store(tmp_path / "jobs.sqlite")
    first = store.claim("a")
    assert first is not None
    assert (first.id, first.status) == (job.id, "running")
    assert other.claim("b") is None
    assert store.renew(job.id, "a")
    assert not other.renew(job.id, "b")


def test_a_job_whose_owner_is_gone_is_taken_up_by_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.add(SPEC, 1, 9)
    store.claim("a")
    later = time.time() + LEASE_S + 1
    monkeypatch.setattr("app.jobs.store.time.time", lambda: later)
    again = store.claim("b")
    assert again is not None
    assert again.id == job.id
    assert not store.renew(job.id, "a")


def test_more_jobs_than_may_wait_are_refused(store: Store) -> None:
    store.add(SPEC, 1, 2)
    store.add(SPEC, 1, 2)
    with pytest.raises(Busy):
        store.add(SPEC, 1, 2)


def test_what_is_journalled_outlives_the_process(store: Store, tmp_path: Path) -> None:
    job = store.add(SPEC, 4, 9)
    store.claim("a")
    for number in (0, 2, 2):
        store.done(job.id, number, 1.5)
    again = Store(tmp_path / "jobs.sqlite")
    assert again.numbers_done(job.id) == {0, 2}
    found = again.get(job.id)
    assert (found.spec, found.done, found.total, found.progress) == (SPEC, 2, 4, 50)
    assert found.eta_s is not None
    again.remove(job.id)
    with pytest.raises(UnknownName):
        store.get(job.id)


def test_a_job_from_before_datetime_and_fill_still_loads(store: Store, tmp_path: Path) -> None:
    job = store.add(SPEC, 1, 9)
    old = {
        "process": "classify-area", "area": SPEC.area, "source": "s", "model": "m",
        "years": ["latest"], "outputs": ["cog"],
    }  # fmt: skip
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET spec = ?", (json.dumps(old),))
    db.close()
    assert store.get(job.id).spec == SPEC


# Over HTTP


def test_the_processes_are_described(client: TestClient) -> None:
    listed = client.get("/processes").json()["processes"]
    assert [each["id"] for each in listed] == ["classify-area", "change", "seed"]
    for each in listed:
        whole = client.get(f"/processes/{each['id']}").json()
        assert whole["inputs"]["area"]["minOccurs"] == 1
        assert whole["outputs"]
        assert set(each["jobControlOptions"]) == {"sync-execute", "async-execute", "dismiss"}


def test_what_is_not_there_has_the_type_of_the_standard(client: TestClient) -> None:
    for path, name in (
        ("/processes/paint", "no-such-process"),
        ("/jobs/nowhere", "no-such-job"),
        ("/jobs/nowhere/results", "no-such-job"),
    ):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["type"].endswith(f"/ogcapi-processes-1/1.0/{name}")
    assert client.delete("/jobs/nowhere").status_code == 404
    assert client.post("/processes/paint/execution", json={}).status_code == 404


def test_a_job_delivers_the_classes_that_tiles_show_and_the_area_of_the_polygon(
    client: TestClient, two_quads: World, tmp_path: Path
) -> None:
    answer = client.post("/processes/classify-area/execution", json=body(two_quads), headers=ASYNC)
    assert answer.status_code == 201, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    info = answer.json()
    assert answer.headers["location"].endswith(f"/jobs/{info['jobID']}")
    assert info["type"] == "process"
    assert info["processID"] == "classify-area"
    info = ended(client, info["jobID"])
    assert info["status"] == "successful", info
    assert info["progress"] == 100
    assert info["blocks"]["done"] == info["blocks"]["total"] > 4
    assert {"created", "started", "finished"} <= set(info)
    results = client.get(f"/jobs/{info['jobID']}/results").json()
    path = tmp_path / "classes.tif"
    path.write_bytes(client.get(results["cog"]["href"]).content)
    area = shape(area_of(two_quads))
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(area)[0])
    figures = results["statistics"]
    assert figures["sum"]["m2"] == pytest.approx(geodesic, rel=1e-4)
    assert sum(each["m2"] for each in figures["classes"]) == pytest.approx(figures["covered"]["m2"])
    for z, x, y in tiles_around(*two_quads.scenes[0].lonlat, 17):
        tile = classes_in(client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy").content, "npy")
        expected = raster_at_tile(path, z, x, y, 256)
        inside = expected != NODATA
        assert (tile[inside] != expected[inside]).sum() == 0
    assert inside.any()
    assert client.delete(f"/jobs/{info['jobID']}").json()["status"] == "dismissed"
    assert client.get(results["cog"]["href"]).status_code == 404


def test_executed_while_waiting_it_delivers_the_same_bytes(
    client: TestClient, two_quads: World
) -> None:
    found = []
    for headers in ({}, ASYNC):
        answer = client.post(
            "/processes/classify-area/execution", json=body(two_quads), headers=headers
        )
        document = answer.json()
        if headers:
            ended(client, document["jobID"])
            document = client.get(f"/jobs/{document['jobID']}/results").json()
        found.append((document["statistics"], client.get(document["cog"]["href"]).content))
    assert found[0] == found[1]


def slanted(world: World) -> dict[str, Any]:
    """A polygon whose edges cut pixels."""
    west, south, east, north = shape(area_of(world, shrink=150)).bounds
    ring = [(west, south), (east, (south + north) / 2), ((west + east) / 2, north), (west, south)]
    return {"type": "Polygon", "coordinates": [ring]}


def test_a_job_gives_the_figures_and_files_of_one_request(
    client: TestClient, two_quads: World, tmp_path: Path
) -> None:
    area = slanted(two_quads)
    names = ("cog", "statistics", "csv", "item", "polygons")
    outputs: dict[str, dict[str, str]] = {name: {} for name in names}
    request = {"inputs": {"area": area}, "outputs": outputs}
    document = client.post("/processes/classify-area/execution", json=request).json()
    assert set(document) == set(outputs)
    sync = client.post("/statistics", json=area).json()["properties"]["statistics"]
    assert document["statistics"] == sync
    assert len({each["hectares"] for each in sync["classes"]}) > 2
    files = {name: client.get(document[name]["href"]) for name in outputs if name != "statistics"}
    assert {answer.status_code for answer in files.values()} == {200}
    assert files["cog"].content == client.post("/feature.tif", json=area).content
    with ZipFile(BytesIO(client.post("/feature.zip", json=area).content)) as bundle:
        assert bundle.read("landcover-latest.csv") == files["csv"].content
        aux = client.get(f"{document['cog']['href']}.aux.xml")
        assert bundle.read("landcover-latest.tif.aux.xml") == aux.content
        item = json.loads(bundle.read("landcover-latest.json"))
    ours = json.loads(files["item"].content)
    item["properties"].pop("created"), ours["properties"].pop("created")
    assert ours == item
    path = tmp_path / "job.gpkg"
    path.write_bytes(files["polygons"].content)
    _, _, _, fields = raw.read(path, layer=0, columns=["hectares"])
    with MemoryFile(files["cog"].content) as memory, memory.open() as dataset:
        pixels = int((dataset.read(1) != NODATA).sum())
    assert fields[0].sum() * 1e4 == pytest.approx(pixels, rel=2e-3)


@pytest.mark.slow
def test_days_and_fill_mean_in_a_job_what_they_mean_in_a_request(
    serve: Serve, two_years: World, pixelwise_model: Path
) -> None:
    """The newer image reaches 100 m further south than the older one, and less far north."""
    area = area_of(two_years, shrink=20, scene=0)
    days = {"datetime": "2018-01-01/2020-12-31"}
    found = {}
    with serve(two_years.directory, pixelwise_model) as client:
        for name, dates in (("days", days), ("filled", {**days, "fill": "older"})):
            request = {"inputs": {"area": area, **dates}, "outputs": {"statistics": {}, "cog": {}}}
            answer = client.post("/processes/classify-area/execution", json=request)
            assert answer.status_code == 200, answer.text
            found[name] = answer.json()["statistics"]
            sync = client.post("/statistics", params=dates, json=area).json()
            assert found[name] == sync["properties"]["statistics"]
            href = answer.json()["cog"]["href"]
            assert (
                client.get(href).content
                == client.post("/feature.tif", params=dates, json=area).content
            )
        for inputs, field in (
            ({"datetime": "someday"}, "datetime"),
            ({"fill": "newer"}, "fill"),
            ({"year": "2019", **days}, "datetime"),
        ):
            request = {"inputs": {"area": area, **inputs}}
            answer = client.post("/processes/classify-area/execution", json=request)
            assert (answer.status_code, answer.json()["field"]) == (400, field)
        request = {"inputs": {"area": area, "from": "2017", "to": "2019", **days}}
        answer = client.post("/processes/change/execution", json=request)
        assert (answer.status_code, answer.json()["field"]) == (400, "inputs")
        described = client.get("/processes/classify-area").json()["inputs"]
        assert {"year", "datetime", "fill"} <= set(described)
        assert "datetime" not in client.get("/processes/change").json()["inputs"]
    assert found["days"]["uncovered"]["m2"] > 0
    assert found["filled"]["uncovered"]["m2"] == pytest.approx(0, abs=1)


@pytest.mark.slow
def test_a_job_searches_the_scenes_of_a_block_once(
    serve: Serve, two_quads: World, pixelwise_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        catalog = client.app.state.services.sources.get(None).catalog  # type: ignore[attr-defined]
        search, searched = type(catalog).search, []

        def counted(self: object, *ground: object) -> Any:  # noqa: ANN401
            searched.append(ground)
            return search(self, *ground)

        monkeypatch.setattr(type(catalog), "search", counted)
        path = "/processes/classify-area/execution"
        info = client.post(path, json=body(two_quads), headers=ASYNC).json()
        assert ended(client, info["jobID"])["status"] == "successful"
    assert len(searched) == len(set(searched)) == info["blocks"]["total"]


@pytest.mark.slow
def test_change_as_a_job_is_change_as_one_request(
    serve: Serve, two_years: World, pixelwise_model: Path
) -> None:
    area = slanted(two_years)
    with serve(two_years.directory, pixelwise_model) as client:
        request = {"inputs": {"area": area, "from": 2017, "to": 2019}}
        found = client.post("/processes/change/execution", json=request).json()
        query = "?from=2017&to=2019"
        assert found["matrix"] == client.post(f"/change{query}", json=area).json()
        cog = client.get(found["cog"]["href"]).content
        assert cog == client.post(f"/change.tif{query}", json=area).content


def test_features_of_a_collection_are_one_area(client: TestClient, two_quads: World) -> None:
    west, south, east, north = shape(area_of(two_quads, shrink=150)).bounds
    middle = (west + east) / 2
    # They overlap: what they share counts once.
    halves = [box(west, south, middle + 0.0005, north), box(middle - 0.0005, south, east, north)]
    features = [
        {"type": "Feature", "properties": None, "geometry": mapping(half)} for half in halves
    ]
    collection = {"type": "FeatureCollection", "features": features}
    found = []
    for area in (collection, mapping(box(west, south, east, north))):
        request = {"inputs": {"area": area}, "outputs": {"statistics": {}}}
        answer = client.post("/processes/classify-area/execution", json=request)
        found.append(answer.json()["statistics"]["sum"]["m2"])
    assert found[0] == pytest.approx(found[1], rel=1e-7)


def test_outputs_are_chosen(client: TestClient, two_quads: World) -> None:
    request = {**body(two_quads), "outputs": {"statistics": {}}}
    assert set(client.post("/processes/classify-area/execution", json=request).json()) == {
        "statistics"
    }


@pytest.mark.slow
def test_an_estimate_is_what_the_job_then_has_to_do(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    def estimate(client: TestClient) -> dict[str, Any]:
        answer = client.post("/processes/classify-area/estimate", json=body(two_quads))
        found: dict[str, Any] = answer.json()
        return found

    with serve(two_quads.directory, pixelwise_model) as client:
        before = estimate(client)
        path = "/processes/classify-area/execution"
        answer = client.post(path, json=body(two_quads), headers=ASYNC)
        assert answer.json()["blocks"]["total"] == before["blocks"]
        ended(client, answer.json()["jobID"])
        after = estimate(client)
    assert before["bytes"] > 0
    assert before["seconds"] > 0
    assert (before["cached"], before["exact"], before["sync"]) == (0, True, True)
    assert after == {**before, "cached": before["blocks"], "seconds": 0}


NAN = '{"inputs": {"area": {"type": "Polygon", "coordinates": [[[NaN, 1], [2, 1], [2, 2], [NaN, 1]]]}}}'
BAD = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "no inputs": "{}",
    "no area": '{"inputs": {}}',
    "null": '{"inputs": {"area": null}}',
    "point": '{"inputs": {"area": {"type": "Point", "coordinates": [1, 2]}}}',
    "empty": '{"inputs": {"area": {"type": "Polygon", "coordinates": []}}}',
    "not a number": NAN,
    "infinite": NAN.replace("NaN", "Infinity"),
    "bow-tie": '{"inputs": {"area": {"type": "Polygon", "coordinates": [[[0,0],[1,1],[1,0],[0,1],[0,0]]]}}}',
    "swapped": '{"inputs": {"area": {"type": "Polygon", "coordinates": [[[33,-97],[34,-97],[34,-96],[33,-97]]]}}}',
    "texts": '{"inputs": {"area": {"type": "Polygon", "coordinates": [["a", "b"]]}}}',
    "collection": '{"inputs": {"area": {"type": "GeometryCollection", "geometries": []}}}',
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("verb", ["execution", "estimate"])
def test_a_bad_area_is_refused_with_its_reason(client: TestClient, kind: str, verb: str) -> None:
    answer = client.post(f"/processes/classify-area/{verb}", content=BAD[kind])
    outside = kind in ("no JSON", "deep", "no inputs", "no area", "not a number", "infinite")
    assert answer.status_code == (400 if outside else 422), answer.text
    assert answer.json()["field"].split(".")[0] in (
        ("inputs", "body") if outside else ("type", "coordinates")
    )


def test_a_wrong_input_is_named(client: TestClient, two_quads: World) -> None:
    for inputs, status, field in (
        ({"year": "1815"}, 404, "year"),
        ({"source": "/etc/passwd"}, 404, "source"),
        ({"color": "red"}, 400, "inputs"),
        ({"year": None}, 400, "year"),
    ):
        answer = client.post("/processes/classify-area/execution", json=body(two_quads, **inputs))
        assert (answer.status_code, answer.json()["field"]) == (status, field)
    request = {**body(two_quads), "outputs": {"map": {}}}
    assert (
        client.post("/processes/classify-area/execution", json=request).json()["field"] == "outputs"
    )


def test_too_large_an_area_is_refused_with_the_limit_and_what_to_do(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = "/processes/classify-area/execution"
    with serve(two_quads.directory, pixelwise_model, sync_area_km2=0.5, operator_key=KEY) as client:
        answer = client.post(path, json=body(two_quads))
        assert answer.status_code == 413
        assert answer.json()["limit"] == 0.5
        assert answer.json()["estimate"]["blocks"] > 4
        assert "respond-async" in answer.json()["hint"]
        assert client.get("/jobs", headers={"x-api-key": KEY}).json()["jobs"] == []
    with serve(two_quads.directory, pixelwise_model, job_area_km2=0.5) as client:
        assert client.post(path, json=body(two_quads), headers=ASYNC).status_code == 413


@pytest.mark.slow
def test_change_is_from_and_to_and_its_matrix_sums_to_the_area(
    serve: Serve, two_years: World, pixelwise_model: Path
) -> None:
    area = area_of(two_years, shrink=250)
    with serve(two_years.directory, pixelwise_model) as client:
        request = {"inputs": {"area": area, "from": 2017, "to": "2019"}}
        results = client.post("/processes/change/execution", json=request).json()
        single = {}
        for year in ("2017", "2019"):
            request = {"inputs": {"area": area, "year": year}}
            document = client.post("/processes/classify-area/execution", json=request).json()
            single[year] = client.get(document["cog"]["href"]).content
        change = client.get(results["cog"]["href"]).content
    before, after = (classes_in(single[year], "tif") for year in ("2017", "2019"))
    with MemoryFile(change) as memory, memory.open() as dataset:
        found = dataset.read(1)
        assert "to" in dataset.tags()["LANDCOVER_CLASSES"]
    data = before != NODATA
    assert (found[data] == before[data] * 10 + after[data]).all()
    assert (found[~data] == NODATA).all()
    rows = np.array(results["matrix"]["matrix_hectares"])
    assert np.count_nonzero(rows - np.diag(np.diag(rows)))
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(shape(area))[0]) / 1e4
    assert rows.sum() == pytest.approx(geodesic, rel=1e-4)


@pytest.mark.slow
def test_an_area_in_two_utm_zones_is_one_raster_and_no_ground_counts_twice(
    serve: Serve, utm_seam: World, pixelwise_model: Path
) -> None:
    west, east = (shape(area_of(utm_seam, 100, scene)) for scene in (0, 1))
    edges = max(west.bounds[1], east.bounds[1]), min(west.bounds[3], east.bounds[3])
    area = box(west.bounds[0] + 0.002, edges[0] + 0.002, east.bounds[2] - 0.002, edges[1] - 0.002)
    request = {"inputs": {"area": mapping(area)}}
    with serve(utm_seam.directory, pixelwise_model) as client:
        results = client.post("/processes/classify-area/execution", json=request).json()
        content = client.get(results["cog"]["href"]).content
        with MemoryFile(content) as memory, memory.open() as dataset:
            assert dataset.crs.to_epsg() in (26916, 26917)
            classes = dataset.read(1)
        half = classes.shape[1] // 2
        assert (classes[:, :half] != NODATA).any()
        assert (classes[:, half:] != NODATA).any()
        sync = client.post("/statistics", json=request["inputs"]["area"]).json()
        assert client.post("/feature.tif", json=request["inputs"]["area"]).content == content
    found = results["statistics"]
    assert found == sync["properties"]["statistics"]
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(area)[0])
    assert found["sum"]["m2"] == pytest.approx(geodesic, rel=1e-4)


def test_metrics_count_the_jobs_by_status(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        assert 'landcover_jobs{status="successful"} 0.0' in client.get("/metrics").text
        assert client.post("/processes/seed/execution", json=body(two_quads)).status_code == 200
        text = client.get("/metrics").text
    assert 'landcover_jobs{status="successful"} 1.0' in text
    assert 'landcover_jobs{status="failed"} 0.0' in text


def test_after_seeding_nothing_is_left_to_compute(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        report = client.post("/processes/seed/execution", json=body(two_quads)).json()["report"]
        cache = client.app.state.services.landcover.cache  # type: ignore[attr-defined]
        computed = cache.computed
        assert report["blocks"] >= computed > 4
        client.post("/processes/classify-area/execution", json=body(two_quads))
        assert cache.computed == computed


def test_dismissing_stops_the_work_between_operators(
    serve: Serve, two_quads: World, slow_model: Path, tmp_path: Path
) -> None:
    with serve(two_quads.directory, slow_model, jobs_dir=tmp_path / "jobs") as client:
        path = "/processes/classify-area/execution"
        job_id = client.post(path, json=body(two_quads), headers=ASYNC).json()["jobID"]
        services = client.app.state.services  # type: ignore[attr-defined]
        until(lambda: len(services.landcover.cache.single_flight))
        assert client.get(f"/jobs/{job_id}/results").json()["type"].endswith("result-not-ready")
        assert client.delete(f"/jobs/{job_id}").json()["status"] == "dismissed"
        until(lambda: not len(services.landcover.cache.single_flight))
        computed = services.landcover.cache.computed
        until(lambda: not (tmp_path / "jobs" / job_id).exists())
        assert services.landcover.cache.computed == computed
        assert client.get(f"/jobs/{job_id}").json()["status"] == "dismissed"
        assert client.delete(f"/jobs/{job_id}").status_code == 410


@pytest.mark.slow
def test_a_tile_asked_for_during_a_job_is_not_behind_its_blocks(
    serve: Serve, two_quads: World, slow_model: Path
) -> None:
    with serve(two_quads.directory, slow_model, infer_workers=1) as client:
        path = "/processes/classify-area/execution"
        job_id = client.post(path, json=body(two_quads), headers=ASYNC).json()["jobID"]
        cache = client.app.state.services.landcover.cache  # type: ignore[attr-defined]
        until(lambda: len(cache.single_flight) > 1)
        lon, lat = two_quads.scenes[1].lonlat
        before = client.get(f"/jobs/{job_id}").json()["blocks"]["done"]
        assert client.get(f"/point/{lon},{lat}").status_code == 200
        # The block on the thread, and one more that had ended before its record was written.
        assert client.get(f"/jobs/{job_id}").json()["blocks"]["done"] - before <= 2
        client.delete(f"/jobs/{job_id}")


# Killed and resumed


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_in_the_middle_a_job_goes_on_and_ends_in_the_same_bytes(
    two_quads: World, slow_model: Path, tmp_path: Path
) -> None:
    files: dict[str, bytes] = {}
    job_id = ""
    kept: dict[Path, int] = {}
    request = {"inputs": {"area": area_of(two_quads, shrink=300)}}  # six blocks
    for kind, kills in (("killed", 2), ("undisturbed", 0)):
        jobs = tmp_path / kind
        for attempt in range(kills + 1):
            with (
                server(two_quads, slow_model, jobs) as (base, process),
                httpx.Client(base_url=base, timeout=60) as client,
            ):
                if attempt == 0:
                    path = "/processes/classify-area/execution"
                    answer = client.post(path, json=request, headers=ASYNC)
                    job_id = answer.json()["jobID"]
                blocks = jobs / job_id / "blocks"
                if attempt < kills:
                    until(lambda: len(list(blocks.glob("*/*"))) > len(kept))  # noqa: B023
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    now = {p: p.stat().st_mtime_ns for p in blocks.glob("*/*") if not p.suffix}
                    # No finished block was computed again.
                    assert all(now[path] == moment for path, moment in kept.items())
                    kept = now
                    continue
                assert ended(client, job_id)["status"] == "successful"
                document = client.get(f"/jobs/{job_id}/results").json()
                files[kind] = client.get(document["cog"]["href"]).content
        kept = {}
    assert files["killed"] == files["undisturbed"]
    with MemoryFile(files["killed"]) as memory, memory.open() as dataset:
        assert dataset.nodata == NODATA


@pytest.mark.slow
def test_the_results_are_swept_after_their_time(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    settings = {"jobs_dir": tmp_path, "job_keep_h": 1e-9}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        path = "/processes/classify-area/execution"
        first = client.post(path, json=body(two_quads), headers=ASYNC).json()["jobID"]
        ended(client, first)
        time.sleep(0.01)
        second = client.post(path, json=body(two_quads), headers=ASYNC).json()["jobID"]
        assert client.get(f"/jobs/{first}").status_code == 404
        assert not (tmp_path / first).exists()
        ended(client, second)


def test_the_raster_opens_as_what_it_is(client: TestClient, two_quads: World) -> None:
    document = client.post("/processes/classify-area/execution", json=body(two_quads)).json()
    with (
        MemoryFile(client.get(document["cog"]["href"]).content) as memory,
        memory.open() as dataset,
    ):
        assert dataset.crs.to_epsg() == two_quads.scenes[0].epsg
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.colormap(1)[5][:3] == (124, 215, 136)
        assert rasterio.dtypes.uint8 == dataset.dtypes[0]
    assert mapping(shape(area_of(two_quads)))["type"] == "Polygon"
