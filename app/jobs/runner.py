"""Runs jobs: those of a web process, one at a time from the store, or one of the command line.

The store owns the truth: what an executor forgets is submitted again, what is recorded is not.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.area.plan import estimate
from app.area.totals import Progress
from app.errors import InvalidRequest, LandcoverError, TooLarge
from app.jobs.executor import Record, WorkerContext, dispatch, executor_of, tasks_of
from app.jobs.files import Folder, write_results
from app.jobs.job import IllegalTransition, Job, Spec, Stopped
from app.jobs.store import LEASE_S, Store
from app.render.qgis import move_sidecars
from app.services import Services

log = logging.getLogger("landcover.jobs")


class JobService:
    """The jobs of one web process: accepts them, within the limits, and has them run."""

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        """`loop`: the one the services live on. Jobs left over by a process that ended go on."""
        self.settings = services.settings
        self.services = services
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        root = self.settings.jobs_dir
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="landcover-jobs-")
            root = Path(self._temporary.name)
        self._context = WorkerContext(services, loop)
        self.store = Store(root / "jobs.sqlite")
        services.collectors.append(self.store)
        self._runner = Runner(self.store, root, self._context)
        self._runner.start()

    def fits_request(self, spec: Spec) -> bool:
        """Whether it may be executed while the client waits; TooLarge above the limit of jobs."""
        return self._km2(spec) <= self.settings.sync_area_km2

    def estimate(self, spec: Spec) -> dict[str, Any]:
        """Return what a job takes, before it runs: km², blocks, those cached, seconds, bytes of its
        raster, and whether it may be executed at once; TooLarge above the limit."""
        km2 = self._km2(spec)
        work = self._context.work_of(spec)
        landcover = self.services.landcover
        cost = self._context.call(estimate(landcover, work.selections, [work.plan]))
        sync = km2 <= self.settings.sync_area_km2
        return {"km2": round(km2, 6), **cost.document(), "sync": sync}

    def submit(self, spec: Spec) -> Job:
        """Accept a job; TooLarge or Busy when it is above a limit."""
        self._runner.sweep(self.settings.job_keep_h * 3600)
        self._km2(spec)
        blocks = len(self._context.work_of(spec).blocks)
        job = self.store.add(spec, blocks, self.settings.jobs_queued)
        self._runner.wake()
        return job

    def _km2(self, spec: Spec) -> float:
        km2 = spec.km2
        if km2 > self.settings.job_area_km2:
            raise TooLarge("the area in km²", round(km2, 2), self.settings.job_area_km2)
        return km2

    def dismiss(self, job_id: str) -> Job:
        """Stop a job at once, or remove the results of one that has ended."""
        return self._runner.dismiss(job_id)

    def folder(self, job_id: str) -> Folder:
        """Return a job's folder."""
        return self._runner.folder(job_id)

    def close(self) -> None:
        """Stop; with a `jobs_dir` the next process resumes where this one was."""
        self._runner.close()
        self.services.collectors.remove(self.store)
        if self._temporary is not None:
            self._temporary.cleanup()


