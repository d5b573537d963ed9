"""Shares of clients: one that asks for much does not keep another waiting."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.cache.single_flight import SingleFlight
from app.errors import Busy, QuotaExceeded
from app.landcover import batching, blocks
from app.scheduling import (
    Flow,
    Gate,
    Pool,
    Priority,
    _Shares,
    background,
    current_priority,
    prioritized,
    yield_cores,
)
from app.services import Services
from model.segment import probabilities_of
from tests.app.conftest import Serve, tiles_around
from tests.app.running import area_of, until
from tests.world.world import World

pytestmark = pytest.mark.alone

A, B = Flow("a"), Flow("b")


async def order_of(work: Sequence[tuple[Flow, bool]], seconds: float = 0.002) -> list[str]:
    """The flows whose calls one thread takes, in its order; all wait when the first begins."""
    order: list[str] = []
    pool = Pool("test", 1)
    release, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        release.wait(10)

    def call(name: str) -> None:
        order.append(name)
        time.sleep(seconds)

    async def submit(flow: Flow, interactive: bool) -> None:
        with prioritized(interactive, flow):
            await pool.run(call, flow.name)

    busy = asyncio.create_task(pool.run(hold))
    await asyncio.to_thread(held.wait, 10)
    tasks = [asyncio.create_task(submit(*each)) for each in work]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(busy, *tasks)
    pool.close()
    return order


def test_a_client_is_not_behind_all_that_another_asked_for() -> None:
    order = asyncio.run(order_of([(A, True)] * 24 + [(B, True)] * 2))
    # A has one turn before each of B's, and one more for what was not yet measured.
    assert [position for position, name in enumerate(order) if name == "b"][1] <= 5


def test_turns_are_shared_by_weight() -> None:
    heavy = Flow("heavy", 3)
    order = asyncio.run(order_of([(A, True)] * 20 + [(heavy, True)] * 20, 0.004))
    assert 11 <= Counter(order[:16])["heavy"] <= 14


def test_the_background_is_shared_too_and_after_whatever_is_interactive() -> None:
    order = asyncio.run(order_of([(A, False)] * 6 + [(B, False)] * 3 + [(A, True)] * 4))
    assert order[:4] == ["a"] * 4
    assert Counter(order[4:10])["b"] >= 2


def test_who_was_idle_has_saved_nothing_up() -> None:
    async def story() -> list[str]:
        order: list[str] = []
        pool = Pool("test", 1)

        def call(name: str) -> None:
            order.append(name)
            time.sleep(0.002)

        async def ask(flow: Flow, times: int) -> None:
            with prioritized(True, flow):
                await asyncio.gather(*(pool.run(call, flow.name) for _ in range(times)))

        await ask(A, 20)
        await asyncio.gather(ask(A, 10), ask(B, 10))
        pool.close()
        return order[20:]

    order = asyncio.run(story())
    assert 3 <= Counter(order[:10])["a"] <= 7


def test_what_another_client_joins_while_it_waits_has_that_ones_turn_too() -> None:
    async def story() -> list[int]:
        order: list[int] = []
        pool = Pool("test", 1)
        release, held = threading.Event(), threading.Event()

        def call(number: int) -> None:
            order.append(number)
            time.sleep(0.002)

        def hold() -> None:
            held.set()
            release.wait(10)

        priorities = []

        async def submit(number: int, interactive: bool) -> None:
            with prioritized(interactive, A) as priority:
                priorities.append(priority)
                await pool.run(call, number)

        with prioritized(True, A):
            busy = asyncio.create_task(pool.run(hold))
        await asyncio.to_thread(held.wait, 10)
        tasks = [asyncio.create_task(submit(n, n < 20)) for n in range(22)]
        await asyncio.sleep(0)
        for joined in (19, 21):
            priorities[joined].join(Priority(True, B))
        release.set()
        await asyncio.gather(busy, *tasks)
        pool.close()
        return order

    order = asyncio.run(story())
    assert sorted(order) == list(range(22))
    assert max(order.index(19), order.index(21)) <= 5
    assert order[-1] == 20


def test_flows_without_end_take_no_memory() -> None:
    async def story() -> int:
        pool = Pool("test", 1)
        for number in range(300):
            with prioritized(True, Flow(str(number))):
                await pool.run(int)
        pool.close()
        return len(pool._shares._used)

    assert asyncio.run(story()) == 0
    shares = _Shares()
    for number in range(30_000):
        flow = Flow(str(number))
        shares.end(flow, shares.begin(flow), 0.1)
    assert len(shares._used) <= 10_000


async def admitted(gate: Gate, stack: AsyncExitStack, flow: Flow, times: int) -> int:
    """How many of so many places a client gets."""
    for number in range(times):
        with prioritized(True, flow):
            try:
                await stack.enter_async_context(gate.admitted())
            except (Busy, QuotaExceeded):
                return number
    return times


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 128])
def test_the_queue_keeps_places_for_others(limit: int) -> None:
    async def story() -> list[int]:
        gate = Gate(limit, 1)
        async with AsyncExitStack() as stack:
            got = [await admitted(gate, stack, Flow(name), 500) for name in "abc"]
            assert gate.inside == sum(got) <= limit
        assert gate.inside == 0
        assert not gate._held
        return got

    alone, second, third = asyncio.run(story())
    assert alone == max(1, min(limit, 3), limit * 3 // 4)
    if limit >= 8:
        assert second >= 1
        assert alone + second + third <= limit


def test_who_has_its_share_is_told_both_numbers() -> None:
    async def story() -> QuotaExceeded:
        gate = Gate(8, 1)
        async with AsyncExitStack() as stack:
            await admitted(gate, stack, A, 6)
            with prioritized(True, A), pytest.raises(QuotaExceeded) as caught:
                await stack.enter_async_context(gate.admitted())
            return caught.value

    error = asyncio.run(story())
    assert (error.value, error.limit) == (6, 6)
    assert error.retry_after >= 1


def test_who_joins_a_computation_speeds_up_that_one_only() -> None:
    async def story() -> list[tuple[bool, set[str]]]:
        flight: SingleFlight[str, int] = SingleFlight()
        seen: list[tuple[bool, set[str]]] = []
        go = asyncio.Event()

        async def compute() -> int:
            await go.wait()
            mine = current_priority()
            seen.append((mine.interactive, {flow.name for flow in mine.flows}))
            return 1

        async def job() -> None:
            with background(A):
                await asyncio.gather(*(flight.run(key, compute) for key in ("one", "two")))

        async def tile() -> None:
            with prioritized(True, B):
                await flight.run("two", compute)

        tasks = [asyncio.create_task(job())]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(tile()))
        await asyncio.sleep(0.01)
        go.set()
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(story()) == [(False, {"a"}), (True, {"a", "b"})]


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="no nice values here")
def test_inference_leaves_cores_to_what_answers() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    found: list[int] = []

    def look() -> None:
        yield_cores(3)
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        child = threading.Thread(
            target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        child.start()
        child.join()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [min(own + 3, 19)] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


# The service


def services_of(client: TestClient) -> Services:
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    return services


def as_client(number: int) -> dict[str, str]:
    return {"x-forwarded-for": f"192.0.2.{number}"}


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference that takes 0.1 s, whatever the machine."""

    def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401
            time.sleep(0.1)
            return function(*arguments)

        return call

    monkeypatch.setattr(blocks, "probabilities_of", slowed(probabilities_of))
    monkeypatch.setattr(batching, "_infer", slowed(batching._infer))


