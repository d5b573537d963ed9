"""Where faults are played: the made world, the model, and a server with its prober."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.oracle import Expected, Tiles
from tests.chaos.prober import Prober
from tests.chaos.server import Server
from tests.chaos.trial import HONEST, RECOVERY_S, WARM_P99_S, Bench, Trial
from tests.world.world import World

Run = Callable[[Bench, Trial], None]


@dataclass(frozen=True)
class Fault:
    """One fault: how it is played, which answers are honest in it, whether each CI run has it, and
    how long the service may take to recover and to answer what was cached before."""

    name: str
    run: Run
    codes: frozenset[str] = HONEST
    quick: bool = False
    recovery_s: float = RECOVERY_S
    warm_s: float = WARM_P99_S


@dataclass
class Stage:
    """What all groups share. `local`: tiles of the directory, each given to one group."""

    folder: Path
    world: World
    model: Path
    slow_model: Path
    control: int
    quick: bool

    @property
    def local(self) -> Tiles:
        """Tiles of the directory source, none asked for yet: every group has its own server."""
        return Tiles(list(self.world.scenes), self.source)

    @property
    def source(self) -> str:
        """The id of the directory source."""
        return self.world.directory.name


@dataclass(frozen=True)
class Group:
    """Faults that one server is enough for. A fault's name is its key."""

    name: str
    open: Callable[[Stage], AbstractContextManager[Bench]]
    faults: Mapping[str, Fault]


@contextmanager
def open_bench(
    stage: Stage,
    folder: Path,
    tiles: dict[str, Tiles],
    warm: Sequence[Expected],
    *options: object,
    **settings: object,
) -> Iterator[Bench]:
    """Start a server and a prober; the warm tiles are cached and right before anything happens."""
    server = Server(folder, *options, **settings)
    server.start()
    prober = Prober(server.port, stage.control, warm)
    try:
        warm_up(server, warm)
        yield Bench(server, prober, tiles, warm)
    finally:
        prober.close()
        server.stop()


def warm_up(server: Server, warm: Sequence[Expected]) -> None:
    """Ask for every tile once; RuntimeError unless all come."""
    for tile in warm:
        status, body = server.get(tile.path, timeout=60)
        if status != 200:
            raise RuntimeError(f"{tile.path}: {status} {body[:300]!r}")
