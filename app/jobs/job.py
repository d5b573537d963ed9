"""What a job is: what was asked (`Spec`), and how far it is (`Job`, OGC API Processes 1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from app.errors import InvalidRequest, LandcoverError

Status = Literal["accepted", "running", "successful", "failed", "dismissed"]
Process = Literal["classify-area", "change", "seed"]

PROCESSES: tuple[Process, ...] = ("classify-area", "change", "seed")
OUTPUTS: dict[Process, tuple[str, ...]] = {
    "classify-area": ("cog", "statistics", "csv", "item", "polygons"),
    "change": ("cog", "matrix", "csv", "item", "polygons"),
    "seed": ("report",),
}
ON_REQUEST = frozenset({"polygons"})
"""Outputs that are made only when they are named: of a large area they take long."""

ALLOWED: dict[Status, tuple[Status, ...]] = {
    "accepted": ("running", "failed", "dismissed"),
    "running": ("running", "accepted", "successful", "failed", "dismissed"),
    "successful": ("dismissed",),
    "failed": ("dismissed",),
    "dismissed": (),
}
"""status → those that may follow. running → accepted: its server ended; another takes it up."""


def outputs_of(process: Process, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The outputs that are named, or those of a process where none is."""
    return tuple(named) or tuple(n for n in OUTPUTS[process] if n not in ON_REQUEST)


class IllegalTransition(LandcoverError):
    """A job cannot go from one status to the other."""


class Stopped(LandcoverError):
    """The work was dismissed, or its server is ending."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked. `area`: GeoJSON geometry, degrees; `years`: one, or for change two."""

    process: Process
    area: dict[str, Any]
    source: str
    model: str
    years: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        wanted = 2 if self.process == "change" else 1
        if len(self.years) != wanted:
            raise InvalidRequest("years", self.years, f"{wanted} year(s)")
        for name in self.outputs:
            if name not in OUTPUTS[self.process]:
                raise InvalidRequest("outputs", name, f"some of {', '.join(OUTPUTS[self.process])}")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it; times in seconds since 1970, `seconds`: time spent on blocks."""

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

    @property
    def progress(self) -> int:
        """Per cent of the blocks; 100 only when the results are there."""
        if self.status == "successful":
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0

    @property
    def eta_s(self) -> float | None:
        """Seconds the blocks that are left will take, at the rate so far."""
        if self.status != "running" or not self.done or not self.seconds:
            return None
        return self.seconds / self.done * (self.total - self.done)

    def status_info(self, base: str) -> dict[str, Any]:
        """statusInfo of OGC API Processes 1.0; `base`: address of the service, ending in /."""
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
