"""`landcover doctor` and `landcover index`: what they find, and what they say to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rich.console import Console
from typer.testing import CliRunner, Result

from app.cli import cli, terminal
from app.imagery import gdal
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.index import IndexStore
from app.imagery.diagnostics import examine
from app.imagery.reader import Reader
from app.imagery.scene import ReadOptions
from model.card import ModelCard
from model.session import Session
from tests.world.range_server import range_server
from tests.world.scenes import write_scene
from tests.world.world import World


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    gdal.configure()
    monkeypatch.setattr(terminal, "out", Console(width=400))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def altered(world: World, folder: Path, order: list[int], scale: float = 1.0) -> Path:
    """Copies of a world's scenes with their bands turned and stretched; −1: all 255."""
    folder.mkdir()
    for scene in world.scenes:
        with rasterio.open(scene.path) as source:
            profile, image = source.profile, source.read()
        bands = [np.full_like(image[0], 255) if band < 0 else image[band] for band in order]
        turned = np.clip(np.stack(bands) * scale, 0, 255).astype(np.uint8)
        with rasterio.open(folder / scene.path.name, "w", **profile) as target:
            target.write(turned)
    return folder


def card_like(world: World, session: Session) -> ModelCard:
    """A card trained on imagery of which red is dark and near infrared bright."""
    with rasterio.open(world.scenes[0].path) as source:
        mean = source.read().mean(axis=(1, 2)) / 255
    values = {"mean": tuple(float(m) for m in mean), "std": (0.1,) * 4}
    return session.card.model_copy(update=values)


def test_imagery_like_trainings_raises_no_doubt(two_quads: World, pixelwise: Session) -> None:
    card = card_like(two_quads, pixelwise)
    found = examine(DirectoryCatalog(two_quads.directory, ReadOptions()), None, card, Reader())
    assert found.faults == found.warnings == []
    assert [band.name for band in found.bands] == ["red", "green", "blue", "near infrared"]
    assert all(abs(band.off) < 0.5 and band.low < band.mean < band.high for band in found.bands)
    assert found.read_s > 0


def test_a_band_of_one_value_is_named(two_quads: World, pixelwise: Session, tmp_path: Path) -> None:
    folder = altered(two_quads, tmp_path / "alpha", [0, 1, 2, -1])
    found = examine(
        DirectoryCatalog(folder, ReadOptions()), None, card_like(two_quads, pixelwise), Reader()
    )
    (warning,) = [each for each in found.warnings if "one value only" in each]
    assert warning.startswith("near infrared")


def test_a_stretched_band_is_named_with_how_far_it_is_off(
    two_quads: World, pixelwise: Session, tmp_path: Path
) -> None:
    folder = altered(two_quads, tmp_path / "dark", [0, 1, 2, 3], 0.3)
    found = examine(
        DirectoryCatalog(folder, ReadOptions()), None, card_like(two_quads, pixelwise), Reader()
    )
    assert len([each for each in found.warnings if "below training's" in each]) == 4


def test_bands_in_another_order_are_suspected(
    two_quads: World, pixelwise: Session, tmp_path: Path
) -> None:
    folder = tmp_path / "nir_first"
    folder.mkdir()
    with rasterio.open(two_quads.scenes[0].path) as source:
        profile, image = source.profile, source.read()
    for band, add in enumerate((-60, -20, -40, 60)):
        image[band] = np.clip(image[band].astype(int) + add, 1, 254)
    mean = tuple(float(m) for m in image.mean(axis=(1, 2)) / 255)
    card = pixelwise.card.model_copy(update={"mean": mean, "std": (0.2,) * 4})
    with rasterio.open(folder / "a.tif", "w", **profile) as target:
        target.write(image[[3, 0, 1, 2]])
    found = examine(DirectoryCatalog(folder, ReadOptions()), None, card, Reader())
    assert any("bands = [2, 3, 4, 1]" in each for each in found.warnings)
    right = examine(DirectoryCatalog(folder, ReadOptions(bands=(2, 3, 4, 1))), None, card, Reader())
    assert not any("bands = " in each for each in right.warnings)


def test_doctor_reads_every_source_and_counts_what_it_cost(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with range_server(two_quads.directory) as server:
        toml = tmp_path / "sources.toml"
        url = server.url(two_quads.scenes[0].path)
        toml.write_text(
            f'[[source]]\nid = "near"\ntype = "directory"\npath = "{two_quads.directory}"\n'
            f'[[source]]\nid = "far"\ntype = "cogs"\nurls = ["{url}"]\nretries = 0\n'
        )
        result = run("doctor", "--sources", toml, "--model", pixelwise_model)
        assert result.exit_code == 0, result.output
        assert "near: 2 scenes" in result.output
        assert "far: 1 scenes" in result.output
        assert "requests" in result.output
        assert "Everything is served." in result.output
        cached = tmp_path / "cache"
        first = run("index", "--sources", toml, "--model", pixelwise_model, "--cache-dir", cached)
        assert first.exit_code == 0, first.output
        server.fault("503")
        result = run("doctor", "--sources", toml, "--model", pixelwise_model, "--cache-dir", cached)
        assert result.exit_code == 1, result.output
        assert "the server answers 503" in result.output
        assert "try again later" in result.output


def test_an_index_spares_opening_what_has_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "imagery"
    for number in range(3):
        write_scene(folder / f"{number}_2017.tif", cols=60, rows=50, overviews=False)
    (folder / "bad.tif").write_text("no image")
    store = IndexStore(tmp_path / "index.json", ReadOptions())
    first = DirectoryCatalog(folder, ReadOptions(), store)
    assert first.opened == 4
    again = DirectoryCatalog(folder, ReadOptions(), store)
    assert again.opened == 0
    assert again.scenes == first.scenes
    assert again.skipped == first.skipped
    write_scene(folder / "1_2017.tif", cols=70, rows=50, year=2019, overviews=False)
    os.utime(folder / "2_2017.tif", ns=(7, 7))
    (folder / "0_2017.tif").unlink()
    third = DirectoryCatalog(folder, ReadOptions(), store)
    assert third.opened == 2
    assert [scene.id for scene in third.scenes] == ["1_2017", "2_2017"]
    other = ReadOptions(nodata=9)
    assert DirectoryCatalog(folder, other, IndexStore(store.path, other)).opened == 3


def test_a_glob_is_a_source(tmp_path: Path) -> None:
    for name in ("al/2017/a.tif", "al/2019/b.tif", "ga/2019/c.tif"):
        write_scene(tmp_path / name, cols=60, rows=50, overviews=False)
    found = DirectoryCatalog(tmp_path / "*" / "2019" / "*.tif", ReadOptions())
    assert [scene.id for scene in found.scenes] == ["b", "c"]
    assert found.unavailable is None
    deep = DirectoryCatalog(tmp_path / "**" / "[ab].tif", ReadOptions())
    assert [scene.id for scene in deep.scenes] == ["a", "b"]


def test_index_without_a_place_to_keep_it_says_so(two_quads: World, pixelwise_model: Path) -> None:
    result = run("index", "--imagery", two_quads.directory, "--model", pixelwise_model)
    assert result.exit_code == 2
    assert "--cache-dir" in result.output
