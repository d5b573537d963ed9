"""Several web processes: one answer, one inference a block, nothing lost when they stop."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from tests.app.conftest import tiles_around
from tests.app.processes import Running, figure, serving
from tests.app.redis_server import redis_server
from tests.app.running import area_of
from tests.world.world import World

pytestmark = [pytest.mark.alone, pytest.mark.slow]


def tile_paths(place: World, zoom: int = 17, reach: int = 0) -> list[str]:
    tiles = tiles_around(*place.scenes[0].lonlat, zoom, reach)
    return [f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png" for z, x, y in tiles]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


def children(running: Running) -> set[int]:
    """pids of the web processes: spawn starts a resource tracker beside them."""
    found = set()
    for child in psutil.Process(running.process.pid).children():
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
        except (psutil.ZombieProcess, psutil.NoSuchProcess):
            continue
    return found


def test_two_hundred_clients_of_one_cold_tile_over_two_services_cost_one_inference_a_block(
    two_quads: World, slow_model: Path, tmp_path: Path
) -> None:
    (path,) = tile_paths(two_quads)
    with redis_server(tmp_path) as redis:
        settings = {
            "imagery": two_quads.directory,
            "model": slow_model,
            "redis_url": redis.url,
            "redis_timeout_s": 5,  # a machine busy with other tests is not a hung Redis
            "infer_workers": 1,
        }
        with serving(tmp_path, **settings) as one, serving(tmp_path, **settings) as two:
            bases = [one.base, two.base]
            with httpx.Client(timeout=120) as client, ThreadPoolExecutor(200) as pool:
                answers = list(
                    pool.map(lambda number: client.get(bases[number % 2] + path), range(200))
                )
            inferred = [figure(base, "landcover_blocks_inferred_total") for base in bases]
            blocks = figure(one.base, "landcover_request_blocks_sum") / figure(
                one.base, "landcover_request_blocks_count"
            )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(inferred) == blocks >= 1


def test_without_redis_processes_that_share_a_directory_infer_a_block_once(
    two_quads: World, slow_model: Path, tmp_path: Path
) -> None:
    (path,) = tile_paths(two_quads)
    options = ("--imagery", two_quads.directory, "--model", slow_model, "--processes", 2)
    with serving(tmp_path, *options, cache_dir=tmp_path / "cache") as both:
        until(lambda: len(children(both)) == 2)
        time.sleep(2)  # the second listens too

        def ask(_: int) -> bytes:
            answer = httpx.get(both.base + path, timeout=120)  # a connection each
            assert answer.status_code == 200
            return answer.content

        with ThreadPoolExecutor(40) as pool:
            assert len(set(pool.map(ask, range(40)))) == 1
        blocks = figure(both.base, "landcover_request_blocks_sum") / figure(
            both.base, "landcover_request_blocks_count"
        )
        assert figure(both.base, "landcover_blocks_inferred_total") == blocks >= 1


def test_processes_behind_one_socket_answer_alike_and_count_together(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    paths = tile_paths(two_quads, 18, 1)
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model)
    with serving(tmp_path, *options) as alone:
        wanted = [httpx.get(alone.base + path, timeout=60).content for path in paths]
    with serving(tmp_path, *options, "--processes", 2, cache_dir=tmp_path / "cache") as both:
        until(lambda: len(children(both)) == 2)
        for _ in range(3):  # a connection each, so that both processes are asked
            found = [httpx.get(both.base + path, timeout=60).content for path in paths]
            assert found == wanted
        count = figure(both.base, "landcover_tiles_total")
        assert count == 3 * len(paths)
        assert figure(both.base, "landcover_resident_bytes") > 50e6
        assert both.stop() in (0, -signal.SIGTERM)


def test_a_process_that_is_killed_is_replaced(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model, "--processes", 2)
    with serving(tmp_path, *options) as both:
        until(lambda: len(children(both)) == 2)
        victim = min(children(both))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(both)) == 2 and victim not in children(both))
        assert httpx.get(both.base + tile_paths(two_quads)[0], timeout=60).status_code == 200


def test_no_request_fails_while_processes_are_replaced_one_by_one(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    """Kept connections under load all the while; `failed` would hold a reset one too."""
    paths = tile_paths(two_quads, 18, 1)
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model, "--processes", 2)
    failed: list[str] = []
    requested = 0
    stopping = False

    def client(number: int) -> None:
        nonlocal requested
        with httpx.Client(timeout=60) as session:
            while not stopping:
                try:
                    answer = session.get(both.base + paths[(requested + number) % len(paths)])
                    if answer.status_code != 200:
                        failed.append(str(answer.status_code))
                except httpx.TransportError as error:
                    failed.append(repr(error))
                requested += 1
                time.sleep(0.01)

    with serving(tmp_path, *options) as both:
        until(lambda: len(children(both)) == 2)
        before = children(both)
        with ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(client, number) for number in range(6)]
            try:
                until(lambda: requested > 30)
                os.kill(both.process.pid, signal.SIGHUP)
                until(lambda: len(children(both)) == 2 and not children(both) & before, 100)
                so_far = requested
                until(lambda: requested > so_far + 30)
            finally:
                stopping = True
            for each in clients:
                each.result()
    assert failed == []


def test_sigterm_loses_no_tile_and_no_job(
    two_quads: World, slow_model: Path, tmp_path: Path
) -> None:
    """32 clients and a job, blocks of about a second; refused are only those that come afterwards,
    and the job goes on in the next process."""
    # So near each other that they share a few blocks: what a busy machine does within the limit.
    paths = tile_paths(two_quads, 21, 2)[:16]
    settings = {
        "imagery": two_quads.directory, "model": slow_model, "jobs_dir": tmp_path / "jobs",
    }  # fmt: skip
    with serving(tmp_path, **settings) as running, ThreadPoolExecutor(32) as pool:
        server = psutil.Process(running.process.pid)
        begun = httpx.post(
            f"{running.base}/processes/classify-area/execution",
            json={"inputs": {"area": area_of(two_quads)}},
            headers={"prefer": "respond-async"},
            timeout=60,
        )
        job = f"/jobs/{begun.json()['jobID']}"
        answers = [pool.submit(httpx.get, running.base + p, timeout=60) for p in paths * 2]
        until(
            lambda: sum(c.status == "ESTABLISHED" for c in server.net_connections("tcp")) >= 32,
            seconds=20,
        )
        assert httpx.get(running.base + job, timeout=60).json()["status"] == "running"
        began = time.monotonic()
        code = running.stop()
        lasted = time.monotonic() - began
        assert [answer.result().status_code for answer in answers] == [200] * 32
    assert code in (0, -signal.SIGTERM)
    assert lasted < 10 + 5
    with serving(tmp_path, **settings) as replacement:
        until(
            lambda: httpx.get(replacement.base + job, timeout=60).json()["status"] == "successful",
            seconds=120,
        )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_resets_no_connection(
    two_quads: World, pixelwise_model: Path, tmp_path: Path, processes: int
) -> None:
    """32 clients, some of whom connect while the server begins to stop, ten times; later ones are
    refused, which a client or a balancer knows to be safe to try elsewhere."""
    paths = (tile_paths(two_quads, 19, 3) * 2)[:32]
    settings = {"imagery": two_quads.directory, "model": pixelwise_model, "processes": processes}

    def ask(base: str, path: str, pause: float) -> str:
        host, _, port = base.removeprefix("http://").partition(":")
        time.sleep(pause)
        try:
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                answer = b""
                while data := connection.recv(65536):
                    answer += data
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return repr(error)
        return answer[9:12].decode() or "closed without an answer"

    seen: list[str] = []
    for attempt in range(10 // processes):
        with serving(tmp_path, **settings) as running, ThreadPoolExecutor(32) as pool:
            pauses = [0.004 * number for number in range(32)]
            answers = [
                pool.submit(ask, running.base, path, pause)
                for path, pause in zip(paths, pauses, strict=True)
            ]
            time.sleep(0.01 * attempt)
            assert running.stop() in (0, -signal.SIGTERM)
            seen += [answer.result() for answer in answers]
    assert set(seen) <= {"200", "refused"}, seen
    assert seen.count("200") > len(seen) / 2


def test_a_misspelled_setting_is_named_with_the_nearest(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model)
    with serving(tmp_path, *options, cach_dir="x", zzz="1") as running:
        text = running.log.read_text()
    assert (
        "LANDCOVER_CACH_DIR is not a setting and is ignored; did you mean LANDCOVER_CACHE_DIR?"
        in text
    )
    assert "LANDCOVER_ZZZ is not a setting and is ignored\n" in text


def test_every_process_knows_the_jobs_of_the_others(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model)
    with serving(tmp_path, *options, "--processes", 2) as both:
        until(lambda: len(children(both)) == 2)
        answer = httpx.post(
            f"{both.base}/processes/classify-area/execution",
            json={"inputs": {"area": area_of(two_quads)}},
            headers={"prefer": "respond-async"},
            timeout=60,
        )
        job = f"{both.base}/jobs/{answer.json()['jobID']}"
        # A connection each, so that the kernel hands them to either process.
        statuses = [httpx.get(job, timeout=60).status_code for _ in range(20)]
        assert statuses == [200] * 20
        until(lambda: httpx.get(job, timeout=60).json()["status"] == "successful")
        results = [httpx.get(f"{job}/results", timeout=60).json() for _ in range(10)]
        files = {httpx.get(found["cog"]["href"], timeout=60).content for found in results}
        # Counted once, not once a process.
        assert figure(both.base, "landcover_jobs") == 1
    assert len(files) == 1
