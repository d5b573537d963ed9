"""Files as they lie on people's disks: names in any bytes, pipes, links, lists of other tools."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from pyproj import CRS
from rich.console import Console
from typer.testing import CliRunner, Result

from app.cli import cli, terminal
from app.errors import ConfigurationError
from app.imagery import gdal
from app.imagery.catalog.files import DirectoryCatalog, in_mosaic
from app.imagery.catalog.index import IndexStore
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.config import load
from app.imagery.scene import ReadOptions, UnsupportedImage, inspect, local_path
from app.imagery.store.json_api import JsonApi
from tests.app.conftest import Serve, tiles_around
from tests.world.scenes import BAD_FILES, SyntheticScene, write_bad_file, write_scene
from tests.world.stac import item_of

NAME = "m_3208601_nw_16_1_20170903.tif"


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> None:
    gdal.configure()
    monkeypatch.setattr(terminal, "out", Console(width=400))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """A small scene to be copied."""
    return write_scene(tmp_path_factory.mktemp("good") / NAME, cols=300, rows=260, overviews=False)


def copy(good: SyntheticScene, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(good.path, target)
    return target


def odd(folder: Path, name: bytes) -> Path:
    """A path whose name is these bytes."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_name_that_is_not_utf_8_takes_nothing_from_the_others(
    good: SyntheticScene, tmp_path: Path
) -> None:
    copy(good, tmp_path / NAME)
    store = IndexStore(tmp_path / "index.json", ReadOptions())
    catalog = DirectoryCatalog(tmp_path, ReadOptions(), store)
    copy(good, odd(tmp_path, b"bad_\xff\xfe_2019.tif"))
    copy(good, odd(tmp_path, b"folder_\xe9/a_2019.tif"))
    catalog.refresh()
    assert [scene.id for scene in catalog.scenes] == [Path(NAME).stem]
    reasons = {each.path: each.reason for each in catalog.skipped}
    assert reasons == {
        r"bad_\udcff\udcfe_2019.tif": "has a name that is not UTF-8: rename it",
        r"folder_\udce9/a_2019.tif": "has a name that is not UTF-8: rename it",
    }
    again = DirectoryCatalog(tmp_path, ReadOptions(), store)
    assert again.skipped == catalog.skipped


@pytest.mark.alone
def test_doctor_names_it_and_goes_on(
    good: SyntheticScene, tmp_path: Path, pixelwise_model: Path
) -> None:
    copy(good, tmp_path / NAME)
    copy(good, odd(tmp_path, b"bad_\xff.tif"))
    os.mkfifo(tmp_path / "pipe.tif")
    result = run("doctor", "--imagery", tmp_path, "--model", pixelwise_model)
    assert result.exit_code == 0, result.output
    assert "has a name that is not UTF-8: rename it" in result.output
    assert "is no file, but a folder, a pipe or a device" in result.output
    assert "The rest is served." in result.output


def test_a_name_in_any_script_travels_in_a_header_and_comes_back(
    good: SyntheticScene, tmp_path: Path, serve: Serve, pixelwise_model: Path
) -> None:
    copy(good, tmp_path / "航空写真, 100 %_2019.tif")
    lon, lat = good.lonlat
    with serve(tmp_path, pixelwise_model) as client:
        z, x, y = tiles_around(lon, lat, 17, 0)[0]
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png")
        assert answer.status_code == 200
        header = answer.headers["x-landcover-scenes"]
        assert header.isascii()
        assert [unquote(name) for name in header.split(",")] == ["航空写真, 100 %_2019"]
        point = client.get(f"/point/{lon},{lat}").json()
        assert point["scene"]["id"] == "航空写真, 100 %_2019"


def test_a_name_of_two_lines_is_told_on_one(
    good: SyntheticScene, tmp_path: Path, serve: Serve, pixelwise_model: Path
) -> None:
    copy(good, tmp_path / "two\nlines\r_2018.tif")
    lon, lat = good.lonlat
    with serve(tmp_path, pixelwise_model) as client:
        z, x, y = tiles_around(lon, lat, 17, 0)[0]
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png")
        assert answer.status_code == 200
        assert answer.headers["x-landcover-scenes"] == r"two\nlines\r_2018"


def test_a_plain_name_is_as_it_was_in_the_header(
    good: SyntheticScene, tmp_path: Path, serve: Serve, pixelwise_model: Path
) -> None:
    copy(good, tmp_path / "Ortho (final) v2 [a+b]~2017.tif")
    lon, lat = good.lonlat
    with serve(tmp_path, pixelwise_model) as client:
        z, x, y = tiles_around(lon, lat, 17, 0)[0]
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png")
        assert answer.headers["x-landcover-scenes"] == "Ortho (final) v2 [a+b]~2017"


