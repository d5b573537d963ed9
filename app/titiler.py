"""Land cover as a rio-tiler reader, so that a titiler application serves it as any other dataset.

What it shows is what the server shows: tiles, points and pictures are composed from the same
blocks. Readers are synchronous, so the blocks are computed in an event loop of their own thread.
"""

from __future__ import annotations

import asyncio
import atexit
import math
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from threading import Lock, Thread
from typing import Any, ClassVar, Literal, TypeVar

import attr
import numpy as np
import numpy.typing as npt
from morecantile import Tile as MapTile
from morecantile import TileMatrixSet
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.features import bounds as geometry_bounds
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from rio_tiler.colormap import ColorMaps
from rio_tiler.constants import WGS84_CRS
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import BaseReader
from rio_tiler.models import BandStatistics, ImageData, Info, PointData

from app.errors import DeadlineExceeded, InvalidRequest, LandcoverError, TooLarge
from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between, transformer
from app.grid.tile import SIZES, TMS, Tile, View, native_zoom
from app.landcover.blocks import Selection
from app.render.images import Palette
from app.routes.problems import STATUS
from app.sampling.confidence import compose_confident
from app.sampling.placer import Layer
from app.sampling.points import class_at
from app.sampling.tiles import Composed, compose, plan_tile
from app.services import Services
from app.settings import Settings
from model.legend import COLORMAPS, LEGEND, NODATA
from model.windows import BLOCK, Window

Result = TypeVar("Result")
Colors = dict[int, tuple[int, int, int, int]]
Shape = tuple[int, int]

STATUS_CODES: dict[type[Exception], int] = {
    **{kind: status for kind, (status, _) in STATUS.items()},
    LandcoverError: 500,
}
"""For titiler's `add_exception_handlers`, beside its DEFAULT_STATUS_CODES."""

_ELLIPSOID = Geod(ellps="WGS84")
_MAX_SIZE = 1024
"""The longest side of a preview in pixels, as rio-tiler has it."""


