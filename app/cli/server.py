"""uvicorn, in this process or in several behind one socket, stopped without losing a request."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from app.cli import terminal
from app.errors import ConfigurationError
from app.main import create_app
from app.monitoring import logs
from app.services import Services, engine_of
from app.settings import Settings
from model.cores import available_cores

DRAIN_S = 9
"""Seconds that requests in progress may take after SIGTERM."""

LINGER_S = 1.0
"""Seconds an idle connection is kept after SIGTERM: a request may be on its way already."""


class Draining(HttpToolsProtocol):
    """Closes kept connections with an answer, not between two, when the server stops."""

    _draining = False

    def shutdown(self) -> None:
        """Stop: requests in progress are answered, and those that come within LINGER_S."""
        idle = self.cycle is None or self.cycle.response_complete
        if self._draining or not idle:
            super().shutdown()
            return
        self._draining = True
        self.loop.call_later(LINGER_S, super().shutdown)

    def on_headers_complete(self) -> None:
        """Make a request that came while draining the connection's last."""
        super().on_headers_complete()
        if self._draining and self.cycle is not None:
            self.cycle.keep_alive = False


class Server(uvicorn.Server):
    """Prints where the map is as soon as it answers."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Do as uvicorn does."""
        await super().startup(sockets)
        if self.started:
            _announce(self.config, self.servers[0].sockets[0].getsockname()[1])


class Supervisor(Multiprocess):
    """Several processes; SIGHUP replaces one after the other, each once its replacement answers.
    The gauges of a process that is gone (memory, queue) no longer count in `/metrics`."""

    def keep_subprocess_alive(self) -> None:
        """Do as uvicorn does."""
        self._forgetting(super().keep_subprocess_alive)

    def restart_all(self) -> None:
        """Do as uvicorn does."""
        self._forgetting(super().restart_all)

    def _forgetting(self, change: Callable[[], None]) -> None:
        before = {process.pid for process in self.processes}
        change()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def run(settings: Settings, services: Services | None) -> None:
    """Serve until told to stop; `services` are used when there is one process only."""
    logs.configure(settings.log_format, settings.log_level)
    if settings.processes > 1:
        _run_several(settings)
        return
    server = Server(_config(settings, create_app(settings, services)))
    server.run()
    if not server.started:
        sys.exit(3)


def worker(settings: Settings) -> FastAPI:
    """Return the application of one process of several."""
    logs.configure(settings.log_format, settings.log_level)
    return create_app(settings)


def _run_several(settings: Settings) -> None:
    # Before the workers begin: their counters live in files of this directory.
    folder = tempfile.mkdtemp(prefix="landcover-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    # One store for all: any of them may be asked for a job of another.
    jobs = tempfile.mkdtemp(prefix="landcover-jobs-") if settings.jobs_dir is None else None
    try:
        share = _with_engine(settings.share(available_cores()))
        if jobs:
            share = share.model_copy(update={"jobs_dir": Path(jobs)})
        config = _config(settings, partial(worker, share), factory=True)
        sockets = [config.bind_socket()]
        _announce(config, sockets[0].getsockname()[1])
        Supervisor(config, sockets=sockets).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if jobs:
            shutil.rmtree(jobs, ignore_errors=True)


def _with_engine(settings: Settings) -> Settings:
    """Settings with the engine for all processes, measured by one that ends before they begin."""
    if settings.engine != "auto":
        return settings
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        try:
            engine = alone.submit(engine_of, settings).result()
        except (ConfigurationError, BrokenProcessPool):
            return settings  # each process reports what is wrong with them
    return settings.model_copy(update={"engine": engine})


def _config(settings: Settings, app: Any, *, factory: bool = False) -> uvicorn.Config:  # noqa: ANN401
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        http=Draining,
        workers=settings.processes,
        log_config=None,
        access_log=False,  # ours knows the request's id
        timeout_graceful_shutdown=DRAIN_S,
        timeout_worker_healthcheck=60,
        server_header=False,
        proxy_headers=False,  # app.routes.forwarded reads them, the host too
    )


def _announce(config: uvicorn.Config, port: int) -> None:
    host = config.host if config.host != "0.0.0.0" else "localhost"  # noqa: S104
    root = config.root_path.rstrip("/")
    terminal.out.print(
        f"\nThe map is at [bold]http://{host}:{port}{root}/map[/]   (Ctrl+C ends it)"
    )
