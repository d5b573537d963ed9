"""Bounded work: what is dropped, what is refused, and when to come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.errors import Busy
from app.scheduling import Gate, Pool, Priority, background, current_priority

pytestmark = pytest.mark.alone


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


async def order_of(work: list[tuple[str, bool]], hurried: str = "") -> list[str]:
    """The order in which one thread takes up calls, (name, interactive) in order of arrival."""
    order: list[str] = []
    release = threading.Event()

    async def submit(pool: Pool, name: str, interactive: bool) -> None:
        if interactive:
            await pool.run(order.append, name)
            return
        with background() as priority:
            priorities[name] = priority
            await pool.run(order.append, name)

    priorities: dict[str, Priority] = {}
    async with pool_of(1) as pool:
        busy = asyncio.create_task(pool.run(release.wait, 10))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(submit(pool, *each)) for each in work]
        await asyncio.sleep(0)
        if hurried:
            priorities[hurried].interactive = True
        release.set()
        await asyncio.gather(busy, *tasks)
    return order


def test_interactive_work_goes_before_work_in_the_background() -> None:
    work = [
        ("job 1", False),
        ("job 2", False),
        ("tile 1", True),
        ("job 3", False),
        ("tile 2", True),
    ]
    order = asyncio.run(order_of(work))
    assert order == ["tile 1", "tile 2", "job 1", "job 2", "job 3"]


def test_work_that_becomes_interactive_while_it_waits_goes_first() -> None:
    work = [("job 1", False), ("job 2", False), ("job 3", False)]
    assert asyncio.run(order_of(work, hurried="job 2")) == ["job 2", "job 1", "job 3"]


def test_work_a_background_task_starts_is_in_the_background_too() -> None:
    async def story() -> tuple[bool, bool, bool]:
        async def child() -> bool:
            return current_priority().interactive

        with background():
            inherited = await asyncio.create_task(child())
            direct = current_priority().interactive
        return inherited, direct, current_priority().interactive

    assert asyncio.run(story()) == (False, False, True)


def test_background_work_cancelled_before_it_begins_never_begins() -> None:
    began: list[str] = []
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        release.wait(10)

    async def wait_in_background(pool: Pool) -> None:
        with background():
            await pool.run(began.append, "job")

    async def story() -> None:
        async with pool_of(1) as pool:
            busy = asyncio.create_task(pool.run(hold))
            await asyncio.to_thread(held.wait, 10)
            job = asyncio.create_task(wait_in_background(pool))
            tile = asyncio.create_task(pool.run(began.append, "tile"))
            await asyncio.sleep(0)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            release.set()
            await asyncio.gather(busy, tile)

    asyncio.run(story())
    assert began == ["tile"]
