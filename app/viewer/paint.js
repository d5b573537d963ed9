// Values to colors, as the service draws them.

import { NODATA } from "./grid.js";

const RAMP = [[68, 1, 84], [33, 145, 140], [253, 231, 37]]; // confidence 0, 50 and 100 %

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const word = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian RGBA

/** Returns the color of a confidence in percent: [red, green, blue]. */
export function confidenceColor(percent) {
  const [low, high, at] = percent < 50 ? [RAMP[0], RAMP[1], percent / 50] : [RAMP[1], RAMP[2], percent / 50 - 1];
  return low.map((value, i) => Math.round(value + at * (high[i] - value)));
}

/** Returns the color of every value as Uint32Array of 256 (0: transparent). `colors`: value → #rrggbb. */
export function lookUpTable({ layer, colors, hidden }) {
  const table = new Uint32Array(256);
  if (layer === "confidence") {
    for (let percent = 0; percent <= 100; percent += 1) table[percent] = word(confidenceColor(percent));
    return table;
  }
  const shown = Object.entries(colors).filter(([value]) => !hidden.includes(Number(value)));
  for (const [value, color] of shown) {
    if (layer === "class") table[Number(value)] = word(channels(color));
    else for (const from of Object.keys(colors)) if (from !== value) table[Number(from) * 10 + Number(value)] = word(channels(color));
  }
  table[NODATA] = 0;
  return table;
}

/** Returns the ImageBitmap of values { data, shape } in the colors of a table. */
export function paint({ data, shape }, table) {
  const pixels = new Uint32Array(data.length);
  for (let at = 0; at < data.length; at += 1) pixels[at] = table[data[at]];
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), shape.at(-1), shape.at(-2));
  return createImageBitmap(image);
}
