"""What the service says about itself: figures, request ids, log lines, settings nobody knows."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from starlette.types import Message

from app.monitoring import logs
from app.routes.middleware import Observed
from app.settings import Settings, unknown_settings
from tests.app.conftest import Serve, tiles_around
from tests.world.world import World

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(client: TestClient) -> Figures:
    """(name, labels) → value, read by Prometheus' own parser."""
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def gained(before: Figures, after: Figures, name: str, **labels: str) -> float:
    """By how much a figure grew. Counters are the process's, which runs other tests too."""
    key = (name, frozenset(labels.items()))
    return after.get(key, 0.0) - before.get(key, 0.0)


def tile_path(place: World) -> str:
    z, x, y = tiles_around(*place.scenes[0].lonlat, 18, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"


def test_tiles_blocks_and_tiers_are_counted(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    path = tile_path(two_quads)
    with serve(two_quads.directory, pixelwise_model, cache_dir=tmp_path) as client:
        start = figures(client)
        etag = client.get(path).headers["etag"]
        client.get(path)
        client.get(path, headers={"if-none-match": etag})
        client.get(path + "?classes=77")
        client.get(path.replace("/tiles", "/imagery/tiles"))
        end = figures(client)
        computed = client.app.state.services.landcover.cache.computed  # type: ignore[attr-defined]
    for kind, outcome, count in (
        ("class", "full", 1),
        ("class", "memory", 1),
        ("class", "not_modified", 1),
        ("class", "refused", 1),
        ("imagery", "full", 1),
    ):
        found = gained(start, end, "landcover_tiles_total", kind=kind, outcome=outcome)
        assert (kind, outcome, found) == (kind, outcome, count)
    assert gained(start, end, "landcover_blocks_inferred_total") == computed >= 1
    for tier in ("memory", "disk"):
        misses = gained(start, end, "landcover_cache_requests_total", tier=tier, result="miss")
        assert misses == computed
    for name in ("inference", "read"):
        assert gained(start, end, f"landcover_{name}_seconds_count") == computed
    assert gained(start, end, "landcover_request_blocks_sum") == computed
    assert end["landcover_queue_blocks", frozenset()] == 0
    assert end["landcover_resident_bytes", frozenset()] > 10e6


def test_labels_never_hold_what_a_client_wrote(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        for number in range(30):
            client.get(f"/nowhere/{number}")
            client.get(f"/tiles/WebMercatorQuad/17/{number}/5.png?source=secret{number}")
        text = client.get("/metrics").text
    assert "secret" not in text
    assert "nowhere" not in text
    assert 'route="none",status="404"' in text


def test_a_sane_request_id_is_kept_and_another_replaced(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        for path in ("/healthz", "/nowhere", tile_path(two_quads)):
            answer = client.get(path, headers={"x-request-id": "proxy-17:ab.c"})
            assert answer.headers["x-request-id"] == "proxy-17:ab.c"
            made = [
                client.get(path, headers={"x-request-id": bad}).headers["x-request-id"]
                for bad in ("", "a b", "x" * 200, '"}{', "<script>")
            ]
            assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in made)
            assert len(set(made)) == len(made)


def test_a_tile_says_where_its_time_went(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = tile_path(two_quads)
    with serve(two_quads.directory, pixelwise_model) as client:
        cold, warm = (client.get(path).headers["server-timing"] for _ in range(2))
        assert "server-timing" not in client.get("/healthz").headers
    timings = dict(re.findall(r"(\w+);dur=([\d.]+)", cold))
    assert set(timings) == {"read", "infer", "total"}
    assert float(timings["infer"]) > 0
    assert re.fullmatch(r"total;dur=[\d.]+", warm)


def test_a_json_line_is_one_object_with_the_request_it_belongs_to(
    serve: Serve,
    two_quads: World,
    pixelwise_model: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(logs.JsonLines())
    log = logging.getLogger("landcover.access")
    log.addHandler(handler)
    try:
        with (
            caplog.at_level(logging.INFO, "landcover.access"),
            serve(two_quads.directory, pixelwise_model, access_log=True) as client,
        ):
            client.get('/point/-87,33?x="a%0Ab"', headers={"x-request-id": "req-1"})
    finally:
        log.removeHandler(handler)
    (line,) = lines
    assert "\n" not in line
    found = json.loads(line)
    assert (found["request_id"], found["status"], found["path"]) == ("req-1", 200, "/point/-87,33")
    assert found["level"] == "info"
    assert found["seconds"] >= 0


def test_an_error_in_a_json_line_keeps_its_traceback_in_one_line() -> None:
    error = ValueError("odd\nvalue")
    about = (ValueError, error, None)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "it %s", ("failed",), about)
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "it failed"
    assert "ValueError: odd" in json.loads(line)["error"]


def test_a_misspelled_variable_is_named_with_the_nearest_setting() -> None:
    known = [f"LANDCOVER_{name.upper()}" for name in Settings.model_fields]
    assert unknown_settings([*known, "PATH", "GDAL_CACHEMAX"]) == []
    assert unknown_settings(["LANDCOVER_IMAGRY", "LANDCOVER_QQQ"]) == [
        "LANDCOVER_IMAGRY is not a setting and is ignored; did you mean LANDCOVER_IMAGERY?",
        "LANDCOVER_QQQ is not a setting and is ignored",
    ]


@pytest.mark.parametrize(
    ("processes", "cores", "threads"), [(1, 4, 4), (2, 2, 1), (2, 4, 2), (2, 3, 2), (4, 2, 1)]
)
def test_processes_divide_what_is_set_for_the_service(
    processes: int, cores: int, threads: int
) -> None:
    whole = Settings(processes=processes, queue_blocks=128, cache_memory_mb=192)
    share = whole.share(cores)
    assert share.infer_workers == threads
    assert share.queue_blocks * processes == 128
    assert share.cache_memory_mb * processes == 192


def test_readyz_tells_the_state_of_redis_and_no_password(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        assert client.get("/readyz").json()["redis"] is None
    url = "redis://user:secret@127.0.0.1:1/0"
    with serve(two_quads.directory, pixelwise_model, redis_url=url) as client:
        assert client.get(tile_path(two_quads)).status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["redis"] not in ("ok", None)
        assert "secret" not in ready.text


@pytest.mark.parametrize(
    "path", ["/statistics", "/estimate", "/feature.tif", "/processes/seed/execution"]
)
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    serve: Serve, two_quads: World, pixelwise_model: Path, path: str
) -> None:
    """A traceback for each held up the event loop for a second when 200 left at once."""
    brought = iter(({"type": "http.request", "body": b"{", "more_body": True},))
    sent: list[Message] = []

    async def receive() -> Message:
        return next(brought, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"",
        "headers": [], "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    with serve(two_quads.directory, pixelwise_model) as client:
        start = figures(client)
        asyncio.run(client.app({**scope, "app": client.app}, receive, send))  # type: ignore[arg-type]
        end = figures(client)
    assert [m["status"] for m in sent if m["type"] == "http.response.start"] == [499]
    left = {
        key: end[key] - start.get(key, 0) for key in end if key[0] == "landcover_requests_total"
    }
    codes = {dict(labels)["status"] for (_, labels), count in left.items() if count}
    assert codes == {"499", "200"}  # the other is that of /metrics


def test_a_request_that_a_stopping_server_cannot_finish_is_told_to_come_again() -> None:
    sent: list[Message] = []

    async def endless(*_: object) -> None:
        await asyncio.sleep(60)

    async def send(message: Message) -> None:
        sent.append(message)

    async def story() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        answer = asyncio.ensure_future(Observed(endless)(scope, endless, send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        answer.cancel()
        await answer

    asyncio.run(story())
    start, body = sent
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert body["body"] == b""
