"""The blocks of a job as tasks, and where they run: threads here, or the workers of a Dask cluster.

A task carries names and numbers, never arrays. It asks the `LandCover` of its process for the
block, exactly as a tile does, and leaves it in the job's folder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from shapely.geometry import shape

from app.area.polygon import AreaOfInterest
from app.errors import ConfigurationError, SourceUnavailable
from app.grid.pixel_grid import Block, PixelGrid
from app.jobs.files import Folder, FolderCache
from app.jobs.job import Spec, Stopped, Work
from app.landcover.blocks import LandCover
from app.scheduling import OWN, Flow, Gate, prioritized
from app.services import Services
from app.settings import Settings

ATTEMPTS = 3
"""Tries of a block whose imagery cannot be read."""

LANES = 2
"""Jobs that a server runs at once: any, and beside it one that is small."""

CONNECT_S = 10
"""Seconds to wait for a Dask scheduler."""

_UNLIMITED = 1 << 40
_CHECK_S = 0.1
"""Seconds between checks whether the job was stopped."""

Result = TypeVar("Result")


def _never() -> bool:
    return False


class WorkerContext:
    """The services of a process and the event loop they live on, for threads beside that loop."""

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self.loop = loop
        self.closing = False
        # One for all blocks of a job, so that scenes are searched for once.
        self._landcovers = lru_cache(maxsize=2 * LANES)(self._landcover_of)

    def landcover(self, folder: Folder | None) -> LandCover:
        """Return the `LandCover` of a job, which keeps its blocks in `folder` and is not limited by
        the gate."""
        return self._landcovers(folder.root if folder else None)

    def _landcover_of(self, root: Path | None) -> LandCover:
        shared = self.services.landcover
        cache = FolderCache(Folder(root), shared.cache, shared.reads) if root else shared.cache
        gate = Gate(_UNLIMITED, shared.infers.workers)
        return LandCover(cache, shared.reader, shared.reads, shared.infers, gate, shared.batcher)

    def call(
        self, work: Coroutine[Any, Any, Result], stopped: Callable[[], bool] = _never
    ) -> Result:
        """Return the result of `work` on the loop; Stopped, and cancel it, once `stopped`."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        while True:
            try:
                return future.result(_CHECK_S)
            except CancelledError:
                raise Stopped("the work was stopped") from None
            except TimeoutError:
                if future.done():
                    raise
            if self.closing or stopped():
                future.cancel()
                raise Stopped("the work was stopped")

    def work_of(self, spec: Spec, stopped: Callable[[], bool] = _never) -> Work:
        """Return the job's blocks: the same after every restart. Not to be called on the loop.

        UnknownName when its source or model has gone, SourceUnavailable when a catalog on a network
        cannot be searched.
        """
        area, selections = AreaOfInterest(shape(spec.area)), spec.selections(self.services)
        for selection in selections:
            for box in area.boxes:
                self.call(self.services.landcover.load(selection, box), stopped)
        return Work.of(area, selections)


_here = threading.local()


def bind(context: WorkerContext) -> None:
    """Have tasks of this thread use `context`: the initializer of a thread pool."""
    _here.context = context


@lru_cache(maxsize=2)
def own_context(settings: str) -> WorkerContext:
    """Return a context of this process's own, built once from the settings as JSON."""
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
    dates: tuple[str, str, str]
    """year, datetime, fill"""
    model: str
    grid: tuple[str, float]
    col: int
    row: int
    flow: Flow = OWN
    interactive: bool = False

    @property
    def block(self) -> Block:
        """Return the block's address."""
        return Block(PixelGrid(*self.grid), self.col, self.row)


@dataclass(frozen=True, slots=True)
class Record:
    """The number of a finished task. `empty`: no imagery there."""

    number: int
    empty: bool


def tasks_of(
    context: WorkerContext,
    spec: Spec,
    work: Work,
    folder: Folder,
    flow: Flow = OWN,
    interactive: bool = False,
) -> list[Task]:
    """Return a task for every block of a job, which is done as work of `flow`."""
    # Secrets are not written out: workers may have a Redis in their own environment.
    settings = context.services.settings.model_dump_json(exclude={"redis_url", "operator_key"})
    root, keep = str(folder.root.resolve()), spec.process != "seed"
    return [
        Task(
            number,
            root,
            keep,
            settings,
            spec.source,
            (spec.years[index], spec.datetime, spec.fill),
            spec.model,
            (block.grid.crs, block.grid.resolution),
            block.col,
            block.row,
            flow,
            interactive,
        )
        for number, (index, block) in enumerate(work.blocks)
    ]


