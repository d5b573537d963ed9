"""From what is asked to what is to be computed: names resolved, blocks planned, a task for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shapely.geometry import shape

from app.jobs.folder import Folder
from app.jobs.job import Process, Spec, outputs_of
from app.jobs.plan import Work, geometry_of
from app.jobs.task import Task, WorkerContext
from app.landcover.blocks import Selection
from app.services import Services


def spec_of(
    services: Services,
    process: Process,
    area: object,
    source: str | None,
    model: str | None,
    years: Sequence[str],
    outputs: Sequence[str] = (),
) -> Spec:
    """What is asked, every name resolved; InvalidRequest or UnknownName."""
    first, *_ = [services.select(source, year, model) for year in years]
    wanted = outputs_of(process, outputs)
    name = first.session.card.name
    return Spec(process, geometry_of(area), first.source.id, name, tuple(years), wanted)


def selections_of(workshop: WorkerContext, spec: Spec) -> list[Selection]:
    """What the job's source, years and model stand for now; UnknownName when they have gone."""
    return [workshop.services.select(spec.source, year, spec.model) for year in spec.years]


def work_of(
    workshop: WorkerContext, spec: Spec, stopped: Callable[[], bool] = lambda: False
) -> Work:
    """The job's blocks: the same after every restart. Not to be called on the workshop's loop.

    SourceUnavailable when a catalog on a network cannot be asked.
    """
    selections = selections_of(workshop, spec)
    bounds = shape(spec.area).bounds
    for selection in selections:
        workshop.call(workshop.services.landcover.load(selection, bounds), stopped)
    return Work.of(spec.area, selections)


def tasks_of(workshop: WorkerContext, spec: Spec, work: Work, folder: Folder) -> list[Task]:
    """A task for every block of a job."""
    # A password is not written out: whoever computes may have a Redis in its own environment.
    settings = workshop.services.settings.model_dump_json(exclude={"redis_url"})
    where, keep = str(folder.root.resolve()), spec.process != "seed"
    return [
        Task(
            number,
            where,
            keep,
            settings,
            spec.source,
            spec.years[index],
            spec.model,
            (block.grid.crs, block.grid.resolution),
            block.col,
            block.row,
        )
        for number, (index, block) in enumerate(work.blocks)
    ]
