"""The store of jobs: one SQLite file, safe over several web processes of one machine.

It is the only record of what is done. A running job holds a lease that its process renews; when the
process is killed the lease expires and another process, or the next one, resumes the job.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.access import Quota
from app.errors import (
    Busy,
    QuotaExceeded,
    StorageFull,
    StorageUnavailable,
    UnknownName,
    storage_error,
)
from app.jobs.job import ALLOWED, IllegalTransition, Job, JobFilter, Order, Spec, Status
from app.monitoring import metrics

LEASE_S = 5.0

RETRY_S = 60
"""Seconds after which a client whose share is used up, or a full queue, may try again."""

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
# Of later versions, added to a store of an earlier one. `owner` is a process, not the client.
_ADDED = {
    "run_order": "TEXT NOT NULL DEFAULT '{}'",
    "client": "TEXT NOT NULL DEFAULT ''",
    "nbytes": "INTEGER NOT NULL DEFAULT 0",
}
_COLUMNS = (
    "id, spec, status, message, created, started, finished, "
    "(SELECT COUNT(*) FROM blocks WHERE job = id), total, seconds, results, run_order, nbytes"
)
_PLAIN = ("status", "message", "created", "started", "finished", "done", "total", "seconds")

# Those whose process is gone first; then, as in a queue for every client, whose client has fewest
# running and waits longest for its turn.
_NEXT = """
SELECT id FROM jobs AS job
WHERE (status = 'accepted' OR (status = 'running' AND lease < ?)) AND total <= ?
ORDER BY status = 'accepted',
  (SELECT COUNT(*) FROM jobs WHERE client = job.client AND status = 'running'),
  (SELECT COALESCE(MAX(started), 0) FROM jobs WHERE client = job.client),
  created
