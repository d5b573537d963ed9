"""A legend, bands and a resolution of one's own: from drawn labels to the map, and every file."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import shapes
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from app.grid.tile import TMS
from app.main import create_app
from app.settings import Settings
from model.legend import LEGEND, Legend
from model.session import Session
from tests.training.drawn import draw
from training.cli.pipeline import perform
from training.cli.recipe import Recipe, load_recipe
from training.data.manifest import read_manifest
from training.errors import PresetError

pytestmark = pytest.mark.torch

NAMES = ("roof", "asphalt", "water", "sand", "wood", "lawn", "vine", "solar")
OWN = "[legend]\nclasses = [\n{}]\n".format(
    "".join(
        f'{{ value = {n}, name = "{name}", title = "My {name}", color = "#{n * 1644825:06x}" }},\n'
        for n, name in enumerate(NAMES, 1)
    )
)
FILES = "[export]\nesri = true\ndeepness = true\nstac = true\nint8 = true\n"


@dataclass(frozen=True)
class Case:
    """What is one's own: keys and tables of the TOML, bands of a file, meters of a pixel."""

    top: str = ""
    tables: str = ""
    bands: int = 4
    resolution: float = 1.0


CASES = {
    "eight": Case(tables=OWN + FILES),
    "rgb": Case('bands = ["red", "green", "blue"]\n', bands=3),
    "fine": Case(resolution=0.6),
}


def write_town(path: Path, case: Case, classes: int, left: float, seed: int) -> list[Any]:
    """An image of squares of flat colors, and the polygons and values of its classes."""
    rng = np.random.default_rng(seed)
    values = np.kron(
        rng.integers(1, classes + 1, (4, 4), dtype=np.uint8), np.ones((32, 32))
    ).astype(np.uint8)
    colors = np.random.default_rng(9).integers(20, 235, (classes + 1, case.bands))
    image = colors[values].transpose(2, 0, 1) + rng.integers(-5, 6, (case.bands, 128, 128))
    transform = Affine(case.resolution, 0, left, 0, -case.resolution, 3_648_600.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=case.bands, height=128, width=128, dtype="uint8",
        crs="EPSG:26916", transform=transform, tiled=True, blockxsize=128, blockysize=128,
    ) as target:  # fmt: skip
        target.write(image.astype(np.uint8))
    pairs = shapes(values, transform=transform)
    return [(shapely.geometry.shape(shape), int(value)) for shape, value in pairs]


