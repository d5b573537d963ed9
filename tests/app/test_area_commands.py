"""Areas from the command line, from Python, in shards and on a Dask cluster: one land cover."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from pyogrio import raw
from shapely.geometry import shape
from typer.testing import CliRunner, Result

from app.cli import cli
from app.client import Client, JobFailed, ServerError
from app.errors import InvalidRequest
from app.grid.pixel_grid import transformer
from app.jobs.local import shard_of
from tests.app.running import area_of, server
from tests.world.world import World

DRIVERS = {
    ".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".kml": "LIBKML", ".fgb": "FlatGeobuf",
    ".geojson": "GeoJSON",
}  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def ran(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def aoi(two_quads: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aoi") / "area.geojson"
    path.write_text(json.dumps(area_of(two_quads)))
    return path


@pytest.fixture(scope="module")
def here(two_quads: World, pixelwise_model: Path) -> tuple[object, ...]:
    """The options of a command that computes here."""
    return ("--imagery", two_quads.directory, "--model", pixelwise_model)


@pytest.fixture(scope="module")
def single(aoi: Path, here: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The area classified in one run."""
    path = tmp_path_factory.mktemp("single") / "out.tif"
    ran("classify", path, "--aoi", aoi, *here)
    return path.read_bytes()


@pytest.fixture(scope="module")
def base(
    two_quads: World, pixelwise_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with server(two_quads, pixelwise_model, tmp_path_factory.mktemp("jobs")) as (address, _):
        yield address


@pytest.mark.slow
def test_merged_shards_are_the_bytes_of_a_single_run_in_any_order_and_twice(
    aoi: Path, here: tuple[object, ...], single: bytes, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "out.tif"
    for part in ("2/3", "0/3", "2/3"):
        ran("classify", work, "--aoi", aoi, "--shard", part, *here)
    result = run("merge", work, out, *here)
    assert result.exit_code == 4
    assert "blocks are missing: 1, 4" in result.output
    assert not out.exists()
    ran("classify", work, "--aoi", aoi, "--shard", "1/3", *here)
    ran("merge", work, out, *here)
    assert out.read_bytes() == single


def test_a_damaged_block_is_missing(aoi: Path, here: tuple[object, ...], tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out.tif"
    ran("classify", work, "--aoi", aoi, "--shard", "0/1", *here)
    path = next(work.glob("blocks/*/*"))
    path.write_bytes(path.read_bytes()[:-1])
    assert "1 blocks are missing" in run("merge", work, out, *here).output


def test_a_folder_of_another_area_is_refused(
    aoi: Path, here: tuple[object, ...], two_quads: World, tmp_path: Path
) -> None:
    other = tmp_path / "other.geojson"
    other.write_text(json.dumps(area_of(two_quads, shrink=200)))
    ran("classify", tmp_path / "work", "--aoi", aoi, "--shard", "0/40", *here)
    result = run("classify", tmp_path / "work", "--aoi", other, "--shard", "1/40", *here)
    assert result.exit_code == 2
    assert "same area" in result.output
    assert run("merge", tmp_path / "nowhere", tmp_path / "out.tif", *here).exit_code == 2


@pytest.mark.parametrize("text", ["1", "3/3", "-1/3", "a/b", "0/0", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="shard"):
        shard_of(text)


@pytest.mark.slow
def test_through_a_server_the_file_is_the_same(
    aoi: Path, base: str, single: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.tif"
    ran("classify", out, "--aoi", aoi, "--server", base)
    assert out.read_bytes() == single


@pytest.mark.slow
def test_figures_are_the_same_here_and_through_a_server(
    aoi: Path, here: tuple[object, ...], base: str, tmp_path: Path
) -> None:
    found = []
    days = ("--datetime", "2017-01-01/2017-12-31", "--fill", "older")
    for number, how in enumerate(
        ((*here, "--year", "2017"), ("--server", base, "--year", "2017"), (*here, *days),
         ("--server", base, *days))
    ):  # fmt: skip
        path = tmp_path / f"{number}.json"
        assert "hectares" in ran("stats", aoi, "--output", path, *how).output
        found.append(json.loads(path.read_text()))
    assert found[0] == found[1] == found[2] == found[3]
    result = run("stats", aoi, *here, "--year", "2017", "--datetime", "2017")
    assert (result.exit_code, "datetime" in result.output) == (2, True)


@pytest.fixture(scope="module")
def small(
    two_quads: World, here: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[shapely.Polygon, dict[int, float]]:
    """A part of a block, and the m² of its classes."""
    folder = tmp_path_factory.mktemp("small")
    area = area_of(two_quads, shrink=550)
    (folder / "area.geojson").write_text(json.dumps(area))
    ran("stats", folder / "area.geojson", "--output", folder / "found.json", *here)
    classes = json.loads((folder / "found.json").read_text())["classes"]
    return shape(area), {each["value"]: each["m2"] for each in classes}


@pytest.mark.parametrize(
    ("suffix", "epsg"),
    [("gpkg", 4326), ("gpkg", 26916), ("shp", 26916), ("shp", 2236), ("kml", 4326),
     ("fgb", 3857), ("geojson", 4326)],
)  # fmt: skip
@pytest.mark.slow
def test_the_area_may_be_in_any_file_that_gdal_reads(
    small: tuple[shapely.Polygon, dict[int, float]],
    here: tuple[object, ...],
    tmp_path: Path,
    suffix: str,
    epsg: int,
) -> None:
    area, expected = small
    project = transformer("OGC:CRS84", f"EPSG:{epsg}").transform
    path, found = tmp_path / f"area.{suffix}", tmp_path / "found.json"
    write_layer(path, shapely.transform(area, project, interleaved=False), epsg)
    if suffix == "gpkg":  # QGIS keeps styles in a table of its own
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleName TEXT)")
        db.close()
    ran("stats", path, "--output", found, *here)
    classes = json.loads(found.read_text())["classes"]
    for each in classes:
        assert each["m2"] == pytest.approx(expected[each["value"]], rel=1e-4, abs=1)


def test_a_file_that_is_no_area_is_named_in_one_line(
    here: tuple[object, ...], tmp_path: Path
) -> None:
    text, points, bare = (tmp_path / name for name in ("a.txt", "points.gpkg", "bare.shp"))
    text.write_text("no area")
    point = shapely.Point(-86.96, 32.96)
    write_layer(points, point, 4326)
    write_layer(bare, point.buffer(0.01), 4326)
    bare.with_suffix(".prj").unlink()
    for path, reason in ((text, "GDAL reads"), (points, "one layer of"), (bare, "with a CRS")):
        result = run("stats", path, *here)
        assert result.exit_code == 2
        assert path.name in result.output
        assert reason in result.output
        assert len(result.output.strip().splitlines()) == 1


def write_layer(path: Path, geometry: shapely.Geometry, epsg: int) -> None:
    kind = {"geometry_type": geometry.geom_type, "crs": f"EPSG:{epsg}"}
    geometries = np.array([shapely.to_wkb(geometry)], dtype=object)
    raw.write(path, geometries, [], [], driver=DRIVERS[path.suffix], **kind)


def spellings(path: Path, folder: Path) -> dict[str, Path]:
    """Other names of one file."""
    folder.mkdir()
    symbolic, hard = folder / "symbolic.tif", folder / "hard.tif"
    symbolic.symlink_to(path)
    hard.hardlink_to(path)
    around = path.parent / folder.name / ".." / path.name
    return {"itself": path, "around": around, "symbolic link": symbolic, "hard link": hard}


@pytest.mark.parametrize("kind", ["itself", "around", "symbolic link", "hard link"])
@pytest.mark.slow
def test_no_command_overwrites_what_it_reads(
    two_quads: World, aoi: Path, base: str, pixelwise_model: Path, tmp_path: Path, kind: str
) -> None:
    imagery = tmp_path / "imagery"
    shutil.copytree(two_quads.directory, imagery)
    scene = next(imagery.glob("*.tif"))
    area, model = tmp_path / "area.geojson", tmp_path / "model.onnx"
    shutil.copy(aoi, area)
    for path in pixelwise_model.parent.glob(f"{pixelwise_model.stem}*"):
        shutil.copy(path, tmp_path / path.name.replace(pixelwise_model.stem, "model"))
    work = tmp_path / "work"
    here = ("--imagery", imagery, "--model", model)
    ran("classify", work, "--aoi", area, "--shard", "0/1", *here)
    block = next(work.glob("blocks/*/*"))
    years = ("--from", "2017", "--to", "2016")
    inputs = {path: path.read_bytes() for path in (scene, area, model, block, work / "spec.json")}
    other = tmp_path / "other"
    named = {path: spellings(path, tmp_path / f"links{n}")[kind] for n, path in enumerate(inputs)}
    commands = [
        ("classify", scene, named[scene], "--model", model),
        ("classify", scene, named[model], "--model", model),
        ("classify", named[scene], "--aoi", area, *here),
        ("classify", named[area], "--aoi", area, *here),
        ("classify", named[area], "--aoi", area, "--server", base),
        ("stats", area, "--output", named[area], *here),
        ("stats", area, "--output", named[scene], *here),
        ("stats", area, "--output", named[area], "--server", base),
        ("change", area, named[area], *years, *here),
        ("change", area, other, "--matrix", named[area], *years, *here),
        ("change", area, other, "--matrix", other, *years, *here),
        ("change", area, named[scene], *years, *here),
        ("merge", work, named[block], *here),
        ("merge", work, named[work / "spec.json"], *here),
        ("merge", work, named[scene], *here),
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 2, (command, result.output)
        assert "choose another output" in result.output
        assert {path: path.read_bytes() for path in inputs} == inputs
    assert not other.exists()
    assert not list(tmp_path.glob("**/*.aux.xml"))


@pytest.mark.slow
def test_change_writes_raster_and_matrix(
    two_years: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    aoi, out, matrix = tmp_path / "a.geojson", tmp_path / "c.tif", tmp_path / "m.json"
    aoi.write_text(json.dumps(area_of(two_years, shrink=250)))
    options = ("--imagery", two_years.directory, "--model", pixelwise_model, "--matrix", matrix)
    ran("change", aoi, out, "--from", 2017, "--to", 2019, *options)
    assert len(json.loads(matrix.read_text())["matrix_hectares"]) == 6
    with rasterio.open(out) as dataset:
        assert dataset.read(1).min() >= 11


def test_seeding_fills_the_cache_and_purging_empties_it_and_nothing_else(
    aoi: Path, here: tuple[object, ...], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    ran("seed", aoi, "--cache-dir", cache, *here)
    assert len(list(cache.glob("*/*"))) > 4
    (cache / "somebody's").mkdir()
    ran("purge", "--cache-dir", cache)
    assert [path.name for path in cache.iterdir()] == ["somebody's"]
    assert run("seed", aoi, *here).exit_code == 2
    assert run("purge").exit_code == 2
    assert "no jobs.sqlite" in run("purge", "--jobs-dir", cache).output


def test_a_wrong_area_or_server_ends_with_one_line(
    here: tuple[object, ...], aoi: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.geojson"
    bad.write_text("{")
    cases = [
        ("classify", tmp_path / "o.tif", "--aoi", bad, *here),
        ("classify", tmp_path / "o.tif", "--aoi", tmp_path / "none", *here),
        ("stats", aoi, "--server", "http://127.0.0.1:1"),
        ("stats", aoi, "--year", "1815", *here),
    ]
    for case in cases:
        result = run(*case)
        assert result.exit_code == 2, result.output
        assert result.output.strip().splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "o.tif").exists()


def test_the_client_does_what_its_page_says(
    base: str, aoi: Path, two_quads: World, tmp_path: Path
) -> None:
    area = json.loads(aoi.read_text())
    seen: list[int] = []
    with Client(base) as client:
        assert client.point(*two_quads.scenes[0].lonlat)["class"]["value"] in range(1, 7)
        blocks = client.estimate("classify-area", area)["blocks"]
        job = client.submit("classify-area", area, year="2017")
        info = client.wait(job, lambda each: seen.append(each["blocks"]["done"]), every_s=0.05)
        assert info["blocks"]["done"] == blocks == seen[-1]
        path = client.download(job, tmp_path / "out.tif")
        with rasterio.open(path) as dataset:
            assert dataset.count == 1
        assert client.statistics(area) == client.results(job)["statistics"]
        client.dismiss(job)
        with pytest.raises(JobFailed, match="dismissed"):
            client.wait(job)
        with pytest.raises(ServerError, match="year") as caught:
            client.submit("classify-area", area, year="1815")
        assert caught.value.status == 404


def test_the_client_loads_nothing_of_the_server() -> None:
    code = (
        "import sys, app.client;"
        "print([m for m in sys.modules if m.startswith('app.')], 'numpy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['app.client'] False"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")
def test_on_a_dask_cluster_one_of_whose_workers_is_killed_the_bytes_are_the_same(
    two_quads: World, slow_model: Path, pixelwise_model: Path, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: extra [dask]")
    import os
    import signal
    import threading

    from tests.app.running import until

    aoi = tmp_path / "aoi.geojson"
    aoi.write_text(json.dumps(area_of(two_quads, shrink=400)))
    files: dict[str, Result] = {}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        options = ("--imagery", two_quads.directory, "--model", slow_model)
        work, out = tmp_path / "work", tmp_path / "dask.tif"
        command = ("classify", work, "--aoi", aoi, "--shard", "0/1", *options)
        thread = threading.Thread(
            target=lambda: files.update(
                dask=run(*command, "--scheduler", cluster.scheduler_address)
            )
        )
        thread.start()
        until(lambda: list(work.glob("blocks/*/*")))
        os.kill(pids[0], signal.SIGKILL)
        thread.join()
        assert files["dask"].exit_code == 0, files["dask"].output
    ran("merge", work, out, *options)
    ran("classify", tmp_path / "threads.tif", "--aoi", aoi, *options)
    assert out.read_bytes() == (tmp_path / "threads.tif").read_bytes()
