"""What a job is: what was requested (`Spec`), the blocks it needs (`Work`), and how far it is
(`Job`, OGC API Processes 1.0)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import shapely
from shapely.geometry import mapping, shape

from app.area.documents import assessment_of
from app.area.geojson import areas_of
from app.area.handlers import ExportRequest
from app.area.plan import Plan
from app.area.polygon import AreaOfInterest
from app.area.raster import OutputGrid
from app.errors import InvalidRequest, LandcoverError
from app.grid.pixel_grid import Block
from app.landcover.blocks import Selection
from app.sampling.newest import newest_blocks
from app.services import Services

Status = Literal["accepted", "running", "successful", "failed", "dismissed"]
Process = Literal["classify-area", "change", "seed"]

PROCESSES: tuple[Process, ...] = ("classify-area", "change", "seed")
OUTPUTS: dict[Process, tuple[str, ...]] = {
    "classify-area": ("cog", "statistics", "csv", "item", "polygons"),
    "change": ("cog", "matrix", "csv", "item", "polygons"),
    "seed": ("report",),
}
ON_REQUEST = frozenset({"polygons"})
"""Outputs that are written only when they are named: of a large area they take long."""

ALLOWED: dict[Status, tuple[Status, ...]] = {
    "accepted": ("running", "failed", "dismissed"),
    "running": ("running", "accepted", "successful", "failed", "dismissed"),
    "successful": ("dismissed",),
    "failed": ("dismissed",),
    "dismissed": (),
}
"""status → those that may follow. running → accepted: its server ended; another resumes it."""


class IllegalTransition(LandcoverError):
    """A job cannot go from one status to the other."""


class Stopped(LandcoverError):
    """The job was dismissed, or its server is ending."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is requested. `area`: GeoJSON geometry, degrees; `years`: one, or for change two.

    `datetime` and `fill` as in the query of a tile; empty, as in journals from before they existed,
    for the years alone.
    """

    process: Process
    area: dict[str, Any]
    source: str
    model: str
    years: tuple[str, ...]
    outputs: tuple[str, ...]
    datetime: str = ""
    fill: str = ""

    def __post_init__(self) -> None:
        wanted = 2 if self.process == "change" else 1
        if len(self.years) != wanted:
            raise InvalidRequest("years", self.years, f"{wanted} year(s)")
        for name in self.outputs:
            if name not in OUTPUTS[self.process]:
                raise InvalidRequest("outputs", name, f"some of {', '.join(OUTPUTS[self.process])}")

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Return the inverse of `to_json`; ValueError or TypeError when it is something else."""
        document = json.loads(text)
        tuples = {name: tuple(document[name]) for name in ("years", "outputs")}
        return cls(**document | tuples)

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def km2(self) -> float:
        """Return its area on the ellipsoid, km²."""
        return AreaOfInterest(shape(self.area)).square_meters / 1e6

    def selections(self, services: Services) -> list[Selection]:
        """Return what its source, dates and model stand for now; UnknownName when they have
        gone."""
        return [
            services.select(self.source, year, self.model, self.datetime, self.fill)
            for year in self.years
        ]


def spec_of(
    services: Services,
    process: Process,
    area: object,
    source: str | None = None,
    model: str | None = None,
    years: Sequence[str] = ("latest",),
    outputs: Sequence[str] = (),
    datetime: str = "",
    fill: str = "",
) -> Spec:
    """Return what is requested, every name resolved and the features of a collection as one area.

    `outputs`: those of the process where none is named. InvalidRequest, UnknownName, TooLarge, or
    InvalidArea for an area that cannot be used: nothing is repaired.
    """
    first, *_ = [services.select(source, year, model, datetime, fill) for year in years]
    wanted = outputs or [name for name in OUTPUTS[process] if name not in ON_REQUEST]
    polygons = [each.geometry for each in areas_of(area).areas]
    ground = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
    geometry = json.loads(json.dumps(mapping(ground)))
    name = first.session.card.name
    return Spec(
        process, geometry, first.source.id, name, tuple(years), tuple(wanted), datetime, fill
    )


