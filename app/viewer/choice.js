// The visitor's selections, kept in the URL so that a link opens the same map.

export const STYLES = { rgb: "True color", cir: "Infrared", ndvi: "NDVI" };

export const LAYERS = { class: "Classes", confidence: "Confidence", change: "Change" };

/** The colors of the map unless others are selected; a service without them shows its own. */
export const COLORS = "vivid";

const DEFAULTS = {
  source: null,
  year: null,
  before: null, // the year left of the divider when two years are compared
  style: "rgb",
  landcover: true,
  layer: "class", // what land cover shows: LAYERS
  opacity: 80,
  hidden: [], // class values switched off
  colormap: COLORS,
  outlines: false, // of the images
};

/** Holds the selections; `change` merges a patch and calls the listeners with the changed keys. */
export class Choice {
  #listeners = [];

  constructor(values) {
    this.values = { ...DEFAULTS, ...values };
  }

  onChange(listener) {
    this.#listeners.push(listener);
  }

  change(patch) {
    const keys = Object.keys(patch).filter(
      (key) => JSON.stringify(patch[key]) !== JSON.stringify(this.values[key]),
    );
    if (!keys.length) return;
    this.values = { ...this.values, ...patch };
    for (const listener of this.#listeners) listener(this.values, new Set(keys));
  }
}

const number = (text, low, high) => {
  const value = Number(text);
  return text !== null && text !== "" && value >= low && value <= high ? value : undefined;
};

/** Returns { values, camera } of a URL hash; missing and invalid entries are left out. */
export function readHash(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const [zoom, lat, lng] = (query.get("map") ?? "").split("/");
  const camera = {
    zoom: number(zoom ?? null, 0, 24), lat: number(lat ?? null, -85, 85), lng: number(lng ?? null, -180, 180),
  };
  const values = {
    source: query.get("source") ?? undefined,
    year: number(query.get("year"), 1900, 2200),
    before: number(query.get("before"), 1900, 2200),
    style: query.get("style") in STYLES ? query.get("style") : undefined,
    landcover: query.get("landcover") === "off" ? false : undefined,
    layer: query.get("layer") in LAYERS ? query.get("layer") : undefined,
    opacity: number(query.get("opacity"), 0, 100),
    outlines: query.get("outlines") === "on" ? true : undefined,
    hidden: query.get("off")?.split(",").map(Number).filter(Number.isInteger),
    colormap: query.get("colors") ?? query.get("colours") ?? undefined, // "colours": in links made before this spelling
  };
  for (const key of Object.keys(values)) if (values[key] === undefined) delete values[key];
  const placed = Object.values(camera).every((value) => value !== undefined);
  return { values, camera: placed ? { zoom: camera.zoom, center: [camera.lng, camera.lat] } : null };
}

/** Returns the hash of the selections and a camera; defaults are left out to keep links short. */
export function writeHash(values, { zoom, center }) {
  const query = new URLSearchParams();
  const set = (name, value, fallback) => {
    if (value !== null && String(value) !== String(fallback)) query.set(name, value);
  };
  set("source", values.source);
  set("year", values.year);
  set("before", values.before);
  set("style", values.style, DEFAULTS.style);
  if (!values.landcover) query.set("landcover", "off");
  set("layer", values.layer, DEFAULTS.layer);
  if (values.outlines) query.set("outlines", "on");
  set("opacity", values.opacity, DEFAULTS.opacity);
  if (values.hidden.length) query.set("off", values.hidden.join(","));
  set("colors", values.colormap, DEFAULTS.colormap);
  const place = [zoom.toFixed(2), center.lat.toFixed(5), center.lng.toFixed(5)].join("/");
  return `#map=${place}&${query}`.replaceAll("%2C", ",");
}