@pytest.mark.usefixtures("slowly")
@pytest.mark.slow
def test_another_clients_tile_comes_while_one_asks_for_24_probabilities(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    lon, lat = two_quads.scenes[0].lonlat
    settings = {"infer_workers": 1, "trusted_proxies": ["*"]}
    answered: list[int] = []

    def point(number: int) -> None:
        path = f"/point/{lon + number * 1e-5},{lat}?probabilities=true"
        answered.append(client.get(path, headers=as_client(1)).status_code)

    with (
        serve(two_quads.directory, pixelwise_model, **settings) as client,
        ThreadPoolExecutor(24) as threads,
    ):
        client.get(f"/point/{lon},{lat}")  # the block is cached; probabilities are not
        points = [threads.submit(point, number) for number in range(24)]
        until(lambda: services_of(client).gate.inside >= 20)
        path = "/tiles/WebMercatorQuad/{}/{}/{}.png".format(*tiles_around(lon, lat, 20, 12)[0])
        before = len(answered)
        assert client.get(path, headers=as_client(2)).status_code == 200
        # Its few blocks take turns with the points; all of them would be 24.
        assert len(answered) - before <= 8
        for each in points:
            each.result()
    assert answered == [200] * 24


@pytest.mark.usefixtures("slowly")
def test_a_small_area_is_answered_beside_the_jobs_of_another_client(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = "/processes/classify-area/execution"
    large = {"inputs": {"area": area_of(two_quads)}}
    small = {"inputs": {"area": area_of(two_quads, 500)}, "outputs": {"statistics": {}}}
    settings = {
        "infer_workers": 1, "join_blocks": 1, "trusted_proxies": ["*"], "area_blocks": 4,
        "cache_memory_mb": 0,
    }  # fmt: skip
    with serve(two_quads.directory, pixelwise_model, **settings) as client:

        def post(body: dict[str, Any], number: int, prefer: str) -> Any:  # noqa: ANN401
            return client.post(path, json=body, headers={"prefer": prefer, **as_client(number)})

        jobs = [post(large, 1, "respond-async").json()["jobID"] for _ in range(4)]
        until(lambda: client.get(f"/jobs/{jobs[0]}").json()["status"] == "running")
        answer = post(small, 2, "wait=60")
        assert answer.status_code == 200, answer.text
        assert answer.json()["statistics"]["covered"]["m2"] > 0
        states = [client.get(f"/jobs/{job}").json()["status"] for job in jobs]
        assert states[1:] == ["accepted"] * 3
        for job in jobs:
            client.delete(f"/jobs/{job}")


@pytest.mark.usefixtures("slowly")
@pytest.mark.slow
def test_who_disconnects_stops_only_its_own_job(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    path = "/processes/classify-area/execution"
    body = {"inputs": {"area": area_of(two_quads)}}
    settings = {
        "infer_workers": 1, "join_blocks": 1, "deadline_s": 0.3, "operator_key": "x" * 20,
        "cache_memory_mb": 0,
    }  # fmt: skip
    with serve(two_quads.directory, pixelwise_model, **settings) as client:
        headers = {"prefer": "respond-async"}
        kept = client.post(path, json=body, headers=headers).json()["jobID"]
        assert client.post(path, json=body).status_code == 504  # it waited no longer
        listed = client.get("/jobs", headers={"x-api-key": "x" * 20}).json()["jobs"]
        states = {job["jobID"]: job["status"] for job in listed}
        assert states.pop(kept) in ("accepted", "running")
        assert list(states.values()) == ["dismissed"]
        until(lambda: client.get(f"/jobs/{kept}").json()["status"] == "successful")