def run(task: Task) -> Record:
    """Compute a block and leave it in the folder; Stopped when the job was."""
    bound: WorkerContext | None = getattr(_here, "context", None)
    context = bound or own_context(task.settings)
    folder = Folder(Path(task.folder))
    if folder.stopped:
        raise Stopped("the work was stopped")
    return context.call(_compute(context, task, folder), lambda: folder.stopped)


async def _compute(context: WorkerContext, task: Task, folder: Folder) -> Record:
    year, datetime, fill = task.dates
    selection = context.services.select(task.source, year, task.model, datetime, fill)
    landcover = context.landcover(folder if task.keep else None)
    with prioritized(task.interactive, task.flow):
        block = await landcover.block(selection, task.block)
    return Record(task.number, block is None)


def dispatch(
    executor: Executor,
    tasks: Iterable[Task],
    in_flight: int,
    done: Callable[[Record], None],
    stopped: Callable[[], bool] = _never,
) -> None:
    """Run the tasks, at most `in_flight` submitted at once; call `done` for each, in this thread.

    A block whose imagery cannot be read is tried `ATTEMPTS` times; then its error is raised.
    Stopped when `stopped`.
    """
    # Neighbors together, whatever the largest window is that its executor joins.
    waiting = iter(sorted(tasks, key=_group_of))
    pending: dict[Future[Record], tuple[Task, int]] = {}

    def submit(task: Task, attempt: int) -> None:
        pending[executor.submit(run, task)] = (task, attempt)

    try:
        while True:
            while len(pending) < in_flight and (task := next(waiting, None)) is not None:
                submit(task, 1)
            if not pending:
                return
            finished, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            if stopped():
                raise Stopped("the work was stopped")
            for future in finished:
                task, attempt = pending.pop(future)
                try:
                    done(future.result())
                except SourceUnavailable:
                    if attempt >= ATTEMPTS:
                        raise
                    submit(task, attempt + 1)
    finally:
        # Running tasks stop by themselves; their folder must not be removed before.
        wait([future for future in pending if not future.cancel()], timeout=60)


def _group_of(task: Task) -> tuple[object, ...]:
    row, col = task.row, task.col
    return task.grid, task.dates, row // 4, col // 4, row // 2, col // 2


def executor_of(context: WorkerContext) -> tuple[Executor, int]:
    """Return what computes tasks by the settings, and how many it is given at once: the workers of
    a scheduler, or threads that only wait for blocks the service computes in its pools.

    ConfigurationError as `Cluster`.
    """
    scheduler = context.services.settings.scheduler
    if scheduler:
        cluster = Cluster(scheduler)
        return cluster, 2 * cluster.threads
    workers = context.services.landcover.batcher.in_flight
    threads = LANES * workers
    pool = ThreadPoolExecutor(threads, "landcover-job", initializer=bind, initargs=(context,))
    return pool, workers


class Cluster(Executor):
    """The workers of a Dask scheduler; needs the extra `dask`. They must reach the model, the
    imagery and the job's folder under the same paths as this process.

    A scheduler runs whatever it is sent, unauthenticated: keep it on a private network or use TLS.
    """

    def __init__(self, address: str) -> None:
        """Raise ConfigurationError when Dask is not installed or no scheduler answers."""
        try:
            from distributed import Client  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "a scheduler needs Dask: pip install 'landcover[dask]'"
            ) from error
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no Dask scheduler at {address}: {error}") from error
        self._executor = self._client.get_executor(pure=False)

    @property
    def threads(self) -> int:
        """Return the number of threads of all workers now; at least 1."""
        return max(1, int(sum(self._client.nthreads().values())))

    def submit(
        self,
        fn: Callable[..., Result],
        /,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Future[Result]:
        """Run a call on some worker; it is tried again elsewhere when that worker dies."""
        future: Future[Result] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnect from the cluster, which keeps running."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()
