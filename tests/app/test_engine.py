"""One service, one engine: it is named everywhere, and who computes for it runs the same."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rasterio.io import MemoryFile
from rich.console import Console
from typer.testing import CliRunner

from app.cli import cli, server, terminal
from app.errors import ConfigurationError
from app.grid.pixel_grid import Block
from app.jobs.executor import own_context
from app.landcover.blocks import PROCESSING
from app.services import Services
from app.settings import Settings
from model.engines import EngineSpec, offered
from model.session import Session
from model.windows import cover
from tests.app.conftest import Serve, tiles_around
from tests.world import graphs
from tests.world.world import World

pytestmark = pytest.mark.alone

OTHER = "onnxruntime:int8"
"""An engine that every installation has, given the file."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pixelwise`, with a file beside it that stands for the one in 8 bits: the same classes."""
    path = graphs.write_model(tmp_path_factory.mktemp("engine") / "landcover.onnx", "pixelwise")
    card = graphs.card_of("pixelwise", description="8-bit")
    path.with_suffix(".int8.onnx").write_bytes(graphs.model_bytes("pixelwise", card))
    return path


@pytest.fixture
def services(two_quads: World, model: Path) -> Iterator[Services]:
    built = Services(Settings(imagery=two_quads.directory, model=model, engine=OTHER))
    yield built
    built.close()


def test_every_answer_names_the_engine(serve: Serve, two_quads: World, model: Path) -> None:
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, 18, 0)[0]
    with serve(two_quads.directory, model, engine=OTHER) as client:
        assert client.get("/model").json()["engine"] == OTHER
        assert client.get("/readyz").json()["engines"] == {"pixelwise": OTHER}
        named = 'landcover_engine{engine="onnxruntime",precision="int8"} 1.0'
        assert named in client.get("/metrics").text
        content = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.tif").content
    with MemoryFile(content) as memory, memory.open() as dataset:
        assert dataset.tags()["LANDCOVER_ENGINE"] == OTHER


def test_the_doctor_names_the_engine(
    two_quads: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "out", Console(width=400))
    options = ["doctor", "--imagery", str(two_quads.directory), "--model", str(model)]
    result = CliRunner().invoke(cli, options, env={"LANDCOVER_ENGINE": OTHER})
    assert f"engine  {OTHER}" in result.output


def test_a_block_key_names_every_engine_but_the_default(
    two_quads: World, model: Path, services: Services
) -> None:
    default = Services(Settings(imagery=two_quads.directory, model=model, engine="onnxruntime"))
    keys = []
    for each in (default, services):
        selection = each.select(None, "latest", None)
        (grid,) = selection.source.grids()
        extent = selection.source.catalog.scenes[0].extent(grid)
        assert extent is not None
        block = Block.of(grid, next(cover(extent)))
        plan = each.landcover.plan(selection, block)
        assert plan is not None
        keys.append(plan.key)
        # As it was before there were engines: caches stay valid.
        parts = [
            PROCESSING,
            selection.session.sha256,
            str(selection.session.card.halo),
            f"{grid.crs} {grid.resolution} {block.col} {block.row}",
            *(scene.key for scene in plan.scenes),
        ]
        before = hashlib.blake2b("\n".join(parts).encode(), digest_size=20).hexdigest()
        assert (plan.key == before) == (each is default)
    assert keys[0] != keys[1]
    default.close()


def test_workers_are_told_the_engine_that_runs_and_not_to_choose(
    two_quads: World, model: Path, tmp_path: Path
) -> None:
    built = Services(
        Settings(imagery=two_quads.directory, model=model, engine="auto", cache_dir=tmp_path)
    )
    engine = str(built.model(None).engine.spec)
    assert built.settings.engine == engine
    settings = built.settings.model_dump_json(exclude={"redis_url"})
    worker = own_context(settings).services
    assert str(worker.model(None).engine.spec) == engine
    worker.close()
    built.close()


def test_a_worker_that_lacks_the_engine_refuses(two_quads: World, model: Path) -> None:
    there = offered(int8=True)
    lacking = "cuda" if EngineSpec("cuda") not in there else "openvino:bf16"
    settings = Settings(imagery=two_quads.directory, model=model, engine=lacking)
    with pytest.raises(ConfigurationError, match=f"LANDCOVER_ENGINE={lacking}: "):
        own_context(settings.model_dump_json(exclude={"redis_url"}))


@pytest.mark.slow
def test_several_processes_run_one_engine(model: Path, two_quads: World, tmp_path: Path) -> None:
    settings = Settings(
        imagery=two_quads.directory, model=model, engine="auto", cache_dir=tmp_path, processes=2
    )
    resolved = server._with_engine(settings)
    assert resolved.engine != "auto"
    assert resolved.model_copy(update={"engine": "auto"}) == settings
    assert server._with_engine(resolved) is resolved


def test_a_server_that_has_started_has_run_the_model_before_the_first_view(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    predict = Session.predict

    def counted(self: Session, batch: npt.NDArray[np.float32], *args: Any) -> Any:  # noqa: ANN401
        shapes.append(batch.shape)
        return predict(self, batch, *args)

    monkeypatch.setattr(Session, "predict", counted)
    asyncio.run(services.warm_up())
    size = services.model(None).card.window
    assert shapes.count((1, 4, size, size)) == services.infers.workers
    shapes.clear()
    assert services.model(None).halo_covers_reach
    assert not shapes, "whether windows may be joined is known"


@pytest.mark.parametrize("engine", ["fastest", "openvino:fp16", "auto:int8", ""])
def test_a_setting_that_is_no_engine_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="engine"):
        Settings(engine=engine)


@pytest.mark.parametrize(("text", "edge"), [("1", 1), ("4", 4)])
def test_joined_blocks_are_set_in_the_environment(
    text: str, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANDCOVER_JOIN_BLOCKS", text)
    assert Settings().join_blocks == edge


@pytest.mark.parametrize("text", ["0", "3", "8", "two"])
def test_other_numbers_of_joined_blocks_are_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANDCOVER_JOIN_BLOCKS", text)
    with pytest.raises(ValueError, match="join_blocks"):
        Settings()