class Runner:
    """A thread that runs the jobs of a store, one at a time."""

    def __init__(self, store: Store, root: Path, context: WorkerContext) -> None:
        """`root`: folder of the jobs' folders."""
        self.store = store
        self.context = context
        self._root = root
        self._executor, self._in_flight = executor_of(context)
        self._owner = str(uuid.uuid4())
        self._current: str | None = None
        self._lost = False
        self._wake = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="landcover-jobs", daemon=True),
            threading.Thread(target=self._renew_leases, name="landcover-lease", daemon=True),
        ]

    def start(self) -> None:
        """Begin with whatever waits, the jobs of a killed process too."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for a new job now."""
        self._wake.set()

    def folder(self, job_id: str) -> Folder:
        """Return a job's folder."""
        return Folder(self._root / job_id)

    def dismiss(self, job_id: str) -> Job:
        """Stop a job at once, in whatever process it runs, and remove its files; IllegalTransition
        when it was dismissed before."""
        job = self.store.transition(job_id, "dismissed", "Dismissed.")
        folder = self.folder(job_id)
        if job.results:
            folder.remove()
        else:
            folder.stop()
            folder.drop_blocks()
        return job

    def close(self) -> None:
        """Stop; what is half done is resumed by the next process."""
        self.context.closing = True
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def sweep(self, keep_s: float) -> None:
        """Remove the jobs that ended more than `keep_s` seconds ago, and their files."""
        for job_id in self.store.older_than(time.time() - keep_s):
            self.folder(job_id).remove()
            self.store.remove(job_id)

    def _work(self) -> None:
        while not self.context.closing:
            try:
                job = self.store.claim(self._owner)
                if job is not None:
                    self._run(job)
                    continue
            except Exception:
                log.exception("the store of jobs cannot be used")
            self._wake.wait(1)
            self._wake.clear()

    def _renew_leases(self) -> None:
        while not self.context.closing:
            current = self._current
            if current is not None and not self.store.renew(current, self._owner):
                self._lost = True
            time.sleep(LEASE_S / 5)

    def _run(self, job: Job) -> None:
        self._lost, self._current = False, job.id
        try:
            results = self._results(job)
            self.store.transition(job.id, "successful", "Done.", results)
            self.folder(job.id).drop_blocks()
        except (Stopped, IllegalTransition):
            if self.context.closing and not self._lost:
                self.store.transition(job.id, "accepted", "Its server ended; the next resumes it.")
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
            self.store.transition(job.id, "failed", message)
        except IllegalTransition:
            log.info("job %s was dismissed", job.id)

    def _results(self, job: Job) -> dict[str, Any]:
        spec, folder = job.spec, self.folder(job.id)
        stopped = self._stopped(folder)
        work = self.context.work_of(spec, stopped)
        tasks = tasks_of(self.context, spec, work, folder)
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
        written = write_results(landcover, work, spec.outputs, folder.results)
        return self.context.call(written, stopped)

    def _stopped(self, folder: Folder) -> Callable[[], bool]:
        return lambda: self.context.closing or self._lost or folder.stopped


class LocalRunner:
    """Runs jobs without a store: the same work, tasks and results, for one command."""

    def __init__(self, services: Services) -> None:
        """ConfigurationError when the settings name a scheduler that does not answer."""
        self.services = services
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.context = WorkerContext(services, self._loop)
        self._executor, self._in_flight = executor_of(self.context)

    def close(self) -> None:
        """Wait for running tasks, then close the services."""
        self.context.closing = True
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.services.close()

    def compute(
        self, spec: Spec, folder: Folder, shard: tuple[int, int], progress: Progress
    ) -> None:
        """Compute every N-th block, from the I-th, for the shard (I, N); those the folder has are
        not computed again."""
        index, count = shard
        work = self.context.work_of(spec)
        tasks = tasks_of(self.context, spec, work, folder)[index::count]
        number = 0

        def done(_: Record) -> None:
            nonlocal number
            number += 1
            progress(number, len(tasks))

        dispatch(self._executor, tasks, self._in_flight, done)

    def missing(self, spec: Spec, folder: Folder) -> list[int]:
        """Return the numbers of the blocks with imagery that the folder lacks."""
        landcover, work = self.context.landcover(folder), self.context.work_of(spec)
        blocks = enumerate(work.blocks)
        keys = ((number, landcover.key(work.selections[i], block)) for number, (i, block) in blocks)
        return [number for number, key in keys if key and folder.get(key) is None]

    def write(self, spec: Spec, folder: Folder, output: Path | None) -> dict[str, Any]:
        """Write the raster to `output`, its `.aux.xml` beside it, and return the documents by
        name."""
        parent = output.parent if output else folder.root
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".landcover-") as scratch:
            landcover, work = self.context.landcover(folder), self.context.work_of(spec)
            written = write_results(landcover, work, spec.outputs, Path(scratch))
            results = self.context.call(written)
            if output and "cog" in results:
                raster = Path(scratch) / results["cog"]["file"]
                raster.replace(output)
                Path(f"{raster}.aux.xml").replace(f"{output}.aux.xml")
                move_sidecars(raster, output)
        return {name: each["value"] for name, each in results.items() if "value" in each}


def shard_of(text: str) -> tuple[int, int]:
    """Return `I/N` as (I, N), 0 ≤ I < N; InvalidRequest otherwise."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise InvalidRequest("shard", text, "I/N with 0 ≤ I < N, such as 0/4")
    return int(match[1]), int(match[2])
