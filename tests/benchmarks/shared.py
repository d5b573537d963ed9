"""Redis in trouble: what a block costs more, and how soon a lease is followed."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.cache.blocks import BlockCache
from app.cache.redis import RedisTier
from app.cache.single_flight import compute_once_by_lease
from app.grid.classified import ClassifiedBlock
from app.scheduling import Pool
from app.settings import Settings
from model.windows import BLOCK
from tests.app.redis_server import RedisServer, redis_server
from tests.benchmarks.report import Finding

ROUNDS = 10
EXTRA_S = 0.25
FOLLOWED_S = 0.5
LEASE_S = 1.0


async def _block() -> ClassifiedBlock:
    classes = np.full((BLOCK, BLOCK), 3, np.uint8)
    return ClassifiedBlock(classes, classes)


def measure() -> list[Finding]:
    """The first block after Redis is killed or hangs, and the takeover of a dead holder's lease."""
    kinds: tuple[tuple[str, Callable[[RedisServer], None]], ...] = (
        ("killed", RedisServer.kill),
        ("hung", RedisServer.hang),
    )
    findings = [_extra(kind, begin) for kind, begin in kinds]
    waits = [asyncio.run(_followed()) - LEASE_S for _ in range(ROUNDS)]
    findings.append(
        Finding(
            "a dead holder's lease is followed: time beyond the lease over 0.5 s",
            max(waits) / FOLLOWED_S,
            1.0,
            False,
            f"at most {max(waits):.2f} s, median {statistics.median(waits):.2f}; "
            f"{ROUNDS} times, lease {LEASE_S:g} s",
        )
    )
    return findings


def _extra(kind: str, begin: Callable[[RedisServer], None]) -> Finding:
    first, later = [], []
    for _ in range(ROUNDS):
        alone, at_first, afterwards = asyncio.run(_story(begin))
        first.append(at_first - alone)
        later.append(afterwards - alone)
    return Finding(
        f"Redis {kind}: extra time of the first block over 0.25 s",
        max(first) / EXTRA_S,
        1.0,
        False,
        f"at most {max(first) * 1000:.0f} ms, median {statistics.median(first) * 1000:.0f}; the "
        f"next block {statistics.median(later) * 1000:.1f} ms; {ROUNDS} times",
    )


async def _story(begin: Callable[[RedisServer], None]) -> tuple[float, float, float]:
    """Seconds of a block without Redis, of the first after it went, and of the next."""
    settings = Settings()
    pool = Pool("bench", 2)
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        tier = RedisTier(
            server.url,
            timeout_s=settings.redis_timeout_s,
            lease_s=settings.redis_lease_s,
            keep_s=600,
        )
        with_it, without = (BlockCache(10**8, None, pool, t) for t in (tier, None))
        await with_it.get_or_compute("0" * 40, _block)
        await without.get_or_compute("0" * 40, _block)
        begin(server)
        took = []
        for cache, key in ((without, "1"), (with_it, "1"), (with_it, "2")):
            began = time.perf_counter()
            await cache.get_or_compute(key * 40, _block)
            took.append(time.perf_counter() - began)
        await tier.close()
    pool.close()
    return took[0], took[1], took[2]


async def _followed() -> float:
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        dead, replacement = (
            RedisTier(server.url, timeout_s=1, lease_s=LEASE_S, keep_s=600) for _ in range(2)
        )
        if await dead.claim("0" * 40, dead.lease("0" * 40)) is not True:
            raise RuntimeError("the lease was not free")
        began = time.perf_counter()
        await compute_once_by_lease(replacement, "0" * 40, _block)
        took = time.perf_counter() - began
        await dead.close()
        await replacement.close()
    return took
