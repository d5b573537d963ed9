"""One block of a job, wherever it runs: a thread here, another process, another machine.

A task carries names and numbers, never arrays. It asks the `LandCover` of its process for the
block, exactly as a tile does, and leaves it in the job's folder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from app.grid.pixel_grid import Block, PixelGrid
from app.jobs.folder import Folder, FolderCache
from app.jobs.job import Stopped
from app.landcover.blocks import LandCover
from app.scheduling import Gate, background
from app.services import Services
from app.settings import Settings

Result = TypeVar("Result")
_UNLIMITED = 1 << 40
_LOOK_S = 0.1
"""Seconds between looks whether the job was stopped."""


class WorkerContext:
    """The services of a process and the event loop they live on, for threads beside that loop."""

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self.loop = loop
        self.closing = False

    def landcover(self, folder: Folder | None) -> LandCover:
        """A `LandCover` that keeps its blocks in `folder` and does not stand in the gate."""
        shared = self.services.landcover
        cache = FolderCache(folder, shared.cache, shared.reads) if folder else shared.cache
        gate = Gate(_UNLIMITED, shared.infers.workers)
        return LandCover(cache, shared.reader, shared.reads, shared.infers, gate, shared.batcher)

    def call(
        self, work: Coroutine[Any, Any, Result], stopped: Callable[[], bool] = lambda: False
    ) -> Result:
        """The result of `work` on the loop; Stopped, and the work with it, when `stopped` is."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        while True:
            try:
                return future.result(_LOOK_S)
            except CancelledError:
                raise Stopped("the work was stopped") from None
            except TimeoutError:
                if future.done():
                    raise
            if self.closing or stopped():
                future.cancel()
                raise Stopped("the work was stopped")


_here = threading.local()


def bind(workshop: WorkerContext) -> None:
    """Tasks of this thread use `workshop`: the initializer of a pool of threads."""
    _here.workshop = workshop


@lru_cache(maxsize=2)
def own_workshop(settings: str) -> WorkerContext:
    """A workshop of this process's own, built once from the settings as JSON."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="landcover-loop", daemon=True).start()
    return WorkerContext(Services(Settings.model_validate_json(settings)), loop)


@dataclass(frozen=True, slots=True)
class Task:
    """A block to compute. Without `keep` only the cache is filled, not the folder."""

    number: int
    folder: str
    keep: bool
    settings: str
    source: str
    year: str
    model: str
    grid: tuple[str, float]
    col: int
    row: int

    @property
    def block(self) -> Block:
        """The block's address."""
        return Block(PixelGrid(*self.grid), self.col, self.row)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a finished task. `empty`: no imagery there."""

    number: int
    empty: bool


def run(task: Task) -> Record:
    """Computes a block and leaves it in the folder; Stopped when the job was."""
    bound: WorkerContext | None = getattr(_here, "workshop", None)
    workshop = bound or own_workshop(task.settings)
    folder = Folder(Path(task.folder))
    if folder.stopped:
        raise Stopped("the work was stopped")
    return workshop.call(_compute(workshop, task, folder), lambda: folder.stopped)


async def _compute(workshop: WorkerContext, task: Task, folder: Folder) -> Record:
    selection = workshop.services.select(task.source, task.year, task.model)
    landcover = workshop.landcover(folder if task.keep else None)
    with background():
        block = await landcover.block(selection, task.block)
    return Record(task.number, block is None)
