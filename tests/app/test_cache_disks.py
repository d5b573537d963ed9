"""The disk cache on real disks: writers killed, a full disk, one gone read-only."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from app.cache.blocks import BlockCache
from app.cache.disk import DiskStore
from app.grid.classified import ClassifiedBlock
from app.scheduling import Pool
from model.windows import BLOCK

pytestmark = pytest.mark.alone

MB = 1_000_000
KEY, OTHER = "ab" * 20, "cd" * 20


def block_of(number: int) -> ClassifiedBlock:
    """A block that does not compress: some 100 kB on disk."""
    classes = np.random.default_rng(number).integers(1, 7, (BLOCK, BLOCK), dtype=np.uint8)
    return ClassifiedBlock(classes, classes)


def computing(number: int, calls: list[int]) -> Callable[[], Awaitable[ClassifiedBlock]]:
    async def compute() -> ClassifiedBlock:
        calls.append(number)
        return block_of(number)

    return compute


def same(found: ClassifiedBlock, number: int) -> bool:
    return bool((found.classes == block_of(number).classes).all())


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool("test", 2)
    yield pool
    pool.close()


@pytest.mark.slow
def test_killed_while_writing_a_store_leaves_nothing_that_is_served_damaged(tmp_path: Path) -> None:
    """kill -9 at 200 moments: every entry is whole or absent, and what is half-written is swept."""
    keys = [f"{number:040x}" for number in range(64)]
    store = DiskStore(tmp_path, 64 * MB)
    rng = random.Random(7)
    context = multiprocessing.get_context("fork")  # milliseconds a process, not a second
    for turn in range(200):
        writer = context.Process(target=_write_for_ever, args=(store, keys, turn))
        writer.start()
        time.sleep(rng.uniform(0.001, 0.02))
        writer.kill()
        writer.join(30)
        writer.close()
    for key in keys:
        payload = store.get(key)
        assert payload is None or payload == key.encode() * 500
    assert store.corrupt == 0
    left = list(tmp_path.glob("*/*.part"))
    assert left, "no process was killed while it wrote: nothing was tried"
    for path in left:
        os.utime(path, (0, 0))
    DiskStore(tmp_path, 64 * MB)
    assert not list(tmp_path.glob("*/*.part"))


def _write_for_ever(store: DiskStore, keys: list[str], turn: int) -> None:
    while True:
        for key in keys[turn % len(keys) :] + keys:
            store.put(key, key.encode() * 500)


def test_a_disk_that_is_really_full_is_said_and_used_again(small_disk: Path, pool: Pool) -> None:
    async def story() -> None:
        store = DiskStore(small_disk / "cache", 100 * MB)
        cache = BlockCache(10 * MB, store, pool)
        calls: list[int] = []
        (small_disk / "foreign").write_bytes(bytes(8 * MB - 300_000))
        for number in range(40):
            found = await cache.get_or_compute(f"{number:040x}", computing(number, calls))
            assert same(found, number)
        assert store.degraded is not None
        assert "space" in store.degraded.lower()
        assert calls == list(range(40))
        for number in range(40):  # what the disk has is whole
            payload = store.get(f"{number:040x}")
            assert payload is None or same(ClassifiedBlock.decode(payload), number)
        (small_disk / "foreign").unlink()
        await cache.get_or_compute(KEY, computing(3, calls))
        assert store.degraded is None
        assert same(ClassifiedBlock.decode(store.get(KEY) or b""), 3)

    asyncio.run(story())


def test_a_disk_that_turns_read_only_is_said_and_used_again(small_disk: Path, pool: Pool) -> None:
    def remounted(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    async def story() -> None:
        store = DiskStore(small_disk / "cache", 4 * MB)
        cache = BlockCache(10 * MB, store, pool)
        calls: list[int] = []
        await cache.get_or_compute(KEY, computing(2, calls))
        remounted("ro")
        await cache.get_or_compute(OTHER, computing(4, calls))
        assert calls == [2, 4]
        assert store.degraded is not None
        assert same(ClassifiedBlock.decode(store.get(KEY) or b""), 2)  # still read
        remounted("rw")
        await cache.get_or_compute("ef" * 20, computing(5, calls))
        assert store.degraded is None

    asyncio.run(story())
