"""The jobs of one web process: which it accepts, and what they would take."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from app.access import Client
from app.area.plan import estimate, raster_bytes
from app.errors import StorageFull, TooLarge
from app.jobs.executor import WorkerContext
from app.jobs.files import Folder
from app.jobs.job import Job, Order, Spec
from app.jobs.runner import Runner
from app.jobs.store import Store
from app.scheduling import Pool
from app.services import Services

SPARE_BYTES = 1 << 20
"""Room that is left in the folder of jobs beside a job's results."""

CALLS = 4
"""Threads for calls of the store and for plans of areas."""

_MB = 1_000_000

Args = ParamSpec("Args")
Result = TypeVar("Result")


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
        self._root = root
        self._calls = Pool("calls", CALLS)
        self._context = WorkerContext(services, loop)
        self.store = Store(root / "jobs.sqlite")
        services.collectors.append(self.store)
        self._runner = Runner(self.store, root, self._context)
        self._runner.start()

    async def run(
        self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return the result of a function that waits for the store, or plans an area, beside the
        event loop. The clients take turns here too."""
        return await self._calls.run(copy_context().run, partial(function, *args, **kwargs))

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

    def submit(self, spec: Spec, client: Client | None = None, order: Order | None = None) -> Job:
        """Accept a job; TooLarge or Busy when it is above a limit, QuotaExceeded above its
        client's, StorageUnavailable or StorageFull when it could not be kept."""
        self._km2(spec)
        work = self._context.work_of(spec)
        nbytes = raster_bytes(work.plan) if "cog" in spec.outputs else 0
        limit = self.settings.jobs_mb * _MB
        if nbytes > limit:
            raise TooLarge("the size of the results in bytes", nbytes, limit)
        self._check_room(nbytes)
        if client:
            weight = client.quota.weight
            order = replace(order or Order(), client=client.name, weight=weight)
        queued = self.settings.jobs_queued
        quota = client.quota if client else None
        job = self.store.add(spec, len(work.blocks), queued, order, quota, nbytes)
        self._runner.wake()
        return job

    def _check_room(self, nbytes: int) -> None:
        try:
            free = shutil.disk_usage(self._root).free
        except OSError:
            return  # a folder that is not there yet: the store makes it, or says why not
        if free < nbytes + SPARE_BYTES:
            needed = nbytes + SPARE_BYTES
            raise StorageFull(f"the folder of jobs has {free} bytes left, {needed} are needed")

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
        self._calls.close()
        self.services.collectors.remove(self.store)
        if self._temporary is not None:
            self._temporary.cleanup()