@pytest.fixture(params=CASES, scope="module")
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, Recipe, Path]:
    """A case, its recipe, and the folder of its run (`run`) and imagery (`img`)."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp(request.param)
    legend = NAMES if "legend" in case.tables else [c.name for c in LEGEND.classes]
    drawn, codes, images = [], [], []
    for town in range(4):
        for year in (2017, 2019):
            path = folder / "img" / f"town{town}_{year}.tif"
            left = 502_700.0 + 3_000 * town
            for polygon, value in write_town(path, case, len(legend), left, 10 * town + year):
                drawn.append(polygon)
                codes.append(legend[value - 1])
                images.append(path.stem)
    draw(folder / "drawn.gpkg", drawn, codes, image=images)
    (folder / "run.toml").write_text(
        f'imagery = "img"\nthreads = 1\n{case.top}'
        '[labels]\nsource = "drawn.gpkg"\nimage_field = "image"\n'
        "[chips]\nsize = 64\nstride = 64\n"
        '[fit]\npreset = "smoke"\nsteps = 2\nwarmup = 1\ncrop = 32\nbatch = 2\nevaluate_every = 2\n'
        f'precision = "float32"\nground_resolution_m = {case.resolution}\n'
        f"{case.tables}"
    )
    recipe = load_recipe(folder / "run.toml")
    perform(recipe, folder / "run")
    return case, recipe, folder


@pytest.mark.slow
def test_the_model_is_of_its_own_kind(trained: tuple[Case, Recipe, Path]) -> None:
    case, recipe, folder = trained
    card = Session.load(folder / "run" / "landcover.onnx").card
    assert card.legend == recipe.legend
    assert len(card.bands) == case.bands
    assert card.ground_resolution == case.resolution
    assert card.accuracy[0].pixels > 0
    assert len(card.accuracy[0].contingency) == len(card.legend.classes)
    manifest = read_manifest(folder / "run" / "chips")
    assert [c.name for c in manifest.classes] == [c.name for c in card.legend.classes]
    page = (folder / "run" / "evaluation" / "test.html").read_text()
    assert all(c.title in page for c in card.legend.classes)


@pytest.mark.slow
def test_the_other_files_are_of_its_own_kind(trained: tuple[Case, Recipe, Path]) -> None:
    _, recipe, folder = trained
    if not recipe.export.esri:
        pytest.skip("this run asks for none")
    run, names = folder / "run", [c.name for c in recipe.legend.classes]
    emd = json.loads((run / "esri" / "landcover.emd").read_text())
    assert [c["Name"] for c in emd["Classes"]] == [f"My {name}" for name in names]
    deepness = Session.load(run / "landcover.onnx").engine.metadata["class_names"]  # type: ignore[attr-defined]
    assert list(json.loads(deepness).values()) == ["background", *names]
    assert (run / "landcover.deepness.onnx").is_file()
    item = json.loads((run / "landcover.stac.json").read_text())
    listed = item["properties"]["mlm:output"][0]["classification:classes"]
    assert [c["name"] for c in listed] == ["background", *names]
    if (run / "landcover.int8.onnx").is_file():  # not where it disagrees
        assert Session.load(run / "landcover.int8.onnx").card.legend == recipe.legend


@pytest.mark.slow
def test_the_map_is_of_its_own_kind(trained: tuple[Case, Recipe, Path], tmp_path: Path) -> None:
    case, recipe, folder = trained
    settings = Settings.model_validate(
        {
            "imagery": folder / "img",
            "model": folder / "run" / "landcover.onnx",
            "jobs_dir": tmp_path,
        }
    )
    with TestClient(create_app(settings)) as client:
        check_map(client, recipe.legend, case)


def check_map(client: TestClient, legend: Legend, case: Case) -> None:
    side = 128 * case.resolution
    x, y = 502_700.0 + side / 2, 3_648_600.0 - side / 2
    lon, lat = Transformer.from_crs(26916, 4326, always_xy=True).transform(x, y)
    shown = client.get("/legend").json()["classes"]
    expected = [(c.value, c.name, c.title) for c in legend.classes]
    assert [(c["value"], c["name"], c["title"]) for c in shown if c["value"] <= 16] == expected

    tile = TMS.tile(lon, lat, 18)
    classes = np.load(io.BytesIO(client.get(f"/18/{tile.x}/{tile.y}.npy?year=2017").content))[0]
    assert set(np.unique(classes)) <= {0, 255, *legend.values}
    assert (classes <= len(legend.classes)).any()
    point = client.get(f"/point/{lon},{lat}?year=2017").json()
    assert point["class"]["name"] in [c.name for c in legend.classes]

    box = shapely.box(lon - 2e-4, lat - 2e-4, lon + 2e-4, lat + 2e-4)
    area = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(box)}
    answer = client.post("/statistics?year=2017", json=area).json()
    counted = answer["properties"]["statistics"]["classes"]
    assert [c["name"] for c in counted] == [c.name for c in legend.classes]
    assert sum(c["hectares"] for c in counted) > 0.05
    changed = client.post("/change?from=2017&to=2019", json=area).json()
    matrix = changed["matrix_hectares"]
    assert np.shape(matrix) == (len(legend.classes),) * 2
    assert np.sum(matrix) > 0.05
    content = client.post("/feature.tif?year=2017", json=area).content
    with MemoryFile(content) as memory, memory.open() as raster:
        values, colors = raster.read(1), raster.colormap(1)
    assert set(np.unique(values)) <= {255, *legend.values}
    assert {v: colors[v][:3] for v in legend.values} == legend.colors()
    assert client.post("/feature.gpkg?year=2017", json=area).status_code == 200
    style = client.get("/legend.qml").text
    assert all(c.title in style for c in legend.classes)


@pytest.mark.parametrize(
    ("lines", "issue"),
    [
        ("[legend]\nclasses = [{ value = 1, name = 'a', color = '#000000' }]\n", "2 to 16 classes"),
        (OWN.replace("value = 2", "value = 9"), "must be 1..8 in order"),
        (OWN.replace('"asphalt"', '"roof"'), "class names must differ"),
        (OWN.replace("#323232", "#blue"), "color_hint"),
        ("[legend]\nclass = 1\n", "give classes ="),
    ],
)
def test_an_impossible_legend_is_named(tmp_path: Path, lines: str, issue: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'imagery = "img"\n[labels]\nsource = "x.gpkg"\n{lines}')
    with pytest.raises(PresetError, match=issue):
        load_recipe(path)


@pytest.mark.parametrize("bands", ['["red", "green"]', '["red", "green", "red"]'])
def test_impossible_bands_are_named(tmp_path: Path, bands: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'imagery = "img"\nbands = {bands}\n[labels]\nsource = "x.gpkg"\n')
    with pytest.raises(PresetError, match="bands"):
        load_recipe(path)
