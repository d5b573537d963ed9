// Web Mercator tiles: which of them lie in a view, and where.

export const NODATA = 255;
const TILE = 256;

const clampLat = (lat) => Math.max(-85.05, Math.min(85.05, lat));

/** Returns the pixel position in the world at zoom z; x eastwards, y southwards. */
export function pixelOf(lng, lat, z) {
  const size = TILE * 2 ** z;
  const sin = Math.sin((clampLat(lat) * Math.PI) / 180);
  return [((lng + 180) / 360) * size, (0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI)) * size];
}

/** Returns [lng, lat] of a pixel position in the world at zoom z. */
export function lngLatOf(x, y, z) {
  const size = TILE * 2 ** z;
  return [(x / size) * 360 - 180, (Math.atan(Math.sinh(Math.PI * (1 - (2 * y) / size))) * 180) / Math.PI];
}

/** Returns the integer pixel rectangle { x0, y0, x1, y1 } of [west, south, east, north] at zoom z. */
function rectangle([west, south, east, north], z) {
  const [x0, y0] = pixelOf(west, north, z);
  const [x1, y1] = pixelOf(east, south, z);
  return { x0: Math.floor(x0), y0: Math.floor(y0), x1: Math.ceil(x1), y1: Math.ceil(y1) };
}

export const intersection = (a, b) => [
  Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3]),
];

export const isEmpty = ([west, south, east, north]) => west >= east || south >= north;

/** Returns the tiles { z, x, y } of a box in degrees, each with its rows and columns inside it, 0..256. */
export function tilesIn(box, z) {
  const tiles = [];
  if (isEmpty(box)) return tiles;
  const { x0, y0, x1, y1 } = rectangle(box, z);
  for (let y = Math.floor(y0 / TILE); y * TILE < y1; y += 1) {
    for (let x = Math.floor(x0 / TILE); x * TILE < x1; x += 1) {
      tiles.push({
        z, x, y,
        left: Math.max(0, x0 - x * TILE), right: Math.min(TILE, x1 - x * TILE),
        top: Math.max(0, y0 - y * TILE), bottom: Math.min(TILE, y1 - y * TILE),
      });
    }
  }
  return tiles;
}

/** Returns the GeoJSON ring of a tile cut to a box in degrees. */
export function ringOf({ z, x, y }, box) {
  const [west, north] = lngLatOf(x * TILE, y * TILE, z);
  const [east, south] = lngLatOf((x + 1) * TILE, (y + 1) * TILE, z);
  const [w, s, e, n] = intersection([west, south, east, north], box);
  return [[w, s], [e, s], [e, n], [w, n], [w, s]];
}

/** Returns the distance of a tile's middle from a place, in tiles. */
export function distanceOf({ z, x, y }, [lng, lat]) {
  const [px, py] = pixelOf(lng, lat, z);
  return Math.hypot(x + 0.5 - px / TILE, y + 0.5 - py / TILE);
}
