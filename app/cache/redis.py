"""Redis as it is used here: blocks by key and leases on them, and a circuit around both.

Redis may be gone, hung or cut off at any time. A call takes 0.2 s at most (redis-py alone would
retry for 6 s); after the first that fails nobody asks again until a probe in the background is
answered, so that only the requests under way pay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.cache.frame import decode_entry, encode_entry
from app.errors import ConfigurationError
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics

CONNECTIONS = 32
PROBE_S = 1.0
"""Seconds between probes while the circuit is open."""

_CLAIM = """
local block = redis.call('GET', KEYS[1])
if block then return block end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

Result = TypeVar("Result")
log = logging.getLogger("landcover.cache")


class RedisUnavailable(Exception):
    """Redis did not do what it was asked; go on without it."""


class RedisTier:
    """Blocks and leases that all processes and replicas share. Belongs to one event loop."""

    name = "redis"

    def __init__(self, url: str, *, timeout_s: float, lease_s: float, keep_s: int) -> None:
        """ConfigurationError when `url` is none of Redis. `timeout_s`: for a whole call, waiting
        for a connection included; `lease_s`: after which a lease that is not renewed is free;
        `keep_s`: for which a block is kept."""
        self._timeout = timeout_s
        self._keep = keep_s
        self.lease_s = lease_s
        self.degraded: str | None = None
        self.corrupt = 0
        self._open = False
        self._probing: asyncio.Task[None] | None = None
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigurationError(f"the address of Redis is refused: {error}") from error
        self._redis: Redis = Redis.from_pool(pool)
        self._claim = self._redis.register_script(_CLAIM)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    async def look(self) -> None:
        """Finds out whether Redis is there, so that the first request need not."""
        try:
            await self._call(self._redis.ping)
        except RedisUnavailable:
            return

    async def get(self, key: str) -> ClassifiedBlock | None:
        """The block, or None: also when Redis is in trouble or the value is no block of this key,
        which is then deleted."""
        try:
            return await self._checked(key, await self._call(lambda: self._redis.get(_block(key))))
        except RedisUnavailable:
            return None

    async def put(self, key: str, block: ClassifiedBlock) -> None:
        """Keeps the block; failing is not an error."""
        value = encode_entry(key, await asyncio.to_thread(block.encode))
        try:
            await self._call(lambda: self._redis.set(_block(key), value, ex=self._keep))
        except RedisUnavailable:
            return

    async def claim(self, key: str, token: str) -> ClassifiedBlock | bool:
        """The block if it is there; else True when the lease is ours now, False when another has
        it. One step, so that no block finished in between is missed. RedisTrouble."""
        milliseconds = int(self.lease_s * 1000)
        keys = [_block(key), _lease(key)]
        answer = await self._call(lambda: self._claim(keys=keys, args=[token, milliseconds]))
        if not isinstance(answer, bytes):
            return bool(answer)
        block = await self._checked(key, answer)
        return False if block is None else block

    async def renew(self, key: str, token: str) -> bool:
        """Whether the lease is still ours; if so it begins anew. RedisTrouble."""
        args: list[str | int] = [token, int(self.lease_s * 1000)]
        return bool(await self._call(lambda: self._renew(keys=[_lease(key)], args=args)))

    async def release(self, key: str, token: str) -> None:
        """Gives the lease back if it is ours; RedisTrouble is no reason to fail, it runs out."""
        try:
            await self._call(lambda: self._release(keys=[_lease(key)], args=[token]))
        except RedisUnavailable:
            return

    async def close(self) -> None:
        """Ends the probe and the connections."""
        if self._probing is not None:
            self._probing.cancel()
        await self._redis.aclose()

    async def _checked(self, key: str, value: bytes | None) -> ClassifiedBlock | None:
        if value is None:
            return None
        payload = decode_entry(key, value)
        if payload is not None:
            try:
                return await asyncio.to_thread(ClassifiedBlock.decode, payload)
            except ValueError:
                pass
        self.corrupt += 1
        metrics.CACHE_DAMAGED.labels(self.name).inc()
        log.warning("the value of %s in Redis is damaged or foreign; deleted", _block(key))
        await self._call(lambda: self._redis.delete(_block(key)))
        return None

    async def _call(self, command: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        if self._open:
            raise RedisUnavailable(self.degraded)
        try:
            async with asyncio.timeout(self._timeout):
                result = await command()
        except TimeoutError as error:
            self._trip("timeout", f"no answer within {self._timeout:g} s")
            raise RedisUnavailable(self.degraded) from error
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            kind = "timeout" if isinstance(error, exceptions.TimeoutError) else "unreachable"
            self._trip(kind, str(error))
            raise RedisUnavailable(self.degraded) from error
        except exceptions.RedisError as error:
            # It answers at once, so others may ask on: out of memory refuses writes, not reads.
            metrics.REDIS_TROUBLE.labels("refused").inc()
            self._degrade(str(error))
            raise RedisUnavailable(self.degraded) from error
        if self.degraded and not self._open:
            self._recover()
        return result

    def _trip(self, kind: str, reason: str) -> None:
        metrics.REDIS_TROUBLE.labels(kind).inc()
        self._degrade(reason)
        if not self._open:
            self._open = True
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        while self._open:
            await asyncio.sleep(PROBE_S)
            try:
                async with asyncio.timeout(self._timeout):
                    await self._redis.ping()
            except (TimeoutError, exceptions.RedisError, OSError):
                continue
            self._open = False
            self._recover()

    def _degrade(self, reason: str) -> None:
        if self.degraded is None:
            log.warning("Redis is out of use, each process computes on its own: %s", reason)
        self.degraded = reason
        metrics.CACHE_DEGRADED.labels(self.name).set(1)

    def _recover(self) -> None:
        log.warning("Redis works again")
        self.degraded = None
        metrics.CACHE_DEGRADED.labels(self.name).set(0)


def _block(key: str) -> str:
    # The braces keep block and lease on one node of a Redis cluster.
    return f"landcover:{{{key}}}:block"


def _lease(key: str) -> str:
    return f"landcover:{{{key}}}:lease"
