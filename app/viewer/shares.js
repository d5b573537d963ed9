// The share of each class in the view, counted from the tiles that are on screen.
//
// Pixels are counted as the tiles give them, cut to the view and to the source. Mercator's scale
// hardly changes within one view, so shares of pixels equal shares of area to well under 1 %.

import { NODATA, intersection, isEmpty, tilesIn } from "./grid.js";

const TILE = 256;
const MIN_ZOOM = 15; // further out a pixel is the mode of too many

/** Returns { tiles } to count, or { why } if the view is "outside" or too "large". */
export function planShares(view, source, tileZoom) {
  const box = intersection(view, source.bounds);
  if (isEmpty(box)) return { why: "outside" };
  const z = Math.min(tileZoom, source.maxzoom);
  return z < Math.min(MIN_ZOOM, source.maxzoom) ? { why: "large" } : { tiles: tilesIn(box, z) };
}

/**
 * Counts pixels per value in tiles, one Uint32Array of 256 for each layer of a tile.
 * `layersOf(tile)`: its { data, shape } for each of the years. A pixel without data in any of them
 * is nodata in all: years are compared over the same pixels.
 */
export function countValues(tiles, layersOf) {
  let counts = null;
  for (const tile of tiles) {
    const layers = layersOf(tile);
    counts ??= layers.map(() => new Uint32Array(256));
    const size = layers[0].shape.at(-1);
    const scale = size / TILE;
    for (let row = tile.top * scale; row < tile.bottom * scale; row += 1) {
      for (let at = row * size + tile.left * scale; at < row * size + tile.right * scale; at += 1) {
        const hasData = layers.every(({ data }) => data[at] !== NODATA);
        counts.forEach((count, i) => { count[hasData ? layers[i].data[at] : NODATA] += 1; });
      }
    }
  }
  return counts ?? [new Uint32Array(256)];
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

/** Returns what became of the view between two years: gains per class value in tenths of a percent, and what stayed. */
export function gainsOf(counts, values) {
  const total = counts.reduce((sum, n, value) => (value === NODATA ? sum : sum + n), 0);
  if (!total) return null;
  const gained = (to) => values.reduce((sum, from) => sum + (from === to ? 0 : counts[from * 10 + to]), 0);
  const gains = new Map(values.map((to) => [to, Math.round((gained(to) / total) * 1000)]));
  const stayed = values.reduce((sum, value) => sum + counts[value * 11], 0) / total;
  return { gains, stayed };
}

/** Returns { mean, unsure } of confidences 0..100: their mean and the share below 50. */
export function confidenceOf(counts) {
  const known = [...counts.subarray(0, 101)];
  const total = known.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  const mean = known.reduce((sum, n, value) => sum + n * value, 0) / total;
  return { mean, unsure: known.slice(0, 50).reduce((sum, n) => sum + n, 0) / total };
}
