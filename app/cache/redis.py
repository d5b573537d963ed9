"""Redis as it is used here: blocks by key and leases on them, behind a circuit breaker.

Redis may be gone, hung or cut off at any time. A call takes 0.2 s at most (redis-py alone would
retry for 6 s); after the first that fails no request calls again until a probe in the background
is answered, so that only the requests under way pay.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.cache.disk import decode_entry, encode_entry
from app.errors import ConfigurationError
from app.grid.classified import ClassifiedBlock
from app.monitoring import metrics
from app.resilience import CircuitBreaker

CONNECTIONS = 32
PROBE_S = 1.0
"""Seconds between probes while the circuit is open."""

_CLAIM = """
local block = redis.call('GET', KEYS[1])
if block then return block end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""

Result = TypeVar("Result")
log = logging.getLogger("landcover.cache")


class RedisUnavailable(Exception):
    """Redis did not carry out a command; go on without it."""


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
        self._circuit = CircuitBreaker(1, PROBE_S / 2)
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

    async def look(self) -> None:
        """Find out whether Redis is there, so that the first request need not."""
        try:
            await self._call(self._redis.ping)
        except RedisUnavailable:
            return

    async def get(self, key: str) -> ClassifiedBlock | None:
        """Return the block, or None: also when Redis is in trouble or the value is no block of this
        key, which is then deleted."""
        try:
            return await self._checked(key, await self._call(lambda: self._redis.get(_block(key))))
        except RedisUnavailable:
            return None

    async def put(self, key: str, block: ClassifiedBlock) -> None:
        """Keep the block; failing is not an error."""
        value = encode_entry(key, await asyncio.to_thread(block.encode))
        try:
            await self._call(lambda: self._redis.set(_block(key), value, ex=self._keep))
        except RedisUnavailable:
            return

    def lease(self, key: str) -> Lock:
        """Return a lease on the computation of a block, to be claimed."""
        return Lock(self._redis, _lease(key), timeout=self.lease_s, thread_local=False)

    async def claim(self, key: str, lease: Lock) -> ClassifiedBlock | bool:
        """Return the block if it is there; else True when the lease is ours now, False when another
        has it. One round trip, so that no block finished in between is missed. RedisUnavailable."""
        # Known before the answer: it may be granted after we stop listening.
        lease.local.token = lease.local.token or secrets.token_hex(8)
        args = [lease.local.token, int(self.lease_s * 1000)]
        keys = [_block(key), lease.name]
        answer = await self._call(lambda: self._claim(keys=keys, args=args))
        if not isinstance(answer, bytes):
            return bool(answer)
        return await self._checked(key, answer) or False

    async def renew(self, lease: Lock) -> bool:
        """Return whether the lease is still ours; if so it begins anew. RedisUnavailable."""
        return bool(await self._call(lambda: _if_owned(lease.reacquire)))

    async def release(self, lease: Lock) -> None:
        """Release the lease if it is ours; it runs out when Redis is unavailable."""
        try:
            await self._call(lambda: _if_owned(lease.release))
        except RedisUnavailable:
            return

    async def close(self) -> None:
        """End the probe and the connections."""
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
        if self._circuit.is_open:
            raise RedisUnavailable(self.degraded)
        try:
            with self._circuit.guard(harmless=_is_answer):
                async with asyncio.timeout(self._timeout):
                    result = await command()
        except (TimeoutError, exceptions.TimeoutError) as error:
            self._trip("timeout", f"no answer within {self._timeout:g} s")
            raise RedisUnavailable(self.degraded) from error
        except (exceptions.ConnectionError, OSError) as error:
            self._trip("unreachable", str(error))
            raise RedisUnavailable(self.degraded) from error
        except exceptions.RedisError as error:
            # It answers at once, so others may call on: out of memory refuses writes, not reads.
            metrics.REDIS_TROUBLE.labels("refused").inc()
            self._degrade(str(error))
            raise RedisUnavailable(self.degraded) from error
        except Exception as error:
            # uvloop raises RuntimeError on a connection that was reset between two commands.
            self._trip("unreachable", f"{type(error).__name__}: {error}")
            raise RedisUnavailable(self.degraded) from error
        if self.degraded:
            self._recover()
        return result

    def _trip(self, kind: str, reason: str) -> None:
        metrics.REDIS_TROUBLE.labels(kind).inc()
        self._degrade(reason)
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        while self._circuit.is_open:
            await asyncio.sleep(PROBE_S)
            try:
                with self._circuit.guard():
                    async with asyncio.timeout(self._timeout):
                        await self._redis.ping()
            except Exception:  # whatever it is: a probe that ends leaves Redis out of use for good
                log.debug("Redis is still out of use", exc_info=True)
        self._recover()

    def _degrade(self, reason: str) -> None:
        if self.degraded is None:
            log.warning("Redis is out of use, each process computes on its own: %s", reason)
        self.degraded = reason
        metrics.CACHE_DEGRADED.labels(self.name).set(1)

    def _recover(self) -> None:
        if self.degraded is not None:
            log.warning("Redis works again")
        self.degraded = None
        metrics.CACHE_DEGRADED.labels(self.name).set(0)


def _block(key: str) -> str:
    # The braces keep block and lease on one node of a Redis cluster.
    return f"landcover:{{{key}}}:block"


def _lease(key: str) -> str:
    return f"landcover:{{{key}}}:lease"


def _is_answer(error: Exception) -> bool:
    unreachable = (exceptions.ConnectionError, exceptions.TimeoutError)
    return isinstance(error, exceptions.RedisError) and not isinstance(error, unreachable)


async def _if_owned(command: Callable[[], Awaitable[Any]]) -> bool:
    """Return whether a command on a lease was carried out: only its owner's is."""
    try:
        await command()
    except exceptions.LockError:
        return False
    return True