LIMIT 1
"""
# The oldest results of the client that keeps most.
_LARGEST = """
SELECT id FROM jobs WHERE status = 'successful' AND nbytes > 0 AND client = (
  SELECT client FROM jobs WHERE status = 'successful'
  GROUP BY client ORDER BY SUM(nbytes) DESC LIMIT 1
) ORDER BY finished LIMIT 1
"""
_ANY_SIZE = 1 << 60


class Store:
    """Jobs and the blocks of each that are done. StorageUnavailable or StorageFull when its folder
    cannot be used, until it can."""

    def __init__(self, path: Path) -> None:
        """Name the store, which is created when it is first used."""
        self.trouble: str | None = None
        """Why nothing can be written, or None."""
        self._path = path
        self._ready = False

    def add(
        self,
        spec: Spec,
        total: int,
        max_waiting: int,
        order: Order | None = None,
        quota: Quota | None = None,
        nbytes: int = 0,
    ) -> Job:
        """Add a job, accepted, and return it; Busy when `max_waiting` wait already, QuotaExceeded
        when it would be more than its client may have. `nbytes`: of its results, estimated.

        Its id cannot be guessed: who knows it may read and delete the job.
        """
        job_id, order = secrets.token_hex(16), order or Order()
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            query = "SELECT COUNT(*) FROM jobs WHERE status = 'accepted'"
            (waiting,) = db.execute(query).fetchone()
            if quota:
                _check_quota(db, order.client, quota, nbytes)
            if waiting >= max_waiting:
                raise Busy(waiting, max_waiting, RETRY_S, "jobs wait")
            db.execute(
                "INSERT INTO jobs (id, spec, status, created, total, run_order, client, nbytes) "
                "VALUES (?, ?, 'accepted', ?, ?, ?, ?, ?)",
                (job_id, spec.to_json(), time.time(), total, order.to_json(), order.client, nbytes),
            )
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job; UnknownName when there is none."""
        with self._connected(read=True) as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
        if row is None:
            raise UnknownName("job", job_id, ())
        return _job(row)

    def newest(
        self, limit: int = 100, offset: int = 0, which: JobFilter | None = None
    ) -> tuple[list[Job], int]:
        """Return `limit` jobs, newest first, from the `offset`-th on, and how many there are."""
        where, values = (which or JobFilter()).where()
        query = (
            f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY created DESC, id LIMIT ? OFFSET ?"  # noqa: S608
        )
        with self._connected(read=True) as db:
            rows = db.execute(query, (*values, limit, offset)).fetchall()
            (total,) = db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", values).fetchone()  # noqa: S608
        return [_job(row) for row in rows], total

    def claim(self, owner: str, most_blocks: int | None = None) -> Job | None:
        """Lease a job that waits, or whose process is gone, to `owner`, and return it, running;
        None when there is none of at most so many blocks. The clients take turns."""
        now = time.time()
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            rows = db.execute(_NEXT, (now, _ANY_SIZE if most_blocks is None else most_blocks))
            row = rows.fetchone()
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
        self,
        job_id: str,
        status: Status,
        message: str = "",
        results: dict[str, Any] | None = None,
        nbytes: int = 0,
    ) -> Job:
        """Set the status of a job and return it; IllegalTransition when `ALLOWED` forbids it.
        `nbytes`: what it keeps once it has ended."""
        before = [old for old, new in ALLOWED.items() if status in new]
        kept = json.dumps(results) if results else None
        ended = status not in ("accepted", "running")
        with self._connected() as db:
            marks = ", ".join("?" * len(before))
            changed = db.execute(
                "UPDATE jobs SET status = ?, message = ?, finished = ?, owner = NULL, "  # noqa: S608
                "results = COALESCE(?, results), nbytes = CASE WHEN ? THEN ? ELSE nbytes END "
                f"WHERE id = ? AND status IN ({marks})",
                (
                    status,
                    message,
                    time.time() if ended else None,
                    kept,
                    ended,
                    nbytes,
                    job_id,
                    *before,
                ),
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
        with self._connected(read=True) as db:
            rows = db.execute("SELECT number FROM blocks WHERE job = ?", (job_id,))
            return {number for (number,) in rows}

    def counts(self) -> tuple[dict[str, int], int]:
        """Return how many jobs there are of each status, and the bytes of their results."""
        with self._connected(read=True) as db:
            query = "SELECT status, COUNT(*), SUM(nbytes) FROM jobs GROUP BY status"
            rows = {status: (count, size) for status, count, size in db.execute(query)}
        numbers: dict[str, int] = {status: rows.get(status, (0, 0))[0] for status in ALLOWED}
        return numbers, rows.get("successful", (0, 0))[1]

    def collect(self) -> Iterator[Metric]:
        """Yield the number of jobs by status and what they keep, where they can be read, for
        `/metrics`; and whether there is trouble."""
        trouble = GaugeMetricFamily(
            "landcover_jobs_unavailable", "1 while the folder of jobs cannot be used."
        )
        try:
            numbers, nbytes = self.counts()
        except StorageUnavailable:
            trouble.add_metric([], 1)
            yield trouble
            return
        trouble.add_metric([], float(self.trouble is not None))
        gauge = GaugeMetricFamily("landcover_jobs", "Jobs by status.", labels=["status"])
        for status, number in numbers.items():
            gauge.add_metric([status], number)
        size = GaugeMetricFamily("landcover_jobs_bytes", "Results of jobs that are kept.")
        size.add_metric([], nbytes)
        yield from (trouble, gauge, size)

    def remove(self, job_id: str) -> None:
        """Delete a job."""
        with self._connected() as db:
            db.execute("DELETE FROM blocks WHERE job = ?", (job_id,))
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def older_than(self, moment: float) -> list[str]:
        """Return the ids of the jobs that ended before `moment`, seconds since 1970."""
        with self._connected(read=True) as db:
            rows = db.execute("SELECT id FROM jobs WHERE finished < ?", (moment,))
            return [job_id for (job_id,) in rows]

    def largest_above(self, limit_bytes: int) -> str | None:
        """Return the job whose results are to go first while all of them exceed the limit: the
        oldest of the client that keeps most."""
        with self._connected(read=True) as db:
            query = "SELECT COALESCE(SUM(nbytes), 0) FROM jobs WHERE status = 'successful'"
            (total,) = db.execute(query).fetchone()
            row = db.execute(_LARGEST).fetchone() if total > limit_bytes else None
        return row[0] if row else None

    @contextmanager
    def _connected(self, *, read: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            db = self._opened(read)
            try:
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            finally:
                # Closing takes back what was not committed.
                db.close()
        except (sqlite3.Error, OSError) as error:
            trouble = _storage_error(self._path, error)
            if not read:
                self.trouble = str(trouble)
            raise trouble from error
        if not read:
            self.trouble = None

    def _opened(self, read: bool) -> sqlite3.Connection:
        """A connection. A disk that has become read-only is still read."""
        if not (self._ready and self._path.exists()):
            try:
                self._create()
            except (sqlite3.Error, OSError):
                if not (read and self._path.exists()):
                    raise
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("SELECT 1 FROM jobs LIMIT 1")
        except sqlite3.OperationalError as error:
            db.close()
            # A journal that was not written back has news that such a reader would not see.
            journal = Path(f"{self._path}-wal")
            settled = not journal.exists() or not journal.stat().st_size
            if not (read and settled and _primary(error) in _READ_ONLY):
                raise
            path = self._path.resolve().as_uri()
            db = sqlite3.connect(f"{path}?mode=ro&immutable=1", uri=True, isolation_level=None)
        return db

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            _journal(db)
            db.executescript(_SCHEMA)
            db.execute("BEGIN IMMEDIATE")
            columns = {name for _, name, *_ in db.execute("PRAGMA table_info(jobs)")}
            for name, kind in _ADDED.items():
                if name not in columns:
                    db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")
            db.execute("COMMIT")
        finally:
            db.close()
        self._ready = True


def _journal(db: sqlite3.Connection) -> None:
    """Have the store written ahead. SQLite's own timeout does not wait for others that begin."""
    for wait in (*[0.05] * 100, None):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if wait is None or _primary(error) != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(wait)
        else:
            return


def _check_quota(db: sqlite3.Connection, client: str, quota: Quota, nbytes: int) -> None:
    """QuotaExceeded when a client may not have another job of so many bytes."""
    active, kept = db.execute(
        "SELECT COALESCE(SUM(status IN ('accepted', 'running')), 0), COALESCE(SUM(nbytes), 0) "
        "FROM jobs WHERE client = ? AND status IN ('accepted', 'running', 'successful')",
        (client,),
    ).fetchone()
    if active >= quota.jobs:
        metrics.REFUSED.labels("jobs").inc()
        raise QuotaExceeded("this client's jobs that wait or run", active, quota.jobs, RETRY_S)
    if kept + nbytes > quota.job_bytes:
        metrics.REFUSED.labels("bytes").inc()
        what = "bytes of this client's results with this job's (delete some)"
        raise QuotaExceeded(what, kept + nbytes, quota.job_bytes, RETRY_S)


_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)
_LITTLE = 1 << 17
"""Bytes without which SQLite cannot work, whatever it then calls it."""


def _primary(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _storage_error(path: Path, error: sqlite3.Error | OSError) -> StorageUnavailable:
    if isinstance(error, OSError):
        return storage_error(path.parent, error)
    full = _primary(error) == sqlite3.SQLITE_FULL
    with suppress(OSError):
        full |= shutil.disk_usage(path.parent).free < _LITTLE
    kind = StorageFull if full else StorageUnavailable
    return kind(f"the folder of jobs cannot be used: {'it is full' if full else error}")


def _job(row: tuple[Any, ...]) -> Job:
    return Job(
        id=row[0],
        spec=Spec.from_json(row[1]),
        **dict(zip(_PLAIN, row[2:10], strict=True)),
        results=json.loads(row[10]),
        order=Order.from_json(row[11]),
        nbytes=row[12],
    )
