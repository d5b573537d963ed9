"""Drives jobs: takes one from the journal, has its blocks computed, writes what it delivers.

The journal owns the truth: what an executor forgets is submitted again, what is journalled is not.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from app.errors import LandcoverError
from app.jobs import products
from app.jobs.drive import drive, threads_of
from app.jobs.folder import Folder
from app.jobs.job import IllegalTransition, Job, Stopped
from app.jobs.resolve import tasks_of, work_of
from app.jobs.store import LEASE_S, Store
from app.jobs.task import Record, WorkerContext

log = logging.getLogger("landcover.jobs")


class Runner:
    """A thread that runs the journal's jobs, one at a time."""

    def __init__(
        self,
        store: Store,
        root: Path,
        workshop: WorkerContext,
        executor: Executor | None = None,
        in_flight: int | None = None,
    ) -> None:
        """`root`: folder of the jobs' folders; `executor`: threads of this process by default."""
        self.store = store
        self.workshop = workshop
        self._root = root
        self._executor = executor or threads_of(workshop)
        self._in_flight = in_flight or workshop.services.landcover.batcher.in_flight
        self._owner = str(uuid.uuid4())
        self._current: str | None = None
        self._lost = False
        self._wake = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="landcover-jobs", daemon=True),
            threading.Thread(target=self._hold, name="landcover-lease", daemon=True),
        ]

    def start(self) -> None:
        """Begins with whatever waits, a killed process's jobs too."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    def folder(self, job_id: str) -> Folder:
        """A job's folder."""
        return Folder(self._root / job_id)

    def dismiss(self, job_id: str) -> Job:
        """Stops a job at once, in whatever process it runs; its files go. IllegalTransition when
        it was dismissed before."""
        job = self.store.to(job_id, "dismissed", "Dismissed.")
        folder = self.folder(job_id)
        if job.results:
            folder.remove()
        else:
            folder.stop()
            folder.drop_blocks()
        return job

    def close(self) -> None:
        """Leaves off; what is half done is taken up by the next process."""
        self.workshop.closing = True
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def sweep(self, keep_s: float) -> None:
        """Removes the jobs that ended more than `keep_s` seconds ago, and their files."""
        for job_id in self.store.older_than(time.time() - keep_s):
            self.folder(job_id).remove()
            self.store.remove(job_id)

    def _work(self) -> None:
        while not self.workshop.closing:
            try:
                job = self.store.claim(self._owner)
                if job is not None:
                    self._run(job)
                    continue
            except Exception:
                log.exception("the journal of jobs cannot be used")
            self._wake.wait(1)
            self._wake.clear()

    def _hold(self) -> None:
        while not self.workshop.closing:
            current = self._current
            if current is not None and not self.store.renew(current, self._owner):
                self._lost = True
            time.sleep(LEASE_S / 5)

    def _run(self, job: Job) -> None:
        self._lost, self._current = False, job.id
        try:
            results = self._deliver(job)
            self.store.to(job.id, "successful", "Done.", results)
            self.folder(job.id).drop_blocks()
        except (Stopped, IllegalTransition):
            if self.workshop.closing and not self._lost:
                self.store.to(job.id, "accepted", "Its server ended; it goes on with the next.")
            elif self.store.get(job.id).status == "dismissed":
                self.folder(job.id).remove()
        except (LandcoverError, OSError) as error:
            self._fail(job, str(error))
        except Exception:
            log.exception("job %s failed", job.id)
            self._fail(job, "The server failed; its log says why.")
        finally:
            self._current = None

    def _fail(self, job: Job, message: str) -> None:
        try:
            self.store.to(job.id, "failed", message)
        except IllegalTransition:
            log.info("job %s was dismissed", job.id)

    def _deliver(self, job: Job) -> dict[str, object]:
        spec, seed = job.spec, job.spec.process == "seed"
        folder = self.folder(job.id)
        stopped = self._stopped(folder)
        work = work_of(self.workshop, spec, stopped)
        tasks = tasks_of(self.workshop, spec, work, folder)
        already = self.store.numbers_done(job.id)
        last = time.monotonic()

        def done(record: Record) -> None:
            nonlocal last
            now = time.monotonic()
            self.store.done(job.id, record.number, now - last)
            last = now

        left = [task for task in tasks if task.number not in already]
        drive(self._executor, left, self._in_flight, done, stopped)
        if seed:
            return {"report": {"value": {"blocks": len(tasks)}}}
        folder.results.mkdir(parents=True, exist_ok=True)
        landcover = self.workshop.landcover(folder)
        written = products.write(landcover, work, spec.outputs, folder.results)
        return self.workshop.call(written, stopped)

    def _stopped(self, folder: Folder) -> Callable[[], bool]:
        return lambda: self.workshop.closing or self._lost or folder.stopped
