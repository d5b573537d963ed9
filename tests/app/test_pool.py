"""Bounded work: what is dropped, what is refused, and when to come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.errors import Busy
from app.pool import Gate, Pool


@asynccontextmanager
async def pool_of(workers: int) -> AsyncIterator[Pool]:
    pool = Pool("test", workers)
    try:
        yield pool
    finally:
        pool.close()


def test_work_runs_in_named_threads_with_its_arguments() -> None:
    async def story() -> tuple[str, int]:
        async with pool_of(1) as pool:
            name = await pool.run(lambda: threading.current_thread().name)
            return name, await pool.run(int, "12", base=8)

    name, value = asyncio.run(story())
    assert name.startswith("landcover-test")
    assert value == 10


def test_an_error_reaches_who_waits() -> None:
    async def story() -> None:
        async with pool_of(1) as pool:
            await pool.run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(story())


def test_no_more_runs_at_once_than_there_are_workers() -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.02)
        with lock:
            inside -= 1

    async def story() -> None:
        async with pool_of(3) as pool:
            await asyncio.gather(*(pool.run(work) for _ in range(12)))

    asyncio.run(story())
    assert most == 3


def test_work_cancelled_before_it_begins_never_begins() -> None:
    began: list[str] = []
    release = threading.Event()

    async def story() -> None:
        async with pool_of(1) as pool:
            first = asyncio.create_task(pool.run(release.wait, 10))
            second = asyncio.create_task(pool.run(began.append, "cancelled"))
            third = asyncio.create_task(pool.run(began.append, "kept"))
            await asyncio.sleep(0.02)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            release.set()
            await asyncio.gather(first, third)

    asyncio.run(story())
    assert began == ["kept"]


def test_closing_waits_for_what_has_begun_and_drops_the_rest() -> None:
    ended: list[str] = []
    begun = threading.Event()

    def work() -> None:
        begun.set()
        threading.Event().wait(0.05)
        ended.append("begun")

    async def story() -> None:
        pool = Pool("test", 1)
        tasks = [asyncio.create_task(pool.run(f)) for f in (work, lambda: ended.append("late"))]
        await asyncio.sleep(0)
        begun.wait(5)
        pool.close()
        assert ended == ["begun"]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)

    asyncio.run(story())
    assert ended == ["begun"]


def test_the_gate_admits_its_limit_and_refuses_the_next_with_a_time() -> None:
    async def story() -> None:
        gate = Gate(3, 1)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(gate.admitted())
            assert gate.inside == 3
            with pytest.raises(Busy) as caught:
                await stack.enter_async_context(gate.admitted())
            assert caught.value.retry_after >= 1
            assert gate.inside == 3
        assert gate.inside == 0
        async with gate.admitted():
            assert gate.inside == 1

    asyncio.run(story())


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError()])
def test_a_place_is_given_back_however_the_work_ends(error: BaseException) -> None:
    async def story() -> int:
        gate = Gate(1, 1)
        with pytest.raises(type(error)):
            async with gate.admitted():
                raise error
        return gate.inside

    assert asyncio.run(story()) == 0


def test_the_longer_the_queue_the_later_to_come_back() -> None:
    gate = Gate(1000, 2)
    waits = []
    for inside in (0, 8, 80, 800):
        gate.inside = inside
        waits.append(gate.retry_after)
    assert waits == sorted(waits)
    assert waits[0] >= 1
    assert waits[-1] > 10 * waits[1]