@pytest.mark.timeout(20)
def test_what_is_no_file_is_never_opened(good: SyntheticScene, tmp_path: Path) -> None:
    copy(good, tmp_path / NAME)
    os.mkfifo(tmp_path / "pipe_2018.tif")
    (tmp_path / "folder_2018.tif").mkdir()
    (tmp_path / "device_2018.tif").symlink_to("/dev/zero")
    catalog = DirectoryCatalog(tmp_path, ReadOptions())
    assert len(catalog.scenes) == 1
    named = {each.path for each in catalog.skipped}
    assert named == {"pipe_2018.tif", "device_2018.tif"}
    assert {each.reason for each in catalog.skipped} == {
        "is no file, but a folder, a pipe or a device"
    }
    with pytest.raises(UnsupportedImage, match="is no file"):
        inspect(tmp_path / "folder_2018.tif", ReadOptions())


@pytest.mark.timeout(20)
def test_a_list_that_is_a_pipe_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="is no file"):
        in_mosaic(str(tmp_path / "pipe"), "a", lambda *_: b"")


def test_linked_folders_are_followed_and_each_file_is_served_once(
    good: SyntheticScene, tmp_path: Path
) -> None:
    """Links out of the folder, into it and around in circles."""
    inside, outside = tmp_path / "imagery", tmp_path / "disk"
    copy(good, inside / "a" / "own_2017.tif")
    copy(good, outside / "deep" / "far_2016.tif")
    (inside / "disk").symlink_to(outside)
    (inside / "again").symlink_to(outside / "deep")
    (inside / "0").symlink_to(inside / "a")
    for name in ("loop", "loop2"):
        (inside / name).symlink_to(inside)
        (outside / name).symlink_to(inside)
    catalog = DirectoryCatalog(inside, ReadOptions())
    assert [scene.id for scene in catalog.scenes] == ["far_2016", "own_2017"]
    # What is there in its own right keeps its own path.
    assert catalog.scenes[1].href == str(inside / "a" / "own_2017.tif")


@pytest.mark.timeout(20)
def test_a_glob_of_any_depth_ends_in_spite_of_loops(good: SyntheticScene, tmp_path: Path) -> None:
    copy(good, tmp_path / "b" / "c" / "m_2017.tif")
    copy(good, tmp_path / "m_2018.tif")
    copy(good, tmp_path / ".hidden" / "m_2019.tif")
    for name in ("loop", "loop2", "loop3"):
        (tmp_path / name).symlink_to(tmp_path)
    every = DirectoryCatalog(tmp_path / "**" / "*.tif", ReadOptions())
    assert [scene.id for scene in every.scenes] == ["m_2017", "m_2018"]
    deep = DirectoryCatalog(tmp_path / "**" / "c" / "m_*.tif", ReadOptions())
    assert [scene.id for scene in deep.scenes] == ["m_2017"]


def test_every_file_is_named_when_none_can_be_served(tmp_path: Path, pixelwise_model: Path) -> None:
    for number, kind in enumerate([*BAD_FILES, *BAD_FILES]):
        write_bad_file(tmp_path / f"{kind}{number}.tif", kind)
    with pytest.raises(ConfigurationError) as refusal:
        DirectoryCatalog(tmp_path, ReadOptions())
    lines = str(refusal.value).splitlines()
    assert len(lines) == 1 + 2 * len(BAD_FILES)
    result = run("doctor", "--imagery", tmp_path, "--model", pixelwise_model)
    assert result.exit_code == 2
    for number, kind in enumerate([*BAD_FILES, *BAD_FILES]):
        assert f"{kind}{number}.tif" in result.output


def test_an_error_names_a_hundred_files_and_counts_the_rest(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"{number:03}.tif").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="and 30 more"):
        DirectoryCatalog(tmp_path, ReadOptions())


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_a_space_in_an_address_may_be_written_as_the_web_writes_it(
    good: SyntheticScene, tmp_path: Path, form: str
) -> None:
    path = copy(good, tmp_path / "my naip" / NAME)
    quoted = form.format(str(path).replace(" ", "%20"))
    assert local_path(quoted) == path
    (tmp_path / "list.txt").write_text(f"{quoted}\n")
    (tmp_path / "sources.toml").write_text(
        f'[[source]]\nid = "d"\ntype = "directory"\npath = "file://{path.parent}"\n'
        f'[[source]]\nid = "c"\ntype = "cogs"\nlist = "list.txt"\n'
    )
    near, listed = load(tmp_path / "sources.toml")
    assert getattr(near, "path") == str(path.parent)  # noqa: B009
    assert getattr(listed, "list") == str(tmp_path / "list.txt")  # noqa: B009
    scene = scene_of_item(
        item_of(good, quoted),
        ReadOptions(),
        base=str(tmp_path / "item.json"),
        refusal=lambda _: None,
    )
    assert scene.href == str(path)


def test_a_percent_sign_that_is_in_the_name_is_left_alone(
    good: SyntheticScene, tmp_path: Path
) -> None:
    path = copy(good, tmp_path / "100%20_2017.tif")
    assert local_path(str(path)) == path


