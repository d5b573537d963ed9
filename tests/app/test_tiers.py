"""One contract for every tier of the block cache, and Redis in all its moods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import redis as redis_client

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore, encode_entry
from app.cache.redis import RedisTier, RedisUnavailable
from app.cache.single_flight import compute_once_by_lease as compute_once
from app.cache.tier import DiskTier, MemoryTier, Tier, look_up
from app.errors import ConfigurationError
from app.grid.classified import ClassifiedBlock, SceneRef
from app.scheduling import Pool
from model.windows import BLOCK
from tests.app.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.alone

MB = 1_000_000
KEY, OTHER = "ab" * 20, "cd" * 20
LEASE_S = 1.0


def block_of(value: int) -> ClassifiedBlock:
    classes = np.full((BLOCK, BLOCK), value, dtype=np.uint8)
    classes[3, 5] = 255
    return ClassifiedBlock(classes, classes // 2, (SceneRef(f"scene {value}", "2017-09-03"),))


def same(found: ClassifiedBlock | None, value: int) -> bool:
    wanted = block_of(value)
    return (
        found is not None
        and bool((found.classes == wanted.classes).all())
        and bool((found.confidence == wanted.confidence).all())
        and found.scenes == wanted.scenes
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def tier_on(server: RedisServer, timeout_s: float = 2) -> AsyncIterator[RedisTier]:
    """A patient tier: what is tested here is not how fast a busy machine is."""
    tier = RedisTier(server.url, timeout_s=timeout_s, lease_s=LEASE_S, keep_s=600)
    try:
        yield tier
    finally:
        await tier.close()


Opened = Callable[[], AbstractAsyncContextManager[Tier]]


@pytest.fixture(params=["memory", "disk", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """opened(): the tier of that kind, empty."""
    running = request.getfixturevalue("server") if request.param == "redis" else None

    @asynccontextmanager
    async def opening() -> AsyncIterator[Tier]:
        if request.param == "memory":
            yield MemoryTier(10 * MB)
        elif request.param == "disk":
            pool = Pool("test", 2)
            yield DiskTier(DiskStore(tmp_path / "cache", 10 * MB), pool)
            pool.close()
        else:
            assert running is not None
            async with tier_on(running) as tier:
                yield tier

    return opening


def test_a_tier_gives_back_what_was_put_and_nothing_else(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as tier:
            assert await tier.get(KEY) is None
            await tier.put(KEY, block_of(3))
            assert same(await tier.get(KEY), 3)
            assert await tier.get(OTHER) is None
            assert tier.degraded is None

    asyncio.run(story())


def test_a_tier_keeps_the_last_that_was_put(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as tier:
            await tier.put(KEY, block_of(3))
            await tier.put(KEY, block_of(4))
            await tier.put(OTHER, block_of(5))
            assert same(await tier.get(KEY), 4)
            assert same(await tier.get(OTHER), 5)

    asyncio.run(story())


def test_a_tier_serves_many_at_once(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as tier:
            keys = [f"{number:040x}" for number in range(12)]
            await asyncio.gather(*(tier.put(key, block_of(i)) for i, key in enumerate(keys)))
            found = await asyncio.gather(*(tier.get(key) for key in keys * 4))
            assert all(same(block, i % 12) for i, block in enumerate(found))

    asyncio.run(story())


def test_what_a_lower_tier_has_the_upper_ones_are_given(server: RedisServer) -> None:
    async def story() -> None:
        async with tier_on(server) as redis:
            memory = MemoryTier(10 * MB)
            await redis.put(KEY, block_of(2))
            assert same(await look_up([memory, redis], KEY), 2)
            assert same(await memory.get(KEY), 2)

    asyncio.run(story())


def _raw(server: RedisServer) -> redis_client.Redis:
    return redis_client.Redis(port=server.port)


@pytest.mark.parametrize("kind", ["flipped", "shortened", "foreign", "of another key", "no block"])
def test_a_damaged_or_foreign_value_is_a_miss_deleted_and_counted(
    server: RedisServer, kind: str
) -> None:
    async def story() -> None:
        async with tier_on(server) as tier:
            await tier.put(KEY, block_of(1))
            await tier.put(OTHER, block_of(2))
            with _raw(server) as raw:
                (name,) = raw.keys(f"*{KEY}*")
                (other,) = raw.keys(f"*{OTHER}*")
                value = bytearray(raw.get(name))
                value[len(value) // 2] ^= 1
                raw.set(name, {
                    "flipped": bytes(value),
                    "shortened": raw.get(name)[:-1],
                    "foreign": b"somebody else's",
                    "of another key": raw.get(other),
                    "no block": encode_entry(KEY, b"no block"),
                }[kind])  # fmt: skip
                assert await tier.get(KEY) is None
                assert tier.corrupt == 1
                assert not raw.exists(name)
                await tier.put(KEY, block_of(1))
                assert same(await tier.get(KEY), 1)

    asyncio.run(story())


def test_blocks_in_redis_do_not_stay_for_ever(server: RedisServer) -> None:
    async def story() -> None:
        async with tier_on(server) as tier:
            await tier.put(KEY, block_of(1))
            with _raw(server) as raw:
                (name,) = raw.keys("*")
                assert 0 < raw.ttl(name) <= 600

    asyncio.run(story())


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Redis"):
        RedisTier("http://127.0.0.1", timeout_s=1, lease_s=1, keep_s=60)


# Leases


def computing(calls: list[int], seconds: float = 0.0) -> Callable[[], Awaitable[ClassifiedBlock]]:
    async def compute() -> ClassifiedBlock:
        calls.append(1)
        await asyncio.sleep(seconds)
        return block_of(4)

    return compute


def test_many_callers_of_two_processes_cost_one_computation(server: RedisServer) -> None:
    """Two tiers stand for two processes: they share nothing but the server."""

    async def story() -> None:
        calls: list[int] = []
        async with tier_on(server, 5) as one, tier_on(server, 5) as two:
            found = await asyncio.gather(
                *(compute_once(t, KEY, computing(calls, 0.3)) for t in (one, two) * 20)
            )
        assert all(same(block, 4) for block in found)
        assert len(calls) == 1

    asyncio.run(story())


def test_a_lease_is_renewed_as_long_as_the_work_takes(server: RedisServer) -> None:
    async def story() -> None:
        calls: list[int] = []
        async with tier_on(server, 5) as one, tier_on(server, 5) as two:
            slow = computing(calls, 3 * LEASE_S)
            first = asyncio.create_task(compute_once(one, KEY, slow))
            await asyncio.sleep(0.2)
            await compute_once(two, KEY, slow)
            await first
        assert len(calls) == 1

    asyncio.run(story())


def test_a_holder_that_died_is_followed_when_its_lease_runs_out(server: RedisServer) -> None:
    async def story() -> None:
        calls: list[int] = []
        async with tier_on(server, 5) as dead, tier_on(server, 5) as next_one:
            assert await dead.claim(KEY, dead.lease(KEY)) is True
            began = time.monotonic()
            assert same(await compute_once(next_one, KEY, computing(calls)), 4)
            waited = time.monotonic() - began
        assert calls == [1]
        # Not a matter of speed: the lease and two looks; a busy machine is given a second more.
        assert 0.5 * LEASE_S < waited < LEASE_S + 0.5 + 1

    asyncio.run(story())


@pytest.mark.parametrize("end", ["fails", "cancelled"])
def test_a_holder_that_gives_up_is_followed_at_once(server: RedisServer, end: str) -> None:
    async def fail() -> ClassifiedBlock:
        raise OSError("no imagery")

    async def story() -> None:
        calls: list[int] = []
        tier = RedisTier(server.url, timeout_s=5, lease_s=60, keep_s=600)
        if end == "fails":
            with pytest.raises(OSError, match="no imagery"):
                await compute_once(tier, KEY, fail)
        else:
            task = asyncio.create_task(compute_once(tier, KEY, computing([], 60)))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        # With a lease of a minute: nobody waits it out.
        await asyncio.wait_for(compute_once(tier, KEY, computing(calls)), 20)
        assert calls == [1]
        await tier.close()

    asyncio.run(story())


def test_a_lease_is_given_back_and_renewed_by_its_holder_only(server: RedisServer) -> None:
    async def story() -> None:
        async with tier_on(server) as tier:
            mine, another = tier.lease(KEY), tier.lease(KEY)
            assert await tier.claim(KEY, mine) is True
            assert await tier.claim(KEY, another) is False
            assert not await tier.renew(another)
            await tier.release(another)
            assert await tier.renew(mine)
            assert await tier.claim(KEY, another) is False
            await tier.release(mine)
            assert not await tier.renew(mine)
            assert await tier.claim(KEY, another) is True
            assert tier.degraded is None

    asyncio.run(story())


# Trouble


@pytest.fixture(params=["killed", "hung"])
def trouble(request: pytest.FixtureRequest, server: RedisServer) -> Callable[[], None]:
    return server.kill if request.param == "killed" else server.hang


def test_without_redis_blocks_are_computed_here_and_only_the_first_pay(
    server: RedisServer, trouble: Callable[[], None]
) -> None:
    async def story() -> None:
        calls: list[int] = []
        pool = Pool("test", 2)
        async with tier_on(server, 0.2) as tier:
            cache = BlockCache(10 * MB, None, pool, tier)
            await cache.get_or_compute(OTHER, computing([]))
            trouble()
            began = time.monotonic()
            block = await cache.get_or_compute(KEY, computing(calls))
            first = time.monotonic() - began
            assert same(block, 4)
            assert tier.degraded
            requested = tier._redis.connection_pool.get_connection

            async def nobody(*_: object, **__: object) -> None:
                raise AssertionError("Redis was asked while the circuit was open")

            tier._redis.connection_pool.get_connection = nobody  # type: ignore[method-assign]
            for number in range(20):
                await cache.get_or_compute(f"{number:040x}", computing(calls))
            tier._redis.connection_pool.get_connection = requested  # type: ignore[method-assign]
            assert len(calls) == 21
            # 0.2 s and what the machine is busy with; redis-py alone would take 6 s.
            assert first < 2
            server.resume() if trouble == server.hang else server.start()
            end = time.monotonic() + 30
            while tier.degraded:
                assert time.monotonic() < end, "Redis was not used again"
                await asyncio.sleep(0.05)
            await tier.put(KEY, block_of(6))
            assert same(await tier.get(KEY), 6)
        pool.close()

    asyncio.run(story())


def test_redis_that_ends_while_somebody_waits_for_a_block_leaves_nobody_waiting(
    server: RedisServer, trouble: Callable[[], None]
) -> None:
    async def story() -> None:
        calls: list[int] = []
        async with tier_on(server, 0.5) as one, tier_on(server, 0.5) as two:
            holder = asyncio.create_task(compute_once(one, KEY, computing(calls, 1.5)))
            await asyncio.sleep(0.2)
            waiter = asyncio.create_task(compute_once(two, KEY, computing(calls, 0)))
            await asyncio.sleep(0.2)
            trouble()
            found = await asyncio.wait_for(asyncio.gather(holder, waiter), 30)
        assert all(same(block, 4) for block in found)

    asyncio.run(story())


def test_a_full_redis_costs_nobody_a_block_and_is_said(server: RedisServer) -> None:
    async def story() -> None:
        with _raw(server) as raw:
            raw.config_set("maxmemory", "1mb")
            raw.config_set("maxmemory-policy", "noeviction")
        async with tier_on(server) as tier:
            assert same(await compute_once(tier, KEY, computing([])), 4)
            assert tier.degraded
            assert "memory" in tier.degraded
            with pytest.raises(RedisUnavailable):
                await tier.claim(OTHER, tier.lease(OTHER))
            with _raw(server) as raw:
                raw.config_set("maxmemory", "0")
            assert same(await compute_once(tier, KEY, computing([])), 4)
            assert tier.degraded is None
            assert same(await tier.get(KEY), 4)

    asyncio.run(story())
