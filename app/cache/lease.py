"""One computation per key among all processes and replicas, as long as Redis helps."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from app.cache.redis import RedisTier, RedisUnavailable
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics

POLL_S = 0.05
POLL_MOST_S = 0.25
"""How long a loser waits between two looks, at first and at most."""


async def compute_once(
    redis: RedisTier, key: str, compute: Callable[[], Awaitable[ClassifiedBlock]]
) -> ClassifiedBlock:
    """The block of `key`: computed here under a lease, or found when another has computed it.

    A holder that dies is followed by the next caller when its lease runs out, one that fails or is
    cancelled at once. Without Redis it is computed here: wasteful at worst, never wrong, as a
    block is the same whoever computes it.
    """
    token = secrets.token_hex(8)
    pause = POLL_S
    while True:
        try:
            answer = await redis.claim(key, token)
        except RedisUnavailable:
            metrics.LEASES.labels("alone").inc()
            return await compute()
        except asyncio.CancelledError:
            # The claim may have been granted after we stopped listening.
            _later(redis.release(key, token))
            raise
        if isinstance(answer, ClassifiedBlock):
            metrics.LEASES.labels("found").inc()
            return answer
        if answer:
            metrics.LEASES.labels("claimed").inc()
            async with _held(redis, key, token):
                block = await compute()
                await redis.put(key, block)  # before the lease ends: losers look for it
                return block
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, POLL_MOST_S)


@asynccontextmanager
async def _held(redis: RedisTier, key: str, token: str) -> AsyncIterator[None]:
    renewing = asyncio.ensure_future(_renewed(redis, key, token))
    try:
        yield
    finally:
        renewing.cancel()
        _later(redis.release(key, token))


async def _renewed(redis: RedisTier, key: str, token: str) -> None:
    """Renews at a third of the lease, so that two may fail. A lost lease is not taken back:
    somebody else computes the same block by now."""
    while True:
        await asyncio.sleep(redis.lease_s / 3)
        try:
            if not await redis.renew(key, token):
                return
        except RedisUnavailable:
            continue


_releasing: set[asyncio.Task[None]] = set()


def _later(release: Awaitable[None]) -> None:
    """Nobody waits for a release, and no cancellation ends it."""
    task = asyncio.ensure_future(release)
    _releasing.add(task)
    task.add_done_callback(_releasing.discard)
