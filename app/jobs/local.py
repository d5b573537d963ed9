"""Jobs without a server: the same plan, tasks and products, driven by the command line."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.errors import InvalidRequest
from app.jobs import products
from app.jobs.drive import drive, threads_of
from app.jobs.folder import Folder
from app.jobs.job import Spec
from app.jobs.resolve import tasks_of, work_of
from app.jobs.task import WorkerContext
from app.services import Services

Progress = Callable[[int, int], None]


def shard_of(text: str) -> tuple[int, int]:
    """`I/N` as (I, N), 0 ≤ I < N; InvalidRequest otherwise."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise InvalidRequest("shard", text, "I/N with 0 ≤ I < N, such as 0/4")
    return int(match[1]), int(match[2])


class Local:
    """A workshop of this process for one command."""

    def __init__(
        self, services: Services, executor: Executor | None = None, in_flight: int | None = None
    ) -> None:
        """`executor`: threads of this process by default; `in_flight`: tasks it is given at once,
        as many as keep the inference threads busy by default."""
        self._in_flight = in_flight or services.landcover.batcher.in_flight
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.workshop = WorkerContext(services, self._loop)
        self._executor = executor or threads_of(self.workshop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.workshop.closing = True
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.workshop.services.close()

    def compute(
        self, spec: Spec, folder: Folder, shard: tuple[int, int], progress: Progress
    ) -> None:
        """Every N-th block, from the I-th; those the folder has are not computed again."""
        index, count = shard
        tasks = tasks_of(self.workshop, spec, work_of(self.workshop, spec), folder)[index::count]
        done = 0

        def tick(_: object) -> None:
            nonlocal done
            done += 1
            progress(done, len(tasks))

        drive(self._executor, tasks, self._in_flight, tick)

    def missing(self, spec: Spec, folder: Folder) -> list[int]:
        """Numbers of the blocks with imagery that the folder lacks."""
        landcover = self.workshop.services.landcover
        work = work_of(self.workshop, spec)
        blocks = enumerate(work.blocks)
        keys = ((number, landcover.key(work.selections[i], block)) for number, (i, block) in blocks)
        return [number for number, key in keys if key and folder.get(key) is None]

    def deliver(self, spec: Spec, folder: Folder, output: Path | None) -> dict[str, Any]:
        """Writes the raster to `output`, what belongs to it beside it, and gives the figures."""
        parent = output.parent if output else folder.root
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".landcover-") as scratch:
            results = self.workshop.call(
                products.write(
                    self.workshop.landcover(folder),
                    work_of(self.workshop, spec),
                    spec.outputs,
                    Path(scratch),
                )
            )
            figures = {name: each["value"] for name, each in results.items() if "value" in each}
            for name, each in results.items():
                if output and name == "cog":
                    raster = Path(scratch) / each["file"]
                    raster.replace(output)
                    Path(f"{raster}.aux.xml").replace(f"{output}.aux.xml")
        return figures


def write_spec(spec: Spec, root: Path) -> None:
    """Notes in a shared folder what its blocks are of; InvalidRequest when it is of another."""
    path = root / "spec.json"
    text = json.dumps(asdict(spec), sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise InvalidRequest("folder", root, "one of the same area, source, year and model")
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read_spec(root: Path) -> Spec:
    """What a folder's blocks are of; InvalidRequest when it is no such folder."""
    try:
        found = json.loads((root / "spec.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest("folder", root, "one that `classify --shard` wrote") from error
    found["years"], found["outputs"] = tuple(found["years"]), tuple(found["outputs"])
    return Spec(**found)
