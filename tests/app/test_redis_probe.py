"""Whatever Redis' client raises, Redis is used again once it works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.cache import redis as tier_module
from app.cache.redis import RedisTier
from tests.app.redis_server import redis_server

RESET = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


@pytest.mark.parametrize(
    "error",
    [RuntimeError(RESET), AttributeError("'NoneType' has no attribute 'write'"), KeyError(1)],
)
def test_an_unexpected_error_is_a_miss_and_ends_no_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(tier_module, "PROBE_S", 0.02)

    async def story(url: str) -> None:
        tier = RedisTier(url, timeout_s=1, lease_s=1, keep_s=60)
        await tier.look()
        assert tier.degraded is None
        send = tier._redis.execute_command

        async def failing(*_: Any, **__: Any) -> Any:  # noqa: ANN401
            raise error

        monkeypatch.setattr(tier._redis, "execute_command", failing)
        assert await tier.get("0" * 40) is None
        assert type(error).__name__ in (tier.degraded or "")
        await asyncio.sleep(0.2)
        assert tier.degraded is not None
        monkeypatch.setattr(tier._redis, "execute_command", send)
        async with asyncio.timeout(10):
            while tier.degraded is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await tier.get("0" * 40) is None
        assert tier.degraded is None
        await tier.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(server.url))
