"""The commands that make data to learn from: labels, mosaic, chips, split; and run."""

# ruff: noqa: PLC0415 (--help does not wait for rasterio)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Imagery = Annotated[Path, typer.Argument(help="an image, or a folder of them")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `python -m training`."""
    for command in (labels, mosaic, chips, split, run):
        app.command()(command)


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
        float | None, typer.Option(help="meters around a point that have its class")
    ] = None,
) -> None:
    """Put polygons, points or another label raster onto the pixels of the imagery."""
    from training.labels import LabelSettings, label

    settings = LabelSettings(
        source=source, field=field, crosswalk=crosswalk, layer=layer, image_field=image_field,
        radius_m=radius,
    )  # fmt: skip
    for line in label(imagery, settings, out, typer.echo).lines():
        typer.echo(line)


def mosaic(
    imagery: Imagery,
    *,
    out: Annotated[Path, typer.Option(help="a .gpkg, or a folder for two .geojson")] = Path(
        "mosaic.gpkg"
    ),
) -> None:
    """Write boundary and footprints of a folder of imagery."""
    from training.mosaic import mosaic as write

    for path in write(imagery, out):
        typer.echo(str(path))


def chips(
    imagery: Imagery,
    labels: Annotated[Path, typer.Argument(help="folder of <name>_label.tif")],
    *,
    out: Annotated[Path, typer.Option(help="folder for the chips; replaced")] = Path("chips"),
    size: Annotated[int, typer.Option(help="side of a chip, pixels")] = 256,
    stride: Annotated[int, typer.Option(help="pixels from chip to chip")] = 64,
    max_background: Annotated[float, typer.Option(help="largest share of unlabeled pixels")] = 0.5,
    place: Annotated[str, typer.Option(help="place of all chips; else the image's folder")] = "",
) -> None:
    """Cut labeled imagery into chips: one HDF5 file for each class, and a manifest."""
    from training.chips import cut
    from training.lattice import ChipSettings
    from training.progress import bar

    settings = ChipSettings(size=size, stride=stride, max_background=max_background, place=place)
    with bar("chips") as progress:
        manifest = cut(imagery, labels, settings, out, say=progress.say, advance=progress.to)
    for c in manifest.classes:
        typer.echo(f"{c.value} {c.name}: {c.chips:,} chips hold it, {c.pixels:,} pixels")


def split(
    chips: Annotated[Path, typer.Argument(help="folder of chips")],
    *,
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("split.json"),
    held_out: Annotated[
        list[str] | None, typer.Option(help="place that is the test; repeatable")
    ] = None,
    margin: Annotated[float, typer.Option(help="meters between sides")] = 64.0,
    folds: Annotated[int, typer.Option(help="folds; 0: leave one place out, each in turn")] = 0,
    seed: Annotated[int, typer.Option(help="of what is drawn")] = 20261123,
    labels: Annotated[
        Path | None, typer.Option(help="the label rasters: those of the test are written, too")
    ] = None,
) -> None:
    """Share chips out by ground: train, validation, test, and folds for cross-validation."""
    from training.folds import SplitSettings, split_chips
    from training.manifest import read_manifest
    from training.own import write_test_labels

    settings = SplitSettings(
        held_out=tuple(held_out or ()), margin_m=margin, folds=folds, seed=seed
    )
    manifest = read_manifest(chips)
    found = split_chips(manifest, settings)
    found.write(out)
    if labels is not None:
        beside = out.with_name(out.stem + "_test")
        for path in write_test_labels(labels, manifest, found.sides, beside):
            typer.echo(f"labels of the test: {path}")
    for sides in (found.sides, *found.folds):
        typer.echo(
            f"{sides.name}: {len(sides.train):,} chips to learn from, {len(sides.validation):,} to "
            f"choose by, {len(sides.test):,} to test, "
            f"{len(sides.dropped):,} too near to another side"
        )


def run(
    preset: Annotated[Path, typer.Argument(help="the run as TOML: see docs/training.md")],
    *,
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/own"),
) -> None:
    """All steps as one; what is finished and unchanged is skipped, what was cut off goes on."""
    from training.recipe import load_recipe
    from training.run import perform

    typer.echo(str(perform(load_recipe(preset), out)))
