// The share of each class in the view, counted from the class tiles that cover it.
//
// Pixels are counted as the tiles give them, cut to the view and to the source. Mercator's scale
// hardly changes within one view, so shares of pixels equal shares of area to well under 1 %.

import { readNpy } from "./npy.js";
import { classesPath } from "./service.js";

const TILE = 256;
const MAX_TILES = 24;
const MIN_ZOOM = 15;
const CONCURRENCY = 4;
const NODATA = 255;

const clampLat = (lat) => Math.max(-85.05, Math.min(85.05, lat));

/** Returns the pixel position in the world at zoom z; x eastwards, y southwards. */
function pixelOf(lng, lat, z) {
  const size = TILE * 2 ** z;
  const sin = Math.sin((clampLat(lat) * Math.PI) / 180);
  return [((lng + 180) / 360) * size, (0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI)) * size];
}

/** Returns the integer pixel rectangle { x0, y0, x1, y1 } of [west, south, east, north] at zoom z. */
function rectangle([west, south, east, north], z) {
  const [x0, y0] = pixelOf(west, north, z);
  const [x1, y1] = pixelOf(east, south, z);
  return { x0: Math.floor(x0), y0: Math.floor(y0), x1: Math.ceil(x1), y1: Math.ceil(y1) };
}

/** Returns the tiles of a rectangle, each with its rows and columns inside it. */
function tilesOf({ x0, y0, x1, y1 }) {
  const tiles = [];
  for (let y = Math.floor(y0 / TILE); y * TILE < y1; y += 1) {
    for (let x = Math.floor(x0 / TILE); x * TILE < x1; x += 1) {
      tiles.push({
        x, y,
        left: Math.max(0, x0 - x * TILE), right: Math.min(TILE, x1 - x * TILE),
        top: Math.max(0, y0 - y * TILE), bottom: Math.min(TILE, y1 - y * TILE),
      });
    }
  }
  return tiles;
}

const intersection = (a, b) => [
  Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3]),
];

/** Returns { z, tiles } to count, or { why } if the view is "outside" or too "large". */
export function planShares(view, source, tileZoom) {
  const [west, south, east, north] = intersection(view, source.bounds);
  if (west >= east || south >= north) return { why: "outside" };
  const minZoom = Math.min(MIN_ZOOM, source.maxzoom);
  for (let z = Math.min(tileZoom, source.maxzoom); z >= minZoom; z -= 1) {
    const tiles = tilesOf(rectangle([west, south, east, north], z));
    if (tiles.length <= MAX_TILES) return { z, tiles };
  }
  return { why: "large" };
}

/**
 * Counts pixels per class value in the planned tiles, one Uint32Array of 256 for each of `years`.
 * A pixel without a class in any of the years is nodata in all: years are compared over the same pixels.
 */
export async function countClasses(service, plan, { source, years, signal }) {
  const counts = years.map(() => new Uint32Array(256));
  const queue = [...plan.tiles];
  const fetchTile = async (year, { x, y }) => {
    const template = classesPath({ source, year }, ".npy");
    const path = template.replace("{z}", plan.z).replace("{x}", x).replace("{y}", y);
    const { data, shape } = readNpy(await service.bytes(path, signal));
    if (shape.at(-1) !== TILE || shape.at(-2) !== TILE) throw new Error(`a class tile has the shape ${shape}`);
    return data;
  };
  const work = async () => {
    for (let tile = queue.pop(); tile; tile = queue.pop()) {
      const each = await Promise.all(years.map((year) => fetchTile(year, tile)));
      for (let row = tile.top; row < tile.bottom; row += 1) {
        for (let at = row * TILE + tile.left; at < row * TILE + tile.right; at += 1) {
          const hasData = each.every((data) => data[at] !== NODATA);
          counts.forEach((count, i) => { count[hasData ? each[i][at] : NODATA] += 1; });
        }
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return counts;
}

/** Returns tenths of a percent per class value, adding up to exactly 1000 (largest remainders); or null. */
export function sharesOf(counts, values) {
  const total = values.reduce((sum, value) => sum + counts[value], 0);
  if (!total) return null;
  const exact = values.map((value) => ({ value, tenths: (counts[value] / total) * 1000 }));
  const shares = new Map(exact.map(({ value, tenths }) => [value, Math.floor(tenths)]));
  let missing = 1000 - [...shares.values()].reduce((sum, tenths) => sum + tenths, 0);
  exact.sort((a, b) => (b.tenths % 1) - (a.tenths % 1));
  for (const { value } of exact) if (missing-- > 0) shares.set(value, shares.get(value) + 1);
  return shares;
}

export const unclassifiedShare = (counts) => {
  const total = counts.reduce((sum, n) => sum + n, 0);
  return total ? counts[NODATA] / total : 0;
};
