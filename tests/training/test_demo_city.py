"""Demo City: dense, wholly labeled, the same on every run; its cameras see one ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from training.synthetic import demo_city

pytestmark = pytest.mark.timeout(300)  # drawing it takes some 15 s of a core

BUILDING, ROAD, WATER, OPEN, FOREST, PLANTED = range(1, 7)


@pytest.mark.slow
def test_the_city_is_dense_wholly_labeled_and_seen_alike_by_its_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = {year: demo_city.CAMERAS[year] for year in (2016, 2018)}
    monkeypatch.setattr(demo_city, "CAMERAS", two)
    images = demo_city.write_city(tmp_path)
    assert [path.parent.name for path in images] == ["2016", "2018"]
    truths, seen = [], []
    for path in images:
        with rasterio.open(path) as source:
            assert (source.count, source.dtypes[0], source.res) == (4, "uint8", (1, 1))
            seen.append(source.read())
            place = source.transform
        with rasterio.open(tmp_path / "truth" / f"{path.stem}_label.tif") as source:
            truths.append(source.read(1))
            assert source.transform == place
    assert (truths[0] == truths[1]).all()
    assert all((image > 0).all() for image in seen)
    truth = truths[0]
    shares = np.bincount(truth.ravel(), minlength=7) / truth.size
    assert shares[0] == 0
    assert (shares[1:] > 0.002).all()
    assert shares[BUILDING] + shares[ROAD] > 0.5
    for image in seen:
        red, infrared = image[0].astype(float), image[3].astype(float)
        greenness = (infrared - red) / (infrared + red)
        means = [greenness[truth == value].mean() for value in range(1, 7)]
        assert min(means[FOREST - 1], means[PLANTED - 1]) > 0.1
        assert max(means[BUILDING - 1], means[ROAD - 1], means[WATER - 1]) < 0.05
    # Other cameras: the same ground by other numbers.
    assert np.abs(seen[0].astype(int) - seen[1]).mean() > 5
