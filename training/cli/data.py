"""The commands that prepare training data: labels, mosaic, chips, split, uncertain, demo-city."""

# ruff: noqa: PLC0415 (--help does not wait for rasterio)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.cli.options import (
    NAIP_BANDS,
    WEIGHTS,
    BandNames,
    LegendFile,
    Threads,
    Weights,
)

Imagery = Annotated[Path, typer.Argument(help="an image, or a folder of them")]


def labels(
    imagery: Imagery,
    source: Annotated[
        Path, typer.Argument(help="GeoPackage, GeoJSON, Shapefile, or a label raster")
    ],
    *,
    out: Annotated[Path, typer.Option(help="folder for the label rasters")] = Path("labels"),
    field: Annotated[str, typer.Option(help="field that holds the class")] = "classvalue",
    crosswalk: Annotated[
        str, typer.Option(help="legend, chesapeake, chesapeake_lila, nlcd, cdl, or a .toml")
    ] = "legend",
    layer: Annotated[str | None, typer.Option(help="layer, where there are several")] = None,
    image_field: Annotated[
        str | None, typer.Option(help="field that names the image a feature was drawn on")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="meters around a point that get its class")
    ] = None,
    corrections: Annotated[
        list[Path] | None,
        typer.Option(help="features that override the others, as `uncertain` writes; repeatable"),
    ] = None,
    legend: LegendFile = None,
    bands: BandNames = NAIP_BANDS,
) -> None:
    """Rasterize polygons, points or another label raster onto the pixels of the imagery."""
    from model.legend import LEGEND
    from training.config.legend import read_bands, read_legend
    from training.data.labels import LabelSettings, label

    settings = LabelSettings(
        source=source, field=field, crosswalk=crosswalk, layer=layer, image_field=image_field,
        radius_m=radius, corrections=tuple(corrections or ()),
    )  # fmt: skip
    classes = read_legend(legend) if legend else LEGEND
    count = len(read_bands(bands))
    report = label(imagery, settings, out, typer.echo, legend=classes, bands=count)
    for line in report.lines():
        typer.echo(line)


def mosaic(
    imagery: Imagery,
    *,
    out: Annotated[Path, typer.Option(help="a .gpkg, or a folder for two .geojson")] = Path(
        "mosaic.gpkg"
    ),
) -> None:
    """Write boundary and footprints of a folder of imagery."""
    from training.data.mosaic import mosaic as write

    for path in write(imagery, out):
        typer.echo(str(path))


def chips(
    imagery: Annotated[
        Path, typer.Argument(help="an image, a folder of them, or a list of labeled chips (.csv)")
    ],
    labels: Annotated[
        Path | None, typer.Argument(help="folder of <name>_label.tif; not for a list")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="folder for the chips; replaced")] = Path("chips"),
    size: Annotated[int, typer.Option(help="side of a chip, pixels")] = 256,
    stride: Annotated[int, typer.Option(help="pixels from chip to chip")] = 64,
    max_background: Annotated[float, typer.Option(help="largest share of unlabeled pixels")] = 0.5,
    place: Annotated[
        str, typer.Option(help="place of all chips; default: the image's folder")
    ] = "",
    legend: LegendFile = None,
    bands: BandNames = NAIP_BANDS,
) -> None:
    """Cut labeled imagery into chips: one HDF5 file for each class, and a manifest."""
    from model.legend import LEGEND
    from training.config.legend import read_bands, read_legend
    from training.data.chips import ChipSettings, cut
    from training.progress import progress_bar

    settings = ChipSettings(size=size, stride=stride, max_background=max_background, place=place)
    with progress_bar("chips") as bar:
        manifest = cut(
            imagery, labels, settings, out, legend=read_legend(legend) if legend else LEGEND,
            bands=read_bands(bands), log=bar.log, progress=bar.update,
        )  # fmt: skip
    for c in manifest.classes:
        typer.echo(f"{c.value} {c.name}: {c.chips:,} chips contain it, {c.pixels:,} pixels")


def split(
    chips: Annotated[Path, typer.Argument(help="folder of chips")],
    *,
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("split.json"),
    held_out: Annotated[
        list[str] | None, typer.Option(help="place that is the test; repeatable")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="meters between training, validation and test")
    ] = 64.0,
    validation_share: Annotated[
        float, typer.Option(help="share of the labeled pixels by which checkpoints are selected")
    ] = 0.15,
    test_share: Annotated[
        float, typer.Option(help="share that is the test, where --held-out names none")
    ] = 0.15,
    unit: Annotated[
        str, typer.Option(help="what sides are made of: auto, place, piece (of ground), square")
    ] = "auto",
    block: Annotated[float, typer.Option(help="side of the squares, meters")] = 512.0,
    min_places: Annotated[
        int, typer.Option(help="with fewer places, ground is split within them")
    ] = 3,
    folds: Annotated[int, typer.Option(help="folds; 0: leave one place out, each in turn")] = 0,
    seed: Annotated[int, typer.Option(help="random seed")] = 20261123,
    labels: Annotated[
        Path | None, typer.Option(help="label rasters, of which those of the test are written, too")
    ] = None,
) -> None:
    """Split chips by ground: training, validation, test, and folds for cross-validation."""
    from training.data.chip_splits import SplitSettings, share_lines_of, split_chips
    from training.data.custom_dataset import write_test_labels
    from training.data.manifest import read_manifest

    settings = SplitSettings.model_validate(
        {
            "held_out": tuple(held_out or ()), "margin_m": margin, "folds": folds, "seed": seed,
            "validation_share": validation_share, "test_share": test_share, "unit": unit,
            "block_m": block, "min_places": min_places,
        }
    )  # fmt: skip
    manifest = read_manifest(chips)
    result = split_chips(manifest, settings)
    result.write(out)
    if labels is not None:
        beside = out.with_name(out.stem + "_test")
        for path in write_test_labels(labels, manifest, result.sides, beside):
            typer.echo(f"labels of the test: {path}")
    for sides in (result.sides, *result.folds):
        typer.echo(f"{sides.name}: {sides.summary()}")
    for line in share_lines_of(manifest, result.sides):
        typer.echo(line)


def uncertain(
    imagery: Imagery,
    *,
    weights: Weights = WEIGHTS,
    out: Annotated[Path, typer.Option(help="the GeoPackage to write")] = Path("uncertain.gpkg"),
    count: Annotated[int, typer.Option(min=1, help="squares")] = 50,
    side: Annotated[float, typer.Option(min=1, help="side of a square, meters")] = 32.0,
    labels: Annotated[
        Path | None, typer.Option(help="folder of label rasters: what is labeled is left out")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Write the squares where the model is least sure, to draw on (`labels --corrections`)."""
    from model.session import Session
    from training.evaluate.uncertain import uncertain as write
    from training.progress import progress_bar

    with progress_bar("uncertain") as bar:
        write(
            Session.load(weights, threads), imagery, out, count=count, side_m=side, labels=labels,
            log=bar.log, progress=bar.update,
        )  # fmt: skip
    typer.echo(str(out))


def demo_city(
    out: Annotated[Path, typer.Argument(help="folder to write")] = Path("demo-city"),
) -> None:
    """Write Demo City: synthetic imagery of two dense towns with their true land cover."""
    from training.synthetic.demo_city import write_city

    write_city(out, progress=typer.echo)
    typer.echo(f"Wrote Demo City to {out}")
