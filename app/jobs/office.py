"""The jobs of one web process: takes them in, within the limits, and has them run."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.area.estimate import estimate
from app.errors import TooLarge
from app.jobs.cluster import Cluster
from app.jobs.folder import Folder
from app.jobs.job import Job, Process, Spec
from app.jobs.plan import km2_of
from app.jobs.resolve import spec_of, work_of
from app.jobs.runner import Runner
from app.jobs.store import Store
from app.jobs.task import WorkerContext
from app.services import Services


class JobService:
    """The journal, its folder and the runner."""

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        """`loop`: the one the services live on. Jobs left over by a process that ended go on."""
        self.settings = services.settings
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        root = self.settings.jobs_dir
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="landcover-jobs-")
            root = Path(self._temporary.name)
        self._workshop = WorkerContext(services, loop)
        self.store = Store(root / "jobs.sqlite")
        services.collectors.append(self.store)
        cluster = Cluster(self.settings.scheduler) if self.settings.scheduler else None
        ahead = 2 * cluster.threads if cluster else None
        self._runner = Runner(self.store, root, self._workshop, cluster, ahead)
        self._runner.start()

    def spec(
        self,
        process: Process,
        area: object,
        source: str | None,
        model: str | None,
        years: Sequence[str],
        outputs: Sequence[str],
    ) -> Spec:
        """What a client asks, every name resolved; InvalidRequest or UnknownName."""
        return spec_of(self._workshop.services, process, area, source, model, years, outputs)

    def fits_request(self, spec: Spec) -> bool:
        """Whether it may be executed while the client waits; TooLarge above the limit of jobs."""
        return self._km2(spec) <= self.settings.sync_area_km2

    def estimate(self, spec: Spec) -> dict[str, Any]:
        """What a job takes, before it runs: km², blocks, those cached, seconds, bytes of its
        raster, and whether it may be executed at once; TooLarge above the limit."""
        km2 = self._km2(spec)
        work = work_of(self._workshop, spec)
        landcover = self._workshop.services.landcover
        found = self._workshop.call(estimate(landcover, work.selections, [work.plan]))
        sync = km2 <= self.settings.sync_area_km2
        return {"km2": round(km2, 6), **found.document(), "sync": sync}

    def submit(self, spec: Spec) -> Job:
        """Takes a job in; TooLarge or Busy when it is beyond a limit."""
        self._runner.sweep(self.settings.job_keep_h * 3600)
        self._km2(spec)
        blocks = len(work_of(self._workshop, spec).blocks)
        job = self.store.add(spec, blocks, self.settings.jobs_queued)
        self._runner.wake()
        return job

    def _km2(self, spec: Spec) -> float:
        km2 = km2_of(spec.area)
        if km2 > self.settings.job_area_km2:
            raise TooLarge("the area in km²", round(km2, 2), self.settings.job_area_km2)
        return km2

    def dismiss(self, job_id: str) -> Job:
        """Stops a job at once, or forgets the results of one that has ended."""
        return self._runner.dismiss(job_id)

    def folder(self, job_id: str) -> Folder:
        """A job's folder."""
        return self._runner.folder(job_id)

    def close(self) -> None:
        """Leaves off; with a `jobs_dir` the next process goes on where this one was."""
        self._runner.close()
        self._workshop.services.collectors.remove(self.store)
        if self._temporary is not None:
            self._temporary.cleanup()
