"""Faults of the service's own process: killed, stopped, replaced, started with a bad model."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.oracle import area_in
from tests.chaos.server import Server
from tests.chaos.stage import Fault, Group, Stage, open_bench
from tests.chaos.storms import Running
from tests.chaos.trial import COMPUTED_P99_S, HONEST, NO_ANSWER, Bench, Trial

EXIT_S = 12.0
START_S = 10.0
"""A process that was killed is there again within this, its start included."""
JOB_METERS = 2400.0


class ProcessBench(Bench):
    """A server whose process comes and goes."""

    stage: Stage
    model: Path


@contextmanager
def _open(stage: Stage) -> Iterator[Bench]:
    """A cache on disk, so that what was right stays right over a restart."""
    folder = stage.folder / "processes"
    folder.mkdir()
    tiles = stage.local
    options = ("--imagery", stage.world.directory, "--cache-dir", folder / "cache")
    settings: dict[str, Any] = {"model": stage.model, "jobs_dir": folder / "jobs"}
    with open_bench(stage, folder, {"local": tiles}, tiles.take(4), *options, **settings) as opened:
        bench = ProcessBench(opened.server, opened.prober, opened.tiles, opened.warm)
        bench.stage = stage
        yield bench


@contextmanager
def _open_two(stage: Stage) -> Iterator[Bench]:
    folder = stage.folder / "two"
    folder.mkdir()
    tiles = stage.local
    model = folder / "served.onnx"
    for path in stage.model.parent.glob(f"{stage.model.stem}.*"):
        shutil.copy(path, folder / path.name.replace(stage.model.stem, "served"))
    options = ("--imagery", stage.world.directory, "--cache-dir", folder / "cache")
    with open_bench(
        stage, folder, {"local": tiles}, tiles.take(4), *options, model=model, processes=2
    ) as opened:
        bench = ProcessBench(opened.server, opened.prober, opened.tiles, opened.warm)
        bench.stage, bench.model = stage, model
        yield bench


def _killed(times: int) -> Fault:
    """SIGKILL while tiles are computed; whoever watches starts it again at once."""

    def run(bench: Bench, trial: Trial) -> None:
        draw = random.Random(9)
        for _ in range(times):
            with trial.fault():
                trial.cold(bench.tiles["local"].take(2))
                time.sleep(0.2 + draw.random() * 0.4)
                bench.server.kill()
                bench.server.start(ready=False)
            trial.recover(bench.tiles["local"].take(1))
        trial.outcome.times = times

    return Fault("", run, HONEST | NO_ANSWER, recovery_s=START_S, warm_s=COMPUTED_P99_S)


def _stopped(times: int) -> Fault:
    """F14: SIGTERM with 32 tiles and a job in flight, more than can be done before it ends."""

    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, ProcessBench)
        stage = bench.stage
        folder = bench.server.folder / f"stopped-{times}"
        draw = random.Random(14)
        server = Server(
            folder, "--imagery", stage.world.directory,
            model=stage.slow_model, jobs_dir=folder / "jobs",
        )  # fmt: skip
        tiles = [t.document() for t in stage.local.take(32)]
        lost, longest, codes, job = 0, 0.0, [], None
        with trial.fault():
            for _ in range(times):
                server.start()
                if job is None:
                    job = _begin_job(server, stage)
                storm = Running("same", server.port, clients=32, tiles=tiles)
                # While clients are being connected, or well within the work.
                storm.until_connected()
                time.sleep(draw.random() * 0.5)
                term = time.monotonic()
                server.signal(signal.SIGTERM)
                answers = storm.result()["answers"]
                server.process.wait(60)
                longest = max(longest, time.monotonic() - term)
                for answer in answers:
                    before = answer["connected"] is not None and answer["connected"] < term
                    if before:
                        lost += answer["code"] in ("reset", "refused", "timeout")
                        trial.count(answer["code"], answer["wrong"])
                        codes.append(answer["code"])
        trial.outcome.times = times
        trial.note(f"{lost} of {len(codes)} connections lost; exit after {longest:.1f} s at most")
        trial.expect(lost == 0, f"{lost} of {len(codes)} connections lost")
        trial.expect(longest <= EXIT_S, f"exit took {longest:.1f} s")
        trial.expect(job, "the job was not accepted")
        server.start()
        try:
            _until_successful(trial, server, job, "the job goes on")
        finally:
            server.stop()

    return Fault("", run)


def _begin_job(server: Server, stage: Stage) -> str | None:
    """Return the path of a job that was accepted, or None."""
    scene = stage.world.scenes[0]
    inputs = {"area": area_in(scene, JOB_METERS), "year": str(scene.year)}
    status, _, headers = server.ask(
        "POST", "/processes/classify-area/execution", {"inputs": inputs}, prefer="respond-async"
    )
    where = headers.get("location", "")
    return where[where.index("/jobs/") :] if status == 201 else None


def _job(server: Server, path: str | None) -> dict[str, Any]:
    status, body = server.get(path or "/jobs/none")
    document: dict[str, Any] = json.loads(body) if status == 200 else {}
    return document


def _until_successful(trial: Trial, server: Server, job: str | None, what: str) -> None:
    trial.until(lambda: _job(server, job).get("status") == "successful", 120, what)


def _raster(server: Server, path: str) -> bytes:
    _, body = server.get(f"{path}/results")
    href = json.loads(body)["cog"]["href"]
    return server.get(href[href.index("/jobs/") :])[1]


def _killed_mid_job(times: int) -> Fault:
    """F13: kill -9 at random moments of one job; its raster is that of an undisturbed one."""

    def run(bench: Bench, trial: Trial) -> None:
        assert isinstance(bench, ProcessBench)
        stage, draw = bench.stage, random.Random(13)
        rasters, kills = [], 0
        for name, most in (("disturbed", times), ("quiet", 0)):
            folder = bench.server.folder / f"job-{name}"
            server = Server(
                folder, "--imagery", stage.world.directory,
                model=stage.slow_model, jobs_dir=folder / "jobs",
            )  # fmt: skip
            server.start()
            job = _begin_job(server, stage)
            trial.expect(job, "the job was not accepted")
            if job is None:
                server.stop()
                return
            with trial.fault():
                while kills < most and _job(server, job).get("status") != "successful":
                    time.sleep(0.1 + draw.random() * 0.6)
                    server.kill()
                    kills += 1
                    server.start()
            _until_successful(trial, server, job, f"the {name} job")
            rasters.append(_raster(server, job))
            server.stop()
        trial.outcome.times = kills
        trial.note(
            f"killed {kills} times, {len(rasters[0])} bytes equal: {rasters[0] == rasters[1]}"
        )
        trial.expect(kills == times, f"the job was done after {kills} kills")
        trial.expect(rasters[0] == rasters[1], "the raster is not that of an undisturbed job")

    return Fault("", run)


def _bad_models(bench: Bench, trial: Trial) -> None:
    """F18: the server refuses to start and says why."""
    assert isinstance(bench, ProcessBench)
    folder = bench.server.folder / "bad"
    content = bench.stage.model.read_bytes()
    bad = {
        "missing.onnx": None,
        "garbage.onnx": b"not a model",
        "cut.onnx": content[: len(content) // 2],
        "other.onnx": content[:-1] + bytes([content[-1] ^ 1]),
    }
    with trial.fault():
        for name, data in bad.items():
            model = folder / name
            folder.mkdir(exist_ok=True)
            if data is not None:
                model.write_bytes(data)
                card = bench.stage.model.with_name(f"{bench.stage.model.stem}.card.json")
                shutil.copy(card, folder / name.replace(".onnx", ".card.json"))
            server = Server(folder, "--imagery", bench.stage.world.directory, model=model)
            server.start(ready=False)
            try:
                code = server.process.wait(60)
            except subprocess.TimeoutExpired:
                code = 0
            server.stop()
            text = server.log.read_text()
            trial.expect(code != 0, f"{name}: the server started")
            trial.expect("error" in text and "Traceback" not in text, f"{name}: no clear reason")
    trial.outcome.times = len(bad)


def _children(server: Server) -> set[int]:
    found = psutil.Process(server.process.pid).children()
    return {c.pid for c in found if c.status() != psutil.STATUS_ZOMBIE and "spawn" in _line(c)}


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _replaced(times: int) -> Fault:
    """SIGHUP: every process is replaced, no request fails."""

    def run(bench: Bench, trial: Trial) -> None:
        with trial.fault():
            for _ in range(times):
                before = _children(bench.server)
                trial.cold(bench.tiles["local"].take(2))
                bench.server.signal(signal.SIGHUP)
                trial.until(
                    lambda: (now := _children(bench.server)) and not now & before,  # noqa: B023
                    60, "processes replaced",
                )  # fmt: skip
                time.sleep(1)
        trial.outcome.times = times
        trial.recover(bench.tiles["local"].take(1))

    return Fault("", run)


def _replaced_by_bad_model(bench: Bench, trial: Trial) -> None:
    """SIGHUP with a broken model file: the old model goes on."""
    assert isinstance(bench, ProcessBench)
    good = bench.model.read_bytes()
    with trial.fault():
        bench.model.write_bytes(good[: len(good) // 2])
        bench.server.signal(signal.SIGHUP)
        trial.cold(bench.tiles["local"].take(2))
        time.sleep(8)
        bench.model.write_bytes(good)
    trial.outcome.times = 1
    trial.recover(bench.tiles["local"].take(1))


def _one_of_two_killed(bench: Bench, trial: Trial) -> None:
    with trial.fault():
        trial.cold(bench.tiles["local"].take(2))
        time.sleep(0.3)
        psutil.Process(min(_children(bench.server))).kill()
    trial.outcome.times = 1
    trial.recover(bench.tiles["local"].take(1), also=lambda: len(_children(bench.server)) == 2)


GROUP = Group(
    "processes",
    _open,
    {
        "SIGKILL, started again": _killed(5),
        "SIGKILL, started again (once)": replace(_killed(1), quick=True),
        "SIGTERM, 32 tiles and a job in flight": _stopped(10),
        "SIGTERM, 32 tiles and a job in flight (once)": replace(_stopped(1), quick=True),
        "SIGKILL in the middle of a job": _killed_mid_job(10),
        "start with a bad model file": Fault("", _bad_models),
    },
)
TWO = Group(
    "two processes",
    _open_two,
    {
        "SIGHUP under load": _replaced(3),
        "SIGHUP with a broken model file": Fault("", _replaced_by_bad_model),
        "one of two processes killed": Fault("", _one_of_two_killed, HONEST | NO_ANSWER),
    },
)
