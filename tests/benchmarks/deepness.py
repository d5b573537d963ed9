"""A scene of Demo County by the QGIS plugin Deepness and by `landcover classify`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from typer.testing import CliRunner

from app.cli import cli
from app.settings import SHIPPED_MODEL
from model.session import Session
from tests.benchmarks.report import Finding
from tests.training.deepness_plugin import missing, run_plugin


def measure(county: Path) -> Sequence[Finding]:
    """Percent of the pixels that get another class, with the whole context of the network around
    them; none where the plugin is not installed."""
    if reason := missing():
        print(f"deepness: {reason}", file=sys.stderr)
        return ()
    from training.export.deepness import write_deepness

    scene = next(iter(sorted((county / "2017").glob("*.tif"))))
    halo = Session.load(SHIPPED_MODEL).card.halo
    with tempfile.TemporaryDirectory(prefix="landcover-deepness-") as name:
        folder = Path(name)
        write_deepness(SHIPPED_MODEL, folder / "model.onnx")
        answer = run_plugin(folder / "model.onnx", scene, folder / "shown.npy")
        assert answer["result"] == "MapProcessingResultSuccess", answer
        done = CliRunner().invoke(cli, ["classify", str(scene), str(folder / "classes.tif")])
        assert done.exit_code == 0, done.output
        shown = np.load(folder / "shown.npy")
        with rasterio.open(folder / "classes.tif") as classes, rasterio.open(scene) as imagery:
            served, there = classes.read(1), imagery.read().any(axis=0)
            assert classes.transform == imagery.transform
    inner = _inside(there, halo)
    differs = shown != served
    edge = there & ~inner
    return (
        Finding(
            "percent of a scene's pixels that Deepness shows in another class",
            100 * float(differs[inner].mean()),
            1.0,
            False,
            f"of {int(inner.sum()):,} pixels at least {halo} px from the edge of the imagery; "
            f"{100 * differs[edge].mean():.1f} % of the others",
        ),
    )


def _inside(there: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """bool (rows, cols): no pixel without imagery within `reach` pixels, across and down."""
    outside = np.pad(~there, reach, constant_values=True).astype(np.int64)
    sums = np.pad(outside.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    side = 2 * reach + 1
    near = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(near == 0)