@dataclass(frozen=True, slots=True)
class Work:
    """An area, the imagery and model requested for it, and its blocks, (selection's index, block),
    in a fixed order."""

    plan: Plan
    selections: tuple[Selection, ...]
    blocks: tuple[tuple[int, Block], ...]

    @classmethod
    def of(cls, area: AreaOfInterest, selections: Sequence[Selection]) -> Work:
        """Return the work of an area: the same for the same area and source, in any process."""
        source = selections[0].source
        plan = Plan.of(area, source.grids(), source.bounds)
        blocks = {
            (index, block): None
            for part in plan.parts()
            for index, selection in enumerate(selections)
            for block in newest_blocks(selection, part.block)
        }
        return cls(plan, tuple(selections), tuple(blocks))

    def request(self) -> ExportRequest:
        """Return the files it is for: pixels whose center lies in the area, the work grid."""
        first = self.selections[0]
        output = OutputGrid.of(self.plan.area, first.source.grids())
        assessment = assessment_of(first.session.card, None)
        return ExportRequest(self.plan, output, self.selections, assessment)


@dataclass(frozen=True, slots=True)
class Order:
    """How a job is to be run and delivered, beside what it computes (`Spec`)."""

    client: str = ""
    """Whose job it is, by whose share it is run; empty: the server's own."""
    weight: float = 1.0
    waited: bool = False
    """Its client waits for it: it runs as a request does, not in the background."""
    raw: bool = False
    """Its results are bytes, not a document."""
    transmission: dict[str, str] = field(default_factory=dict)
    """output → `value` or `reference`, where it was requested."""

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Return the inverse of `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Job:
    """A job in the store; times in seconds since 1970, `seconds`: time spent on blocks, `nbytes`:
    of its results, an estimate until they are there."""

    id: str
    spec: Spec
    status: Status
    message: str
    created: float
    started: float | None
    finished: float | None
    done: int
    total: int
    seconds: float
    results: dict[str, Any] = field(default_factory=dict)
    order: Order = field(default_factory=Order)
    nbytes: int = 0

    @property
    def progress(self) -> int:
        """Return the percentage of blocks done; 100 only when the results are there."""
        if self.status == "successful":
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0

    @property
    def eta_s(self) -> float | None:
        """Return the seconds that the remaining blocks will take, at the rate so far."""
        if self.status != "running" or not self.done or not self.seconds:
            return None
        return self.seconds / self.done * (self.total - self.done)

    def status_info(self, base: str) -> dict[str, Any]:
        """Return statusInfo of OGC API Processes 1.0; `base`: URL of the service, ending in /."""
        href = f"{base}jobs/{self.id}"
        links = [{"rel": "self", "href": href, "type": "application/json"}]
        if self.status == "successful":
            rel = "http://www.opengis.net/def/rel/ogc/1.0/results"
            links.append({"rel": rel, "href": f"{href}/results", "type": "application/json"})
        info: dict[str, Any] = {
            "type": "process",
            "processID": self.spec.process,
            "jobID": self.id,
            "status": self.status,
            "message": self.message,
            "progress": self.progress,
            "created": _iso(self.created),
            "blocks": {"done": self.done, "total": self.total},
            "links": links,
        }
        for name in ("started", "finished"):
            moment = getattr(self, name)
            if moment is not None:
                info[name] = _iso(moment)
        if self.eta_s is not None:
            info["eta_s"] = round(self.eta_s, 1)
        return info


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list has; empty and None: all. Times in seconds since 1970, durations in
    seconds."""

    client: str | None = None
    processes: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    created_from: float | None = None
    created_to: float | None = None
    min_duration: float | None = None
    max_duration: float | None = None

    def where(self) -> tuple[str, list[object]]:
        """Return a condition of SQL and its values."""
        duration = "COALESCE(finished, ?) - started"
        now = time.time()
        parts: list[tuple[str, list[object]]] = [
            *_one_of("json_extract(spec, '$.process')", self.processes),
            *_one_of("status", self.statuses),
        ]
        for condition, value in (
            ("client = ?", self.client),
            ("created >= ?", self.created_from),
            ("created <= ?", self.created_to),
        ):
            parts += [(condition, [value])] if value is not None else []
        for sign, value in ((">=", self.min_duration), ("<=", self.max_duration)):
            parts += [(f"{duration} {sign} ?", [now, value])] if value is not None else []
        text = " AND ".join(condition for condition, _ in parts) or "1"
        return text, [value for _, values in parts for value in values]


def _one_of(column: str, values: tuple[str, ...]) -> list[tuple[str, list[object]]]:
    return [(f"{column} IN ({', '.join('?' * len(values))})", [*values])] if values else []
