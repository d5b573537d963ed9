"""A new model file takes over without a restart; a broken one changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx2 as httpx
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from app import settings
from app.services import Services
from tests.app.conftest import Serve, tiles_around
from tests.app.processes import figure, serving
from tests.app.running import until
from tests.world import graphs
from tests.world.world import World


def put(model: Path, path: Path) -> None:
    """Puts a model, and its card, in the place of another."""
    for suffix in (".onnx", ".card.json"):
        shutil.copy(model.with_suffix(suffix), path.with_suffix(suffix))


def reload(client: TestClient) -> Services:
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    assert client.portal
    client.portal.call(services.reload_model)
    return services


def tile_of(place: World) -> str:
    z, x, y = tiles_around(*place.scenes[0].lonlat, 17, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"


def test_a_new_model_file_takes_over_and_no_block_is_of_both(
    serve: Serve, two_quads: World, pixelwise_model: Path, neighborhood_model: Path, tmp_path: Path
) -> None:
    path, now = tile_of(two_quads), tmp_path / "model.onnx"
    with serve(two_quads.directory, neighborhood_model) as other:
        wanted = other.get(path)
    put(pixelwise_model, now)
    with serve(two_quads.directory, now, cache_dir=tmp_path / "cache") as client:
        before = client.get(path)
        put(neighborhood_model, now)
        assert client.get(path).content == before.content
        services = reload(client)
        after = client.get(path, headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.content == wanted.content != before.content
        assert after.headers["etag"] == wanted.headers["etag"] != before.headers["etag"]
        ready = client.get("/readyz").json()
        assert list(ready["models"]) == ["neighborhood"]
        assert ready["model_refused"] is None
        assert client.get("/model").json()["name"] == "neighborhood"
        put(pixelwise_model, now)
        computed = services.landcover.cache.computed
        reload(client)
        assert client.get(path).content == before.content
        assert services.landcover.cache.computed == computed  # its blocks are still there


@pytest.mark.parametrize("fault", ["cut", "missing", "other card", "other resolution"])
def test_a_broken_model_file_is_refused_and_the_one_before_kept(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path, fault: str
) -> None:
    path, now = tile_of(two_quads), tmp_path / "model.onnx"
    put(pixelwise_model, now)
    with serve(two_quads.directory, now) as client:
        before = client.get(path)
        if fault == "cut":
            now.write_bytes(now.read_bytes()[:1000])
        elif fault == "missing":
            now.unlink()
        elif fault == "other card":
            now.with_suffix(".card.json").write_text("{}")
        else:
            card = graphs.card_of(ground_resolution=2.0)
            graphs.write_model(now, "pixelwise", card)
        services = reload(client)
        assert client.get(path).content == before.content
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "refused" in ready.json()["model_refused"]
        assert "landcover_model_refused 1.0" in client.get("/metrics").text
        put(pixelwise_model, now)
        reload(client)
        assert services.model_refused is None
        assert "landcover_model_refused 0.0" in client.get("/metrics").text


@pytest.mark.slow
@pytest.mark.alone
def test_sighup_swaps_the_model_of_a_running_server(
    two_quads: World, pixelwise_model: Path, neighborhood_model: Path, tmp_path: Path
) -> None:
    now = tmp_path / "model.onnx"
    put(pixelwise_model, now)
    with serving(tmp_path, imagery=two_quads.directory, model=now) as running:
        before = httpx.get(running.base + tile_of(two_quads), timeout=60)
        put(neighborhood_model, now)
        os.kill(running.process.pid, signal.SIGHUP)
        until(lambda: "neighborhood" in httpx.get(f"{running.base}/readyz").json()["models"])
        after = httpx.get(running.base + tile_of(two_quads), timeout=60)
        assert after.content != before.content
        now.write_bytes(b"broken")
        os.kill(running.process.pid, signal.SIGHUP)
        until(lambda: figure(running.base, "landcover_model_refused") == 1)
        assert httpx.get(running.base + tile_of(two_quads)).content == after.content
    assert "the one before is kept" in running.log.read_text()


def test_a_model_that_ships_is_selected_by_its_name(
    serve: Serve, two_quads: World, pixelwise_model: Path, neighborhood_model: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(settings, "WEIGHTS", tmp_path)
    put(neighborhood_model, tmp_path / "landcover.onnx")
    put(pixelwise_model, tmp_path / "fast.onnx")
    (tmp_path / "fast.int8.onnx").touch()
    path = tile_of(two_quads)
    with serve(two_quads.directory, pixelwise_model) as other:
        wanted = other.get(path)
    with serve(two_quads.directory, Path("fast")) as client:
        assert client.get("/model").json()["name"] == "pixelwise"
        assert list(client.get("/readyz").json()["models"]) == ["pixelwise"]
        assert client.get(path).content == wanted.content
    monkeypatch.setenv("LANDCOVER_MODEL", "quick")
    refused = "no model of that name ships; there are: fast, landcover; or give the path"
    with pytest.raises(ValidationError, match=refused):
        settings.Settings()


@pytest.mark.parametrize("path", ["fast.onnx", "./fast", "models/fast", "/srv/fast"])
def test_a_path_is_never_taken_for_a_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fast.onnx").touch()
    monkeypatch.setattr(settings, "WEIGHTS", tmp_path)
    monkeypatch.setenv("LANDCOVER_MODEL", path)
    assert settings.Settings().model == Path(path)
