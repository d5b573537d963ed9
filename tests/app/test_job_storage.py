"""The folder of jobs: full, read-only, missing, swept. Everything else goes on meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.errors import StorageFull, StorageUnavailable
from app.jobs.job import Order, Spec
from app.jobs.store import Store
from tests.app.conftest import Serve, tiles_around
from tests.app.running import area_of, until
from tests.world.world import World

KEY = "operator-key-of-the-tests"
OPERATOR = {"x-api-key": KEY}
ASYNC = {"prefer": "respond-async"}
EXECUTE = "/processes/classify-area/execution"
MB = 1_000_000
SPEC = Spec(
    "classify-area", {"type": "Polygon", "coordinates": []}, "s", "m", ("latest",), ("cog",)
)


def submit(client: TestClient, world: World) -> Any:  # noqa: ANN401
    body = {"inputs": {"area": area_of(world, shrink=350)}}
    return client.post(EXECUTE, json=body, headers=ASYNC)


def successful(client: TestClient, job: str) -> None:
    until(lambda: client.get(f"/jobs/{job}").json()["status"] == "successful")


def test_many_begin_with_a_new_folder_at_once(tmp_path: Path) -> None:
    def begin(path: Path) -> None:
        store = Store(path)
        barrier.wait()
        assert store.claim("somebody", None) is None

    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            barrier = threading.Barrier(8)
            list(pool.map(begin, [tmp_path / str(number) / "jobs.sqlite"] * 8))


def assert_the_rest_goes_on(client: TestClient, world: World) -> None:
    (tile,) = tiles_around(*world.scenes[0].lonlat, 17, 0)
    assert client.get("/tiles/WebMercatorQuad/{}/{}/{}.png".format(*tile)).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json()["status"] == "ready"
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "landcover_requests_total" in answer.text


def remounted(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_507_with_the_reason_and_used_again(
    serve: Serve, two_quads: World, pixelwise_model: Path, small_disk: Path
) -> None:
    settings = {"jobs_dir": small_disk / "jobs", "operator_key": KEY}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        job = submit(client, two_quads).json()["jobID"]
        successful(client, job)
        foreign = small_disk / "foreign"
        with foreign.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        answer = submit(client, two_quads)
        assert answer.status_code == 507, answer.text
        assert "bytes left" in answer.json()["detail"]
        assert answer.headers["cache-control"] == "no-store"
        assert_the_rest_goes_on(client, two_quads)
        assert client.get("/jobs", headers=OPERATOR).json()["jobs"][0]["jobID"] == job
        results = client.get(f"/jobs/{job}/results").json()
        assert client.get(results["cog"]["href"]).status_code == 200
        foreign.unlink()
        successful(client, submit(client, two_quads).json()["jobID"])


@pytest.mark.slow
def test_a_disk_that_turns_read_only_is_503_and_still_read(
    serve: Serve, two_quads: World, pixelwise_model: Path, small_disk: Path
) -> None:
    settings = {"jobs_dir": small_disk / "jobs", "operator_key": KEY}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        job = submit(client, two_quads).json()["jobID"]
        successful(client, job)
        remounted(small_disk, "ro")
        try:
            answer = submit(client, two_quads)
            assert answer.status_code == 503, answer.text
            assert "jobs" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert_the_rest_goes_on(client, two_quads)
            until(lambda: "landcover_jobs_unavailable 1.0" in client.get("/metrics").text)
            assert client.get("/readyz").json()["jobs_unavailable"]
            assert client.get("/jobs", headers=OPERATOR).json()["jobs"][0]["jobID"] == job
            assert client.get(f"/jobs/{job}/results").status_code == 200
            assert client.delete(f"/jobs/{job}").status_code == 503
        finally:
            remounted(small_disk, "rw")
        successful(client, submit(client, two_quads).json()["jobID"])
        assert "landcover_jobs_unavailable 0.0" in client.get("/metrics").text


@pytest.mark.slow
def test_a_file_in_place_of_the_folder_takes_only_the_jobs(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings = {"jobs_dir": tmp_path / "file" / "jobs", "operator_key": KEY}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        assert_the_rest_goes_on(client, two_quads)
        assert "landcover_jobs_unavailable 1.0" in client.get("/metrics").text
        for answer in (submit(client, two_quads), client.get("/jobs", headers=OPERATOR)):
            assert answer.status_code == 503
            assert "Not a directory" in answer.json()["detail"]
        (tmp_path / "file").unlink()
        successful(client, submit(client, two_quads).json()["jobID"])


def test_a_disk_that_fills_up_during_a_job_fails_it_and_frees_its_blocks(
    serve: Serve,
    two_quads: World,
    pixelwise_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve(two_quads.directory, pixelwise_model, jobs_dir=tmp_path) as client:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("app.jobs.files.write_atomically", full)
        job = submit(client, two_quads).json()["jobID"]
        until(lambda: client.get(f"/jobs/{job}").json()["status"] == "failed")
        assert "No space left" in client.get(f"/jobs/{job}").json()["message"]
        assert not (tmp_path / job).exists()
        answer = client.get(f"/jobs/{job}/results")
        assert answer.status_code == 500
        assert "No space left" in answer.json()["detail"]


def test_scratch_files_without_room_are_507_and_without_a_disk_503(
    serve: Serve, two_quads: World, pixelwise_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        for number, status in ((28, 507), (30, 503)):

            def refuse(*_: object, number: int = number, **__: object) -> None:
                raise OSError(number, "told so")

            monkeypatch.setattr("app.area.handlers.tempfile.TemporaryDirectory", refuse)
            answer = client.post("/feature.tif", json=area_of(two_quads, shrink=350))
            assert answer.status_code == status
            assert "told so" in answer.json()["detail"]


def test_each_trouble_of_the_store_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"no database at all, by any means" * 200)
    with pytest.raises(StorageUnavailable, match="not a database") as caught:
        Store(path).add(SPEC, 1, 9)
    assert not isinstance(caught.value, StorageFull)


def test_a_folder_removed_while_serving_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs" / "jobs.sqlite")
    store.add(SPEC, 1, 9)
    for path in sorted(tmp_path.glob("jobs/*")):
        path.unlink()
    (tmp_path / "jobs").rmdir()
    assert store.newest()[0] == []
    store.add(SPEC, 1, 9)


# Swept


def test_old_results_go_by_themselves(
    serve: Serve,
    two_quads: World,
    pixelwise_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.jobs.runner.SWEEP_S", 0.1)
    settings = {"jobs_dir": tmp_path, "job_keep_h": 1.5 / 3600}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        job = submit(client, two_quads).json()["jobID"]
        until(lambda: client.get(f"/jobs/{job}").status_code == 404)
        assert not (tmp_path / job).exists()


def test_results_above_the_limit_go_oldest_first_of_who_keeps_most(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    settings = {"jobs_dir": tmp_path, "jobs_mb": 10}
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        store, runner = client.app.state.jobs.store, client.app.state.jobs._runner  # type: ignore[attr-defined]
        ids = []
        for owner, size in (("b", 3), ("a", 3), ("a", 2), ("a", 4)):
            job = store.add(SPEC, 1 << 61, 99, Order(owner))  # larger than anything that is run
            with store._connected() as db:
                db.execute("UPDATE jobs SET status = 'running' WHERE id = ?", (job.id,))
            store.transition(job.id, "successful", results={"cog": {"file": "x", "type": "y"}},
                             nbytes=size * MB)  # fmt: skip
            (tmp_path / job.id / "results").mkdir(parents=True)
            ids.append(job.id)
            time.sleep(0.01)
        runner.sweep()
        found = [store.get(each).status for each in ids]
        assert found == ["successful", "dismissed", "successful", "successful"]
        assert [(tmp_path / each).exists() for each in ids] == [True, False, True, True]
        answer = client.get(f"/jobs/{ids[1]}/results")
        assert answer.status_code == 404
        assert "more than 10 MB" in answer.json()["detail"]


def test_a_job_whose_results_would_never_fit_is_refused(
    serve: Serve, two_quads: World, pixelwise_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.service._MB", 100)
    with serve(two_quads.directory, pixelwise_model, jobs_mb=1) as client:
        answer = submit(client, two_quads)
        assert answer.status_code == 413
        assert answer.json()["limit"] == 100


def test_results_whose_files_have_gone_are_no_error_of_the_server(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model, jobs_dir=tmp_path) as client:
        job = submit(client, two_quads).json()["jobID"]
        successful(client, job)
        href = client.get(f"/jobs/{job}/results").json()["cog"]["href"]
        for path in (tmp_path / job / "results").glob("*.tif"):
            path.unlink()
        assert client.get(href).status_code == 404
        assert client.get(f"/jobs/{job}/results").status_code == 404
        assert client.get(f"/jobs/{job}").status_code == 200
