"""The store of jobs: one SQLite file, safe over several web processes of one machine.

It is the only record of what is done. A running job holds a lease that its process renews; when the
process is killed the lease expires and another process, or the next one, resumes the job.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.errors import Busy, UnknownName
from app.jobs.job import ALLOWED, IllegalTransition, Job, Spec, Status

LEASE_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, spec TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
  created REAL NOT NULL, started REAL, finished REAL, total INTEGER NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0, results TEXT NOT NULL DEFAULT '{}', owner TEXT, lease REAL
);
CREATE TABLE IF NOT EXISTS blocks (
  job TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""
_COLUMNS = (
    "id, spec, status, message, created, started, finished, "
    "(SELECT COUNT(*) FROM blocks WHERE job = id), total, seconds, results"
)
_PLAIN = ("status", "message", "created", "started", "finished", "done", "total", "seconds")


class Store:
    """Jobs and the blocks of each that are done."""

    def __init__(self, path: Path) -> None:
        """Open the store, created when it is not there; OSError when its folder cannot be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._connected() as db:
            db.executescript(_SCHEMA)

    def add(self, spec: Spec, total: int, max_waiting: int) -> Job:
        """Add a job, accepted, and return it; Busy when `max_waiting` wait already."""
        job_id = str(uuid.uuid4())
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            query = "SELECT COUNT(*) FROM jobs WHERE status = 'accepted'"
            (waiting,) = db.execute(query).fetchone()
            if waiting >= max_waiting:
                raise Busy(waiting, max_waiting, 60)
            db.execute(
                "INSERT INTO jobs (id, spec, status, created, total) VALUES (?, ?, ?, ?, ?)",
                (job_id, spec.to_json(), "accepted", time.time(), total),
            )
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job; UnknownName when there is none."""
        with self._connected() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
        if row is None:
            raise UnknownName("job", job_id, ())
        return _job(row)

    def newest(self, limit: int = 100) -> list[Job]:
        """Return the newest `limit` jobs, newest first."""
        with self._connected() as db:
            query = f"SELECT {_COLUMNS} FROM jobs ORDER BY created DESC, id LIMIT ?"  # noqa: S608
            return [_job(row) for row in db.execute(query, (limit,))]

    def claim(self, owner: str) -> Job | None:
        """Lease the oldest job that waits or whose owner is gone to `owner`, and return it,
        running; None when there is none."""
        now = time.time()
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute(
                "SELECT id FROM jobs WHERE status = 'accepted' "
                "OR (status = 'running' AND lease < ?) ORDER BY created LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET status = 'running', started = COALESCE(started, ?), "
                "owner = ?, lease = ? WHERE id = ?",
                (now, owner, now + LEASE_S, row[0]),
            )
        return self.get(row[0])

    def renew(self, job_id: str, owner: str) -> bool:
        """Prolong the lease; return False when the job is no longer this owner's."""
        with self._connected() as db:
            changed = db.execute(
                "UPDATE jobs SET lease = ? WHERE id = ? AND owner = ? AND status = 'running'",
                (time.time() + LEASE_S, job_id, owner),
            ).rowcount
        return bool(changed)

    def transition(
        self, job_id: str, status: Status, message: str = "", results: dict[str, Any] | None = None
    ) -> Job:
        """Set the status of a job and return it; IllegalTransition when `ALLOWED` forbids it."""
        before = [old for old, new in ALLOWED.items() if status in new]
        kept = json.dumps(results) if results else None
        finished = None if status in ("accepted", "running") else time.time()
        with self._connected() as db:
            marks = ", ".join("?" * len(before))
            changed = db.execute(
                "UPDATE jobs SET status = ?, message = ?, finished = ?, owner = NULL, "  # noqa: S608
                f"results = COALESCE(?, results) WHERE id = ? AND status IN ({marks})",
                (status, message, finished, kept, job_id, *before),
            ).rowcount
        job = self.get(job_id)
        if not changed:
            raise IllegalTransition(f"job {job_id} is {job.status} and cannot become {status}")
        return job

    def done(self, job_id: str, number: int, seconds: float) -> None:
        """Record that block `number` is done; `seconds` passed since the one before."""
        with self._connected() as db:
            db.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?)", (job_id, number))
            db.execute("UPDATE jobs SET seconds = seconds + ? WHERE id = ?", (seconds, job_id))

    def numbers_done(self, job_id: str) -> set[int]:
        """Return the numbers of the blocks that are done."""
        with self._connected() as db:
            rows = db.execute("SELECT number FROM blocks WHERE job = ?", (job_id,))
            return {number for (number,) in rows}

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        with self._connected() as db:
            rows = dict(db.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status"))
        return {status: rows.get(status, 0) for status in ALLOWED}

    def collect(self) -> Iterator[Metric]:
        """Yield the number of jobs by status, for `/metrics`."""
        gauge = GaugeMetricFamily("landcover_jobs", "Jobs by status.", labels=["status"])
        for status, number in self.counts().items():
            gauge.add_metric([status], number)
        yield gauge

    def remove(self, job_id: str) -> None:
        """Delete a job."""
        with self._connected() as db:
            db.execute("DELETE FROM blocks WHERE job = ?", (job_id,))
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def older_than(self, moment: float) -> list[str]:
        """Return the ids of the jobs that ended before `moment`, seconds since 1970."""
        with self._connected() as db:
            rows = db.execute("SELECT id FROM jobs WHERE finished < ?", (moment,))
            return [job_id for (job_id,) in rows]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if db.in_transaction:
                db.execute("COMMIT")
        finally:
            db.close()


def _job(row: tuple[Any, ...]) -> Job:
    return Job(
        id=row[0],
        spec=Spec.from_json(row[1]),
        **dict(zip(_PLAIN, row[2:10], strict=True)),
        results=json.loads(row[10]),
    )