def test_a_local_stac_catalog_with_spaces_is_read_and_doctor_finds_it_well(
    good: SyntheticScene, tmp_path: Path, pixelwise_model: Path
) -> None:
    copy(good, tmp_path / "my naip" / NAME)
    item = item_of(good, "./" + NAME)
    (tmp_path / "my naip" / "my item.json").write_text(json.dumps(item))
    link = {"rel": "item", "href": "./my%20naip/my%20item.json"}
    document = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": [link]}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    catalog = StaticStacCatalog("s", str(tmp_path / "catalog.json"), ReadOptions(), JsonApi())
    assert len(catalog.scenes) == 1
    for url in (tmp_path / "catalog.json", f"file://{tmp_path / 'catalog.json'}"):
        config = tmp_path / "sources.toml"
        config.write_text(f'[[source]]\nid = "s"\ntype = "stac"\nurl = "{url}"\n')
        result = run("doctor", "--sources", config, "--model", pixelwise_model)
        assert result.exit_code == 0, result.output
        assert "FAILED" not in result.output
        assert "Everything is served." in result.output


def test_an_item_that_says_its_crs_as_projjson_alone_is_read(good: SyntheticScene) -> None:
    item = item_of(good, "https://example.org/a.tif")
    del item["properties"]["proj:epsg"]
    item["properties"]["proj:projjson"] = CRS.from_epsg(26916).to_json_dict()
    assert scene_of_item(item, ReadOptions(), "s", refusal=lambda _: None).crs == "EPSG:26916"
    item["properties"]["proj:projjson"] = {"type": "nothing"}
    with pytest.raises(UnsupportedImage, match="projjson"):
        scene_of_item(item, ReadOptions(), "s", refusal=lambda _: None)


@pytest.mark.parametrize("packed", [False, True])
def test_a_mosaicjson_may_be_packed_and_have_a_prefix(tmp_path: Path, packed: bool) -> None:
    prefix = "https://example.org/naip/"
    document = {"mosaicjson": "0.0.3", "asset_prefix": prefix, "tiles": {"0": ["a.tif", "b.tif"]}}
    text = json.dumps(document).encode()
    content = gzip.compress(text) if packed else text
    path = tmp_path / ("m.json.gz" if packed else "m.json")
    path.write_bytes(content)
    expected = ["https://example.org/naip/a.tif", "https://example.org/naip/b.tif"]
    assert sorted(in_mosaic(str(path), "m", lambda *_: b"")) == expected
    assert sorted(in_mosaic("https://x.org/m.json.gz", "m", lambda *_: content)) == expected
    document["asset_prefix"] = "sub/"
    path.write_text(json.dumps(document))
    near = sorted(in_mosaic(str(path), "m", lambda *_: b""))
    assert near == [str(tmp_path / "sub" / name) for name in ("a.tif", "b.tif")]
    there = in_mosaic("https://x.org/d/m.json", "m", lambda *_: path.read_bytes())
    assert sorted(there)[0] == "https://x.org/d/sub/a.tif"


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"tiles": {}}')[:-6],
        b"\x1f\x8b\x08\x00broken",
        gzip.compress(b'{"tiles": {"0": [1]}}'),
        json.dumps({"asset_prefix": 7, "tiles": {"0": ["a.tif"]}}).encode(),
    ],
)
def test_a_damaged_mosaicjson_is_an_error_of_its_source(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json.gz").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no MosaicJSON"):
        in_mosaic(str(tmp_path / "m.json.gz"), "m", lambda *_: b"")


def test_a_mosaicjson_on_the_web_leads_to_no_local_file() -> None:
    document = json.dumps({"tiles": {"0": ["file:///etc/a.tif"]}}).encode()
    with pytest.raises(ConfigurationError, match="not on the web"):
        in_mosaic("https://example.org/m.json", "m", lambda *_: document)


@pytest.mark.parametrize("name", ["PROJ_LIB", "PROJ_DATA"])
def test_the_proj_database_of_another_installation_is_not_looked_at(
    good: SyntheticScene, tmp_path: Path, name: str
) -> None:
    """QGIS and PostGIS set these for every process of a machine."""
    (tmp_path / "proj.db").write_bytes(b"of another version")
    code = (
        "from pathlib import Path\n"
        "from app.imagery.scene import ReadOptions, inspect\n"
        f"print(inspect(Path({str(good.path)!r}), ReadOptions()).crs)\n"
        "import training, rasterio\n"
        "print(rasterio.crs.CRS.from_epsg(5070).to_epsg())\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, name: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["EPSG:26916", "5070"], result.stderr


def test_no_process_speaks_of_drivers_that_it_does_not_have() -> None:
    """The second process finds the environment of the first."""
    code = "from app.imagery import gdal; gdal.configure()\nimport app.area.vector_files, rasterio"
    environment = {**os.environ, "GDAL_SKIP": gdal.KNOBS["GDAL_SKIP"]}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("", "")
