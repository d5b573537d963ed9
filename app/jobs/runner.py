"""Runs the jobs of a web process, from the store.

The store owns the truth: what an executor forgets is submitted again, what is recorded is not.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import (
    LandcoverError,
    StorageUnavailable,
    UnknownName,
    storage_error,
)
from app.jobs.executor import LANES, Record, WorkerContext, dispatch, executor_of, tasks_of
from app.jobs.files import Folder, write_results
from app.jobs.job import IllegalTransition, Job, Status, Stopped
from app.jobs.store import LEASE_S, Store
from app.scheduling import Flow

SWEEP_S = 60
"""Seconds between two looks for results to be removed, at most."""

_MB = 1_000_000

log = logging.getLogger("landcover.jobs")


@dataclass(eq=False)
class _Running:
    """A job that this process runs. `lost`: it is another's now, or nobody's."""

    job: Job
    lost: bool = False


class Runner:
    """Threads that run the jobs of a store: one of any size, and beside it a small one, so that
    none waits for an hour's work that somebody else has asked for."""

    def __init__(self, store: Store, root: Path, context: WorkerContext) -> None:
        """`root`: folder of the jobs' folders."""
        self.store = store
        self.context = context
        self._settings = context.services.settings
        self._root = root
        self._executor, self._in_flight = executor_of(context)
        self._owner = str(uuid.uuid4())
        self._running: set[_Running] = set()
        self._closed = threading.Event()
        self._wake = [threading.Event() for _ in range(LANES)]
        small = self._settings.area_blocks
        self._threads = [
            threading.Thread(target=self._work, args=(0, None), name="landcover-jobs", daemon=True),
            threading.Thread(
                target=self._work, args=(1, small), name="landcover-small", daemon=True
            ),
            threading.Thread(target=self._renew_leases, name="landcover-lease", daemon=True),
            threading.Thread(target=self._sweep_often, name="landcover-sweep", daemon=True),
        ]

    def start(self) -> None:
        """Begin with whatever waits, the jobs of a killed process too."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for a new job now."""
        for event in self._wake:
            event.set()

    def folder(self, job_id: str) -> Folder:
        """Return a job's folder."""
        return Folder(self._root / job_id)

    def dismiss(self, job_id: str, message: str = "Dismissed.") -> Job:
        """Stop a job at once, in whatever process it runs, and remove its files; IllegalTransition
        when it was dismissed before."""
        folder = self.folder(job_id)
        if self.store.get(job_id).results:
            folder.remove()  # first: a full disk takes no note of it before
        job = self.store.transition(job_id, "dismissed", message)
        if job.results:
            folder.remove()
        else:
            try:
                folder.stop()
            except OSError as error:
                # Its lease is gone too, which its runner finds out a second later.
                log.warning("job %s cannot be stopped at once: %s", job_id, error)
            folder.drop_blocks()
        return job

    def close(self) -> None:
        """Stop; what is half done is resumed by the next process."""
        self.context.closing = True
        self._closed.set()
        self.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def sweep(self) -> None:
        """Remove the jobs that ended longer ago than results are kept, and the results that are
        more than may be kept: first the oldest of the client that keeps most."""
        for job_id in self.store.older_than(time.time() - self._settings.job_keep_h * 3600):
            self.folder(job_id).remove()
            self.store.remove(job_id)
        limit = self._settings.jobs_mb * _MB
        while (largest := self.store.largest_above(limit)) is not None:
            with suppress(IllegalTransition, UnknownName):
                message = (
                    f"Removed: all results together were more than {self._settings.jobs_mb} MB."
                )
                self.dismiss(largest, message)

    def _sweep_often(self) -> None:
        while not self._closed.is_set():
            try:
                self.sweep()
            except StorageUnavailable as error:
                log.warning("old jobs cannot be removed: %s", error)
            except Exception:
                log.exception("old jobs cannot be removed")
            self._closed.wait(min(SWEEP_S, self._settings.job_keep_h * 900))

    def _work(self, lane: int, most_blocks: int | None) -> None:
        trouble = ""
        while not self.context.closing:
            try:
                job = self.store.claim(self._owner, most_blocks)
                trouble = ""
                if job is not None:
                    self._run(job)
                    continue
            except StorageUnavailable as error:
                if trouble != str(error):
                    log.warning("jobs wait: %s", error)
                trouble = str(error)
            except Exception:
                log.exception("the store of jobs cannot be used")
            self._wake[lane].wait(1)
            self._wake[lane].clear()

    def _renew_leases(self) -> None:
        while not self._closed.wait(LEASE_S / 5):
            for running in list(self._running):
                # What cannot be written, nobody else can take over.
                with suppress(StorageUnavailable):
                    running.lost |= not self.store.renew(running.job.id, self._owner)

    def _run(self, job: Job) -> None:
        running = _Running(job)
        self._running.add(running)
        folder = self.folder(job.id)
        try:
            results = self._results(running)
            self._record(running, "successful", "Done.", results, folder.nbytes)
            folder.drop_blocks()
        except (Stopped, IllegalTransition):
            if self.context.closing and not running.lost:
                self.store.transition(job.id, "accepted", "Its server ended; the next resumes it.")
            elif self.store.get(job.id).status == "dismissed":
                folder.remove()
        except OSError as error:
            self._fail(running, str(storage_error("the folder of jobs", error)))
        except LandcoverError as error:
            self._fail(running, str(error))
        except Exception:
            log.exception("job %s failed", job.id)
            self._fail(running, "The server failed; its log says why.")
        finally:
            self._running.discard(running)

    def _fail(self, running: _Running, message: str) -> None:
        self.folder(running.job.id).remove()
        try:
            self._record(running, "failed", message)
        except (IllegalTransition, Stopped):
            log.info("job %s was dismissed", running.job.id)

    def _record(
        self,
        running: _Running,
        status: Status,
        message: str,
        results: dict[str, Any] | None = None,
        nbytes: int = 0,
    ) -> None:
        """Set the status as soon as the store can be written; Stopped when the server ends before:
        the next one runs the job again."""
        while True:
            try:
                self.store.transition(running.job.id, status, message, results, nbytes)
            except StorageUnavailable as error:
                log.warning("job %s waits to be %s: %s", running.job.id, status, error)
            else:
                return
            if self._closed.wait(LEASE_S / 5):
                raise Stopped("the server ends")

    def _results(self, running: _Running) -> dict[str, Any]:
        job, spec = running.job, running.job.spec
        folder = self.folder(job.id)
        stopped = self._stopped(running, folder)
        order = job.order
        # What its client waits for is like any other of its requests, unless it began elsewhere:
        # nobody waits for a process that has ended.
        waited = order.waited and time.time() - (job.started or 0) < LEASE_S
        flow = Flow(order.client if waited else f"job {job.id}", order.weight)
        work = self.context.work_of(spec, stopped)
        tasks = tasks_of(self.context, spec, work, folder, flow, waited)
        already = self.store.numbers_done(job.id)
        last = time.monotonic()

        def done(record: Record) -> None:
            nonlocal last
            now = time.monotonic()
            self.store.done(job.id, record.number, now - last)
            last = now

        left = [task for task in tasks if task.number not in already]
        dispatch(self._executor, left, self._in_flight, done, stopped)
        if spec.process == "seed":
            return {"report": {"value": {"blocks": len(tasks)}}}
        folder.results.mkdir(parents=True, exist_ok=True)
        landcover = self.context.landcover(folder)
        written = write_results(landcover, work, spec.outputs, folder.results, flow, waited)
        return self.context.call(written, stopped)

    def _stopped(self, running: _Running, folder: Folder) -> Callable[[], bool]:
        return lambda: self.context.closing or running.lost or folder.stopped