class Runtime:
    """The services of a process, and the event loop in which they run, in a thread of its own."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Build the services of `settings`, by default of the environment; ConfigurationError when
        they cannot work."""
        self.services = Services(settings or Settings())
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="landcover", daemon=True)
        self._thread.start()
        self._refresh = asyncio.run_coroutine_threadsafe(self._watch(), self._loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of `work`; DeadlineExceeded, and the work cancelled, when the time of a
        request is over."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        seconds = self.services.settings.deadline_s
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise DeadlineExceeded(seconds) from None

    def close(self) -> None:
        """Stop the work in progress, the loop and the pools. Nothing happens the second time."""
        if self._loop.is_closed():
            return
        self._refresh.cancel()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.services.close()

    async def _watch(self) -> None:
        redis = self.services.landcover.cache.redis
        if redis:
            await redis.look()
        await self.services.watch()

    async def _stop(self) -> None:
        self.services.backfill.close()
        redis = self.services.landcover.cache.redis
        if redis:
            await redis.close()


_runtime: Runtime | None = None
_lock = Lock()


def default_runtime() -> Runtime:
    """Return the runtime of this process, built from the environment when it is first asked for."""
    global _runtime  # noqa: PLW0603 - one per process, as the caches are
    with _lock:
        if _runtime is None:
            _runtime = Runtime()
            atexit.register(_runtime.close)
        return _runtime


def source_path(source: str = "") -> str:
    """Return the source that a request names: a `path_dependency` of titiler's factories."""
    return source


@dataclass
class ReaderParams:
    """What a request says of the dates and the layer: a `reader_dependency` of titiler's
    factories."""

    year: str = "latest"
    datetime: str = ""
    fill: str = ""
    layer: Literal["class", "confidence"] = "class"
    min_confidence: int = 0

    def as_dict(self, exclude_none: bool = True) -> dict[str, Any]:
        """Return the reader's options."""
        return asdict(self)


def render(
    image: ImageData,
    colormap: Any = None,  # noqa: ANN401
    output_format: Any = None,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> tuple[bytes, str]:
    """Return the content and the media type of a picture: a `render_func` of titiler's factories.

    `tif` and `npy` hold values, not colors; a format that no request names is PNG and never JPEG,
    which would blur classes.
    """
    from titiler.core.resources.enums import ImageType  # noqa: PLC0415 - an extra
    from titiler.core.utils import render_image  # noqa: PLC0415

    data = (ImageType.tif, ImageType.tiff, ImageType.npy)
    shown = None if output_format in data else colormap
    result: tuple[bytes, str] = render_image(
        image, shown, output_format or ImageType.png, **options
    )
    return result


def color_maps() -> ColorMaps:
    """Return the colormaps of the legend, for titiler's `create_colormap_dependency`."""
    return ColorMaps({name: _opaque(LEGEND.colors(name)) for name in COLORMAPS})


@attr.s
class LandCoverReader(BaseReader):  # type: ignore[misc]
    """The land cover of a source: one band of uint8, 255 = nodata.

    `input`: the id of a source of the settings, the first one when empty; never a path or an
    address. `year`, `datetime`, `fill` and `min_confidence` as the server takes them; `layer`:
    `class` or `confidence`. `runtime`: the services, by default those of the environment.

    Where a picture would need more blocks than a tile may, it shows the server's estimate, and
    `metadata["quality"]` says so. UnknownName or InvalidRequest for what there is not.
    """

    input: str = attr.ib(default="")
    tms: TileMatrixSet = attr.ib(default=TMS)
    year: str = attr.ib(default="latest", kw_only=True)
    datetime: str = attr.ib(default="", kw_only=True)
    fill: str = attr.ib(default="", kw_only=True)
    layer: Layer = attr.ib(default="class", kw_only=True)
    min_confidence: int = attr.ib(default=0, kw_only=True)
    runtime: Runtime = attr.ib(factory=default_runtime, kw_only=True, repr=False)

    BAND: ClassVar[str] = "b1"

    def __attrs_post_init__(self) -> None:
        """Look the source up; the reader's ground is that of its imagery, in its CRS when it has
        one and in degrees otherwise."""
        if self.layer not in ("class", "confidence"):
            raise InvalidRequest("layer", self.layer, "`class` or `confidence`")
        if not 0 <= self.min_confidence <= 100:
            raise InvalidRequest("min_confidence", self.min_confidence, "0..100")
        services = self.runtime.services
        name = self.input or None
        self.selection: Selection = services.select(name, self.year, None, self.datetime, self.fill)
        self.source = self.selection.source
        crs_names = {grid.crs for grid in self.source.grids()}
        name = crs_names.pop() if len(crs_names) == 1 else str(WGS84_CRS)
        self.crs = CRS.from_user_input(name)
        self.bounds = bounds_between(LONLAT, name, self.source.bounds)

    @property
    def minzoom(self) -> int:
        """Return the lowest zoom that shows classes."""
        return self._zooms[0]

    @property
    def maxzoom(self) -> int:
        """Return the zoom whose pixels come nearest to those of the imagery."""
        return self._zooms[1]

    @property
    def colormap(self) -> Colors:
        """Return the color of every value."""
        if self.layer == "confidence":
            return _opaque(dict(Palette.of_confidence().colors))
        return _opaque(self.selection.session.card.legend.colors())

    def info(self) -> Info:
        """Return what the dataset holds; the band's metadata names its classes."""
        legend = self.selection.session.card.legend
        names = {str(each.value): each.title for each in legend.classes}
        return Info(
            bounds=self.bounds,
            crs=self.crs.to_string(),
            band_metadata=[(self.BAND, names if self.layer == "class" else {"unit": "percent"})],
            band_descriptions=[(self.BAND, self.layer)],
            dtype="uint8",
            nodata_type="Nodata",
            colorinterp=["palette"],
            colormap=self.colormap,
            count=1,
            nodata_value=NODATA,
            minzoom=self.minzoom,
            maxzoom=self.maxzoom,
            source=self.source.id,
            years=list(self.source.years),
            attribution=self.source.attribution,
        )

    def statistics(self, **options: Any) -> dict[str, BandStatistics]:  # noqa: ANN401
        """Return the statistics of a preview; `options` of `preview` and ImageData.statistics."""
        ours = {"indexes", "expression", "max_size", "height", "width"}
        picture = self.preview(**{name: options.pop(name) for name in ours & options.keys()})
        return dict(picture.statistics(**options))

    def tile(
        self,
        tile_x: int,
        tile_y: int,
        tile_z: int,
        tilesize: int | None = None,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        buffer: float | None = None,
        padding: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return a tile; TileOutsideBounds where there is no imagery near it.

        `padding` changes nothing, as nothing is resampled.
        """
        if not self.tile_exists(tile_x, tile_y, tile_z):
            raise TileOutsideBounds(f"Tile(x={tile_x}, y={tile_y}, z={tile_z}) is outside bounds")
        size = tilesize or int(self.tms.matrix(tile_z).tileWidth)
        if self.tms.id == TMS.id and size in SIZES and not buffer:
            view: View = Tile(tile_z, tile_x, tile_y, size)
            return self._image(view, (size, size), TMS.rasterio_crs, indexes, expression, options)
        left, bottom, right, top = self.tms.xy_bounds(MapTile(tile_x, tile_y, tile_z))
        more = buffer or 0.0
        across, up = more * (right - left) / size, more * (top - bottom) / size
        size += round(2 * more)
        return self.part(
            (left - across, bottom - up, right + across, top + up),
            bounds_crs=self.tms.rasterio_crs,
            indexes=indexes,
            expression=expression,
            height=size,
            width=size,
            **options,
        )

    def part(
        self,
        bbox: Bounds,
        dst_crs: CRS | None = None,
        bounds_crs: CRS = WGS84_CRS,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        max_size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        align_bounds_with_dataset: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return the ground of `bbox`, at the imagery's resolution unless a size is named.

        In square pixels that each show what is at their center: up to a pixel more than `bbox`.

        With `height` and `width` it is exactly `bbox`; where these make pixels that are not square,
        each shows the nearest of square ones as fine as its shorter side. InvalidRequest for an
        empty bbox, TooLarge for more pixels than the blocks of one request have.
        """
        crs = dst_crs or bounds_crs
        name = _name_of(crs)
        west, south, east, north = bbox
        ground = bounds_between(_name_of(bounds_crs), name, (west, south, east, north))
        left, bottom, right, top = ground
        if not (all(map(math.isfinite, ground)) and left < right and bottom < top):
            raise InvalidRequest("bbox", bbox, f"west < east and south < north within {name}")
        meters = _meters_per_unit(name, (left + right) / 2, (bottom + top) / 2)
        own = {grid.crs: grid for grid in self.source.grids()}.get(name)
        native = own.resolution if own else self._finest / meters
        if align_bounds_with_dataset and own:
            left, bottom, right, top = ground = own.bounds(own.touching(ground))
        step = _pixel_of((right - left, top - bottom), native, max_size, height, width)
        # Before any array: what is asked for may be the whole country.
        rows, cols = _count((top - bottom) / step), _count((right - left) / step)
        limit = self.runtime.services.settings.area_blocks * BLOCK * BLOCK
        if rows * cols > limit:
            hint = "name a smaller area, or max_size"
            raise TooLarge("the number of pixels", rows * cols, limit, hint=hint)
        view = _Picture(PixelGrid(name, step, top, left), Window(0, 0, cols, rows), step * meters)
        if height and width:
            return self._image(view, (height, width), crs, indexes, expression, options, ground)
        return self._image(view, (rows, cols), crs, indexes, expression, options)

    def preview(
        self,
        max_size: int | None = _MAX_SIZE,
        height: int | None = None,
        width: int | None = None,
        dst_crs: CRS | None = None,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return all of the source, at most `max_size` pixels on a side."""
        if height is None and width is None:
            options["max_size"] = max_size or _MAX_SIZE
        return self.part(
            self.bounds, dst_crs or self.crs, self.crs, height=height, width=width, **options
        )

    def point(
        self,
        lon: float,
        lat: float,
        coord_crs: CRS = WGS84_CRS,
        indexes: int | Sequence[int] | None = None,
        expression: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> PointData:
        """Return the value of a point, masked where there is no imagery; the scene and the date in
        the metadata."""
        _refuse(options, indexes)
        longitude, latitude = transformer(_name_of(coord_crs), LONLAT).transform(lon, lat)
        landcover = self.runtime.services.landcover
        result = self.runtime.run(class_at(landcover, self.selection, longitude, latitude))
        value, metadata = NODATA, dict[str, Any]()
        if result is not None and result.confidence >= self._minimum:
            value = result.value if self.layer == "class" else result.confidence
            scene = result.scene
            metadata = {"confidence": result.confidence}
            metadata |= {"scene": scene.id, "date": scene.date} if scene else {}
        data = PointData(
            np.ma.masked_equal(np.array([value], np.uint8), NODATA),
            band_names=[self.BAND],
            band_descriptions=[self.layer],
            coordinates=(lon, lat),
            crs=coord_crs,
            metadata=metadata,
        )
        return data.apply_expression(expression) if expression else data

    def feature(
        self,
        shape: dict[str, Any],
        dst_crs: CRS | None = None,
        shape_crs: CRS = WGS84_CRS,
        **options: Any,  # noqa: ANN401
    ) -> ImageData:
        """Return the pixels whose centers lie in a GeoJSON geometry or feature."""
        crs = dst_crs or shape_crs
        geometry = shape.get("geometry", shape)
        moved = transform_geom(shape_crs, crs, geometry) if crs != shape_crs else geometry
        image = self.part(geometry_bounds(moved), crs, crs, **options)
        outside = geometry_mask([moved], (image.height, image.width), image.transform)
        image.cutline_mask = outside
        image.array.mask = image.array.mask | outside
        return image

    @property
    def _finest(self) -> float:
        """The smallest pixel of the work grids, meters."""
        return min((grid.resolution for grid in self.source.grids()), default=1.0)

    @property
    def _zooms(self) -> tuple[int, int]:
        lowest, native = self.source.zooms
        if self.tms.id == TMS.id:
            return lowest, native
        _, south, _, north = self.source.bounds
        meters = TMS.matrix(native).cellSize * math.cos(math.radians((south + north) / 2))
        at = (self.bounds[0] + self.bounds[2]) / 2, (self.bounds[1] + self.bounds[3]) / 2
        name = _name_of(self.tms.rasterio_crs)
        x, y = transformer(_name_of(self.crs), name).transform(*at)
        finest = self.tms.zoom_for_res(meters / _meters_per_unit(name, x, y))
        return max(0, finest - (native - lowest)), finest

    @property
    def _minimum(self) -> int:
        return self.min_confidence if self.layer == "class" else 0

    def _image(
        self,
        view: View,
        shape: Shape,
        crs: CRS,
        indexes: int | Sequence[int] | None,
        expression: str | None,
        options: dict[str, Any],
        ground: Bounds | None = None,
    ) -> ImageData:
        """The values of a view as uint8 (1, rows, cols) of `shape`, masked where nodata."""
        _refuse(options, indexes)
        composed = self.runtime.run(self._compose(view))
        values = _nearest(composed.placed.values, shape)
        image = ImageData(
            np.ma.masked_equal(values[None], NODATA, copy=False),
            assets=[self.source.id],
            bounds=ground or view.bounds,
            crs=crs,
            nodata=NODATA,
            band_names=[self.BAND],
            band_descriptions=[self.layer],
            metadata={
                "quality": "full" if composed.is_exact else "estimate",
                "scenes": [scene.id for scene in composed.placed.scenes][:20],
            },
        )
        return image.apply_expression(expression) if expression else image

    async def _compose(self, view: View) -> Composed:
        services = self.runtime.services
        how: dict[str, Any] = {
            "budget": services.settings.block_budget,
            "backfill": services.backfill,
        }
        plan = await plan_tile(services.landcover, [self.selection], view)
        if self._minimum:
            return await compose_confident(services.landcover, plan, self._minimum, **how)
        return await compose(services.landcover, plan, self.layer, **how)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A window of any grid, as `View` has it."""

    grid: PixelGrid
    window: Window
    ground_resolution: float

    @property
    def bounds(self) -> Bounds:
        return self.grid.bounds(self.window)

    @property
    def lonlat_bounds(self) -> Bounds:
        return bounds_between(self.grid.crs, LONLAT, self.bounds)

    @property
    def z(self) -> int:
        _, south, _, north = self.lonlat_bounds
        return native_zoom(self.ground_resolution, (south + north) / 2)


def _opaque(colors: dict[int, tuple[int, int, int]]) -> Colors:
    return {value: (*color, 255) for value, color in colors.items()}


def _refuse(options: dict[str, Any], indexes: int | Sequence[int] | None) -> None:
    """Raise InvalidRequest for what would change a class: nothing is resampled or rescaled."""
    for name in ("nodata", "unscale", "resampling_method", "reproject_method"):
        value = options.get(name)
        if value not in (None, False, "nearest"):
            raise InvalidRequest(name, value, "nothing, as classes are never resampled,")
    if indexes is not None and tuple(np.atleast_1d(indexes)) != (1,):
        raise InvalidRequest("bidx", indexes, "1")


@lru_cache(maxsize=64)
def _name_of(crs: CRS) -> str:
    """Return a CRS as PixelGrid names it."""
    return str(crs.to_string())


def _meters_per_unit(crs: str, x: float, y: float) -> float:
    """Return the meters on the ground of one unit northward at a point of `crs`."""
    step = 1e-4 if CRS.from_user_input(crs).is_geographic else 1.0
    inverse = transformer(crs, LONLAT).transform
    (lon, lon_up), (lat, lat_up) = inverse(np.array([x, x]), np.array([y - step, y + step]))
    _, _, meters = _ELLIPSOID.inv(lon, lat, lon_up, lat_up)
    return float(meters) / (2 * step)


def _pixel_of(
    ground: tuple[float, float],
    native: float,
    max_size: int | None,
    height: int | None,
    width: int | None,
) -> float:
    """Return the pixel of a picture of `ground`, (across, down), in the same units as `native`."""
    across, down = ground
    sides = [side / count for side, count in ((across, width), (down, height)) if count]
    if sides:
        return min(sides)
    return max(native, max(across, down) / max_size) if max_size else native


def _count(pixels: float) -> int:
    """Return whole pixels, at least one; what rounding alone adds is none."""
    return max(1, math.ceil(pixels - 1e-6))


def _nearest(values: npt.NDArray[np.uint8], shape: Shape) -> npt.NDArray[np.uint8]:
    """Return (rows, cols) of `shape` from the square pixels of the same ground: at each center."""
    if values.shape == shape:
        return values
    indices = [
        np.minimum((np.arange(n) + 0.5) * have / n, have - 1).astype(np.intp)
        for n, have in zip(shape, values.shape, strict=True)
    ]
    return np.ascontiguousarray(values[np.ix_(*indices)])
