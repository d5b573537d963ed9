"""Reading labeled imagery: what fits is read as it is, what does not is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from training.data.resolution import read_at
from training.data.scenes import Scene, quarter, read_chips, read_county
from training.errors import LabelError

MakeScene = Callable[..., Scene]


def write(path: Path, pixels: NDArray[np.uint8], scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(pixels),
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        crs="EPSG:26916",
        transform=scene.transform,
    ) as target:
        target.write(pixels)


def chip_list(folder: Path, image: str = "a.tif", label: str = "a_label.tif") -> Path:
    index = folder / "chips.csv"
    index.write_text(
        f"place,image,label,resolution_m,epsg,year\nhere,{image},{label},0.6,26916,2016\n"
    )
    return index


def test_a_chip_is_read_as_it_lies(make_scene: MakeScene, tmp_path: Path) -> None:
    synthetic = make_scene(resolution=0.6, size=100)
    write(tmp_path / "a.tif", synthetic.image, synthetic)
    write(tmp_path / "a_label.tif", synthetic.label[None], synthetic)
    (scene,) = read_chips(chip_list(tmp_path))
    assert (scene.image == synthetic.image).all()
    assert (scene.label == synthetic.label).all()
    assert (scene.place, scene.year, scene.resolution) == ("here", "2016", 0.6)
    assert scene.epsg == 26916
    assert scene.bounds == synthetic.bounds
    assert read_chips(chip_list(tmp_path), without=["here"]) == []


def test_the_county_is_read_in_every_year_with_its_truth(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    synthetic = make_scene()
    image = synthetic.image.copy()
    image[:, :, :10] = 0  # a collar
    for year in ("2013", "2017"):
        stem = f"m_3308712_se_16_1_{year}0701"
        write(tmp_path / year / f"{stem}.tif", image, synthetic)
        write(tmp_path / "truth" / f"{stem}_label.tif", synthetic.label[None], synthetic)
    scenes = read_county(tmp_path)
    assert [s.year for s in scenes] == ["2013", "2017"]
    assert all(s.synthetic and quarter(s) == "se" for s in scenes)
    assert (scenes[0].label[:, :10] == 0).all()
    assert (scenes[0].label[:, 10:] == synthetic.label[:, 10:]).all()
    (tmp_path / "truth" / f"{scenes[0].name}_label.tif").unlink()
    with pytest.raises(LabelError, match=r"_label\.tif is missing"):
        read_county(tmp_path)


def test_what_does_not_fit_is_named(make_scene: MakeScene, tmp_path: Path) -> None:
    synthetic = make_scene()
    with pytest.raises(LabelError, match="no list of chips"):
        read_chips(tmp_path / "none.csv")
    with pytest.raises(LabelError, match=r"a\.tif is missing"):
        read_chips(chip_list(tmp_path))
    write(tmp_path / "a.tif", synthetic.image[:3], synthetic)
    write(tmp_path / "a_label.tif", synthetic.label[None], synthetic)
    with pytest.raises(LabelError, match="3 bands"):
        read_chips(chip_list(tmp_path))
    write(tmp_path / "a.tif", synthetic.image, synthetic)
    write(tmp_path / "a_label.tif", synthetic.label[None, :64], synthetic)
    with pytest.raises(LabelError, match=r"\(64, 96\)"):
        read_chips(chip_list(tmp_path))
    with pytest.raises(LabelError, match="no <year>"):
        read_county(tmp_path)


def test_finer_imagery_is_averaged_onto_the_ground_resolution(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    synthetic = make_scene(size=120, resolution=0.5)
    write(tmp_path / "a.tif", synthetic.image, synthetic)
    read = read_at(tmp_path / "a.tif", 1.0, 0.5)
    means = synthetic.image.reshape(4, 60, 2, 60, 2).mean(axis=(2, 4))
    assert read.shape == (4, 60, 60)
    assert np.abs(read - means).max() <= 0.5
