"""Runs one job without a store: what the command line does."""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

from app.area.totals import Progress
from app.errors import InvalidRequest
from app.jobs.executor import Record, WorkerContext, dispatch, executor_of, tasks_of
from app.jobs.files import Folder, write_results
from app.jobs.job import Spec
from app.render.qgis import move_sidecars
from app.services import Services


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
