"""Has tasks computed by an executor, any of `concurrent.futures`, a bounded number at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait

from app.errors import SourceUnavailable
from app.jobs.job import Stopped
from app.jobs.task import Record, Task, WorkerContext, bind, run

ATTEMPTS = 3
"""Tries of a block whose imagery cannot be read."""


def threads_of(workshop: WorkerContext) -> ThreadPoolExecutor:
    """The default executor: threads that only wait for blocks the service computes in its pools,
    as many as keep its inference threads busy."""
    workers = workshop.services.landcover.batcher.in_flight
    return ThreadPoolExecutor(workers, "landcover-job", initializer=bind, initargs=(workshop,))


def _group_of(task: Task) -> tuple[object, ...]:
    row, col = task.row, task.col
    return task.grid, task.year, row // 4, col // 4, row // 2, col // 2


def drive(
    executor: Executor,
    tasks: Iterable[Task],
    in_flight: int,
    done: Callable[[Record], None],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Runs the tasks, at most `in_flight` submitted at once; `done` is called for each, in this
    thread. A block whose imagery cannot be read is tried `ATTEMPTS` times; then its error is
    raised. Stopped when `stopped`."""
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
        # Those that run leave off by themselves; their folder must not go before they have.
        wait([future for future in pending if not future.cancel()], timeout=60)
