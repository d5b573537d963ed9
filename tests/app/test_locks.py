"""Locks on the cache directory: one process at a time, none left behind by the dead."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from app.cache.disk import DiskStore
from app.cache.single_flight import DirectoryLocks, compute_once_by_lock
from app.cache.tier import DiskTier
from app.grid.classified import ClassifiedBlock
from app.scheduling import Pool

pytestmark = pytest.mark.alone

HOLDER = """
import sys
from pathlib import Path
from app.cache.single_flight import DirectoryLocks
print(DirectoryLocks(Path(sys.argv[1])).acquire("k"), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of "k", and is killed at the end at the latest."""
    command = [sys.executable, "-c", HOLDER, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        try:
            yield process
        finally:
            process.kill()


def block() -> ClassifiedBlock:
    classes = np.full((512, 512), 2, np.uint8)
    return ClassifiedBlock(classes, np.full((512, 512), 90, np.uint8))


def test_a_lock_is_held_against_other_processes_until_it_is_released(tmp_path: Path) -> None:
    locks = DirectoryLocks(tmp_path)
    with holding(tmp_path) as holder:
        assert not locks.acquire("k")
        assert locks.acquire("another")
        holder.kill()  # -9: nothing of its own runs any more
        holder.wait(30)
        assert locks.acquire("k")
        locks.release("k")
    with holding(tmp_path):
        assert not locks.acquire("k")


def test_who_waits_takes_what_the_holder_left_or_follows_it(tmp_path: Path) -> None:
    pool = Pool("test", 1)
    disk = DiskTier(DiskStore(tmp_path, 10**6), pool)
    computed: list[str] = []

    async def compute() -> ClassifiedBlock:
        computed.append("here")
        return block()

    async def waited(left: bool) -> ClassifiedBlock:
        with holding(tmp_path) as holder:
            waiting = asyncio.create_task(
                compute_once_by_lock(disk, DirectoryLocks(tmp_path), "k", compute)
            )
            await asyncio.sleep(0.5)
            assert not waiting.done()
            if left:
                await disk.put("k", block())
            else:
                holder.kill()
            return await asyncio.wait_for(waiting, 30)

    try:
        assert (asyncio.run(waited(left=True)).classes == 2).all()
        assert computed == []
        (tmp_path / "k" / "k").unlink()
        assert (asyncio.run(waited(left=False)).classes == 2).all()
        assert computed == ["here"]
    finally:
        pool.close()


def test_a_directory_that_cannot_be_locked_costs_nothing_but_the_sharing(tmp_path: Path) -> None:
    pool = Pool("test", 1)
    (tmp_path / ".locks").mkdir()  # cannot be opened for writing, not even by root
    disk = DiskTier(DiskStore(tmp_path, 10**6), pool)

    async def compute() -> ClassifiedBlock:
        return block()

    try:
        found = asyncio.run(compute_once_by_lock(disk, DirectoryLocks(tmp_path), "k", compute))
        assert (found.classes == 2).all()
    finally:
        pool.close()
