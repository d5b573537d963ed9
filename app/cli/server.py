"""uvicorn, in this process or in several behind one socket, stopped without losing a request."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from rich.markup import escape
from uvicorn.supervisors import Multiprocess, multiprocess

from app.cli import terminal
from app.cli.protocol import Connections, Guarded, admit_no_more
from app.errors import ConfigurationError
from app.main import create_app
from app.monitoring import logs
from app.services import Services, engine_of
from app.settings import Settings
from model.cores import available_cores

DRAIN_S = 9
"""Seconds that requests in progress may take after SIGTERM."""

LINGER_S = 1.0
"""Seconds after SIGTERM in which new connections are accepted and idle ones kept: a request may be
on its way already. Each is answered with `Connection: close`."""


QUEUE_S = 0.1
"""Seconds for the connections that the kernel had completed before it took no more."""


class Server(uvicorn.Server):
    """Prints where the map is as soon as it answers, and stops without losing a connection."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._running: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Do as uvicorn does, and keep pauses of the event loop short from the first request on."""
        begin = self.lifespan.startup

        async def begin_and_settle() -> None:
            await begin()
            if isinstance(self.config.loaded_app, FastAPI):
                prepare_routes(self.config.loaded_app)
            _shorten_pauses()

        self.lifespan.startup = begin_and_settle
        await super().startup(sockets)
        if not self.started:
            return
        if sockets is None:
            _announce(self.config, self.servers[0].sockets[0].getsockname()[1])
        if isinstance(self.config.app, FastAPI):  # of several processes each is replaced instead
            reload = partial(self._run, self.config.app.state.services.reload_model)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        if isinstance(self.config.loaded_app, FastAPI):
            self._run(self.config.loaded_app.state.services.warm_up)

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it beside the requests."""
        task = asyncio.get_running_loop().create_task(work())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Answer what is in progress, on its way or in the queue of the socket, then close."""
        Connections.of(self.server_state, asyncio.get_running_loop()).draining = True
        for connection in list(self.server_state.connections):
            if isinstance(connection, Guarded):
                connection.drain()
        await asyncio.sleep(LINGER_S)
        if sockets is None:  # of several processes the first closes the door for all
            for server in self.servers:
                for listener in server.sockets:
                    admit_no_more(listener.fileno())
        await asyncio.sleep(QUEUE_S)
        for _ in range(8):  # turns of a loop that was late: time alone accepts nothing
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def prepare_routes(app: FastAPI) -> None:
    """Have FastAPI build what it builds at the first request: 0.1 s, in which it answers nobody."""
    nowhere = {
        "type": "http",
        "method": "GET",
        "path": "/-/-/-/-/-",
        "root_path": "",
        "headers": [],
    }
    for route in app.routes:
        route.matches(nowhere)


def _shorten_pauses() -> None:
    """Keep the event loop from being held up, before anyone is connected."""
    # A full collection would look at everything that was loaded: pauses of 0.1 s and more.
    gc.collect()
    gc.freeze()
    # Threads that draw tiles hand the interpreter to the event loop sooner than after 5 ms.
    sys.setswitchinterval(0.0005)


class Worker(multiprocess.Process):
    """One process of several."""

    @property
    def server(self) -> uvicorn.Server:
        """Return the server of the process, made when it is first needed."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server


class Supervisor(Multiprocess):
    """Several processes; SIGHUP replaces one after the other, each once its replacement answers.
    The gauges of a process that is gone (memory, queue) no longer count in `/metrics`."""

    def keep_subprocess_alive(self) -> None:
        """Do as uvicorn does."""
        self._forgetting(super().keep_subprocess_alive)

    def restart_all(self) -> None:
        """Do as uvicorn does."""
        self._forgetting(super().restart_all)

    def terminate_all(self) -> None:
        """Stop all at once; what connects while they linger is answered, what comes later is not
        let into the queue of the socket."""
        super().terminate_all()
        time.sleep(LINGER_S / 2)
        for listener in self.sockets:
            admit_no_more(listener.fileno())

    def _forgetting(self, change: Callable[[], None]) -> None:
        before = {process.pid for process in self.processes}
        change()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def run(settings: Settings, services: Services | None) -> None:
    """Serve until told to stop; `services` are used when there is one process only."""
    logs.configure(settings.log_format, settings.log_level)
    _allow_descriptors()
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
        multiprocess.Process = Worker  # type: ignore[misc]  # the supervisor takes no class
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


def check_address(host: str, port: int) -> None:
    """End with status 3 and one line when the address cannot be listened on."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        hint = ": another program listens there; --port sets another" if is_taken else ""
        reason = (error.strerror or str(error)).lower()
        terminal.fail(f"cannot listen on {_shown(host)}:{port}, {reason}{hint}", 3)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _allow_descriptors() -> None:
    """Raise the number of files and sockets this process may have open to what it may set."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _config(settings: Settings, app: Any, *, factory: bool = False) -> uvicorn.Config:  # noqa: ANN401
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        http=Guarded,
        ws="none",
        workers=settings.processes,
        log_config=None,
        access_log=False,  # ours knows the request's id
        timeout_graceful_shutdown=DRAIN_S,
        timeout_worker_healthcheck=60,
        server_header=False,
        proxy_headers=False,  # app.routes.forwarded reads them, the host too
    )


def _announce(config: uvicorn.Config, port: int) -> None:
    host = "localhost" if config.host in ("0.0.0.0", "::") else config.host  # noqa: S104
    root = config.root_path.rstrip("/")
    address = escape(f"http://{_shown(host)}:{port}{root}/map")
    terminal.out.print(f"\nThe map is at [bold]{address}[/]   (Ctrl+C ends it)")
