"""OGC API Processes as declared: OWSLib as a client, delivery of results, filters of lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.jobs.files import OUTPUT_TYPES
from app.jobs.job import JobFilter, Spec
from app.jobs.store import Store
from app.routes.openapi import as_3_0
from tests.app.conftest import Serve
from tests.app.running import area_of, until
from tests.world.world import World

KEY = "operator-key-of-the-tests"
OPERATOR = {"authorization": f"Bearer {KEY}"}
ASYNC = {"prefer": "respond-async"}
EXECUTE = "/processes/classify-area/execution"
SPEC = Spec(
    "classify-area", {"type": "Polygon", "coordinates": []}, "s", "m", ("latest",), ("cog",)
)


@pytest.fixture(scope="module")
def client(serve: Serve, two_quads: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_quads.directory, pixelwise_model, operator_key=KEY) as running:
        yield running


def request_of(world: World, outputs: object = None, **members: object) -> dict[str, Any]:
    area = area_of(world, shrink=350)
    return {"inputs": {"area": area}, **({"outputs": outputs} if outputs else {}), **members}


# OWSLib


@pytest.mark.slow
def test_owslib_reads_describes_and_executes(live: str, two_years: World) -> None:
    module = pytest.importorskip("owslib.ogcapi.processes")
    server = module.Processes(live)
    assert any("ogcapi-processes-1/1.0/conf/oas30" in c for c in server.conformance()["conformsTo"])
    described = server.api()
    assert described["openapi"].startswith("3.0.")
    assert "/processes/{processID}/execution" in described["paths"]
    assert [each["id"] for each in server.processes()] == ["classify-area", "change", "seed"]
    process = server.process("classify-area")
    assert process["outputs"]["cog"]["schema"]["contentMediaType"].startswith("image/tiff")
    inputs = {"area": area_of(two_years, 300)}
    found = server.execute("classify-area", inputs, {"statistics": {"transmissionMode": "value"}})
    assert found["statistics"]["sum"]["hectares"] > 1
    job = server.execute("classify-area", inputs, async_=True)
    assert job["status"] in ("accepted", "running")
    assert server.response_headers["location"].endswith(job["jobID"])


def test_the_description_is_valid_openapi_3_0(client: TestClient) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    answer = client.get("/api")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json;version=3.0"
    validator.OpenAPIV30SpecValidator(answer.json()).validate()
    links = client.get("/").json()["links"]
    (link,) = [each for each in links if each["rel"] == "service-desc"]
    assert link["type"] == answer.headers["content-type"]


def test_what_2020_says_in_a_schema_is_said_as_in_3_0() -> None:
    schema = {
        "anyOf": [{"type": "string", "pattern": "a"}, {"type": "null"}],
        "description": "x",
        "properties": {
            "const": {"const": 3},
            "examples": {"type": ["integer", "null"], "exclusiveMinimum": 0, "examples": [7]},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}]},
        },
    }
    found = as_3_0({"openapi": "3.1.0", "schema": schema})
    assert found["openapi"] == "3.0.3"
    assert found["schema"] == {
        "type": "string",
        "pattern": "a",
        "nullable": True,
        "description": "x",
        "properties": {
            "const": {"enum": [3]},
            "examples": {
                "type": "integer", "nullable": True, "minimum": 0, "exclusiveMinimum": True,
                "example": 7,
            },
            "pair": {"type": "array", "items": {"anyOf": [{"type": "string"}]}},
        },
    }  # fmt: skip


# Results as the request wants them


@pytest.fixture(scope="module")
def document(client: TestClient, two_quads: World) -> dict[str, Any]:
    """The results with every output as it comes by itself."""
    outputs: dict[str, Any] = {name: {} for name in ("cog", "statistics", "csv", "item")}
    found: dict[str, Any] = client.post(EXECUTE, json=request_of(two_quads, outputs)).json()
    return found


def test_in_a_document_an_output_comes_as_requested(
    client: TestClient, two_quads: World, document: dict[str, Any]
) -> None:
    modes = {"cog": "value", "csv": "value", "item": "value", "statistics": "reference"}
    outputs = {name: {"transmissionMode": mode} for name, mode in modes.items()}
    answer = client.post(EXECUTE, json=request_of(two_quads, outputs))
    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    files = {name: client.get(document[name]["href"]).content for name in ("cog", "csv", "item")}
    assert (found["cog"]["encoding"], found["cog"]["mediaType"]) == ("base64", OUTPUT_TYPES["cog"])
    assert base64.b64decode(found["cog"]["value"]) == files["cog"]
    assert found["csv"]["value"].encode() == files["csv"]
    ours, theirs = found["item"]["value"], json.loads(files["item"])
    assert ours["geometry"] == theirs["geometry"]
    referenced = client.get(found["statistics"]["href"])
    assert referenced.headers["content-type"] == found["statistics"]["type"] == "application/json"
    assert referenced.json() == document["statistics"]


@pytest.mark.parametrize("prefer", [{}, ASYNC])
@pytest.mark.parametrize("name", ["cog", "statistics", "csv"])
def test_raw_a_single_output_is_the_answer(
    client: TestClient,
    two_quads: World,
    document: dict[str, Any],
    name: str,
    prefer: dict[str, str],
) -> None:
    request = request_of(two_quads, {name: {}}, response="raw")
    answer = client.post(EXECUTE, json=request, headers=prefer)
    if prefer:
        answer = results_of(client, answer.json()["jobID"])
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == OUTPUT_TYPES[name].partition(";")[0]
    if name == "statistics":
        assert answer.json() == document[name]
    else:
        assert answer.content == client.get(document[name]["href"]).content


def results_of(client: TestClient, job: str) -> Any:  # noqa: ANN401
    until(lambda: client.get(f"/jobs/{job}").json()["status"] == "successful")
    return client.get(f"/jobs/{job}/results")


def test_raw_several_outputs_are_the_parts_of_one_answer(
    client: TestClient, two_quads: World, document: dict[str, Any]
) -> None:
    outputs = {"cog": {}, "statistics": {}, "csv": {"transmissionMode": "reference"}}
    answer = client.post(EXECUTE, json=request_of(two_quads, outputs, response="raw"))
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.content, policy=HTTP)
    assert message.get_content_type() == "multipart/related"
    parts = {part["content-id"]: part for part in message.iter_parts()}
    assert list(parts) == ["<cog>", "<statistics>", "<csv>"]
    content = {name: bytes(part.get_payload(decode=True)) for name, part in parts.items()}
    assert content["<cog>"] == client.get(document["cog"]["href"]).content
    assert json.loads(content["<statistics>"]) == document["statistics"]
    assert content["<csv>"] == b""
    location = parts["<csv>"]["content-location"]
    assert client.get(location).content == client.get(document["csv"]["href"]).content


def test_raw_references_are_links(client: TestClient, two_quads: World) -> None:
    outputs = {name: {"transmissionMode": "reference"} for name in ("cog", "statistics")}
    answer = client.post(EXECUTE, json=request_of(two_quads, outputs, response="raw"))
    assert (answer.status_code, answer.content) == (204, b"")
    links = [part.partition(">")[0][1:] for part in answer.headers["link"].split(", ")]
    assert [client.get(link).status_code for link in links] == [200, 200]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"response": "xml"}, "response"),
        ({"response": 1e300}, "response"),
        ({"outputs": {"cog": {"transmissionMode": "carrier"}}}, "outputs.cog.transmissionMode"),
        ({"outputs": {"cog": {"transmissionMode": ["value"]}}}, "outputs.cog.transmissionMode"),
        ({"outputs": {"cog": {"format": {"mediaType": "image/png"}}}}, "outputs.cog.format"),
        ({"outputs": {"cog": 1}}, "outputs.cog"),
        ({"outputs": {"map": {}}}, "outputs"),
    ],
)
def test_a_delivery_that_cannot_be_is_refused(
    client: TestClient, two_quads: World, members: dict[str, Any], field: str
) -> None:
    answer = client.post(EXECUTE, json={**request_of(two_quads), **members})
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.parametrize("field", ["year", "source", "fill", "model", "response", "outputs"])
def test_a_number_beyond_all_numbers_is_refused(
    client: TestClient, two_quads: World, field: str
) -> None:
    text = json.dumps(request_of(two_quads))
    text = (
        text[:-1] + f', "{field}": 1e999}}'
        if field in ("response", "outputs")
        else text.replace('"inputs": {', f'"inputs": {{"{field}": 1e999, ')
    )
    answer = client.post(EXECUTE, content=text)
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


# Lists


def test_the_list_of_processes_has_pages(client: TestClient) -> None:
    first = client.get("/processes?limit=2").json()
    assert [each["id"] for each in first["processes"]] == ["classify-area", "change"]
    (following,) = [link["href"] for link in first["links"] if link["rel"] == "next"]
    assert [each["id"] for each in client.get(following).json()["processes"]] == ["seed"]


def test_the_list_of_jobs_is_filtered(client: TestClient, two_quads: World) -> None:
    seed = client.post("/processes/seed/execution", json=request_of(two_quads))
    assert seed.status_code == 200

    def listed(query: str) -> list[dict[str, Any]]:
        answer = client.get(f"/jobs?{query}", headers=OPERATOR)
        assert answer.status_code == 200, answer.text
        jobs: list[dict[str, Any]] = answer.json()["jobs"]
        return jobs

    assert [job["processID"] for job in listed("processID=seed")] == ["seed"]
    assert listed("processID=change") == []
    assert {job["status"] for job in listed("status=successful,failed")} == {"successful"}
    assert listed("status=failed") == []
    assert len(listed("limit=1")) == 1
    assert listed("datetime=../2001-01-01") == []
    assert listed("datetime=2001-01-01/..&type=process")
    assert listed("minDuration=100000") == []
    page = client.get("/jobs?limit=1&processID=seed,classify-area", headers=OPERATOR).json()
    (following,) = [link["href"] for link in page["links"] if link["rel"] == "next"]
    assert "processID=seed" in following
    assert len(client.get(following, headers=OPERATOR).json()["jobs"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=many", "limit"),
        ("limit=1e9", "limit"),
        ("offset=x", "offset"), ("status=lost", "status"), ("processID=paint", "processID"),
        ("type=wps", "type"), ("datetime=yesterday", "datetime"), ("datetime=../..", "datetime"),
        ("datetime=2020-01-02/2020-01-01", "datetime"), ("datetime=2020-13-01", "datetime"),
        ("minDuration=-1", "minDuration"), ("maxDuration=x", "maxDuration"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named(client: TestClient, query: str, field: str) -> None:
    answer = client.get(f"/jobs?{query}", headers=OPERATOR)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_more_than_a_page_may_have_is_a_whole_page(client: TestClient) -> None:
    assert client.get("/jobs?limit=999999999999", headers=OPERATOR).status_code == 200
    assert client.get("/processes?limit=999999999999").status_code == 200


def test_days_and_durations_have_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    ids = []
    for moment, lasted in ((100.0, 5), (200.0, 50)):
        monkeypatch.setattr("app.jobs.store.time.time", lambda now=moment: now)
        ids.append(store.add(SPEC, 1, 9).id)
        store.claim("a")
        monkeypatch.setattr("app.jobs.store.time.time", lambda now=moment + lasted: now)
        store.transition(ids[-1], "successful")
    for which, expected in (
        (JobFilter(created_to=100), ids[:1]),
        (JobFilter(created_from=100, created_to=199), ids[:1]),
        (JobFilter(created_from=101), ids[1:]),
        (JobFilter(min_duration=5, max_duration=5), ids[:1]),
        (JobFilter(min_duration=6), ids[1:]),
    ):
        assert [job.id for job in store.newest(which=which)[0]] == expected
