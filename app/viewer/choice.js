// What the visitor has chosen, kept in the address bar so that a link shows the same map.

export const STYLES = { rgb: "True color", cir: "Infrared", ndvi: "NDVI" };

const DEFAULTS = {
  source: null,
  year: null,
  before: null, // the year left of the divider when two years are compared
  style: "rgb",
  landcover: true,
  opacity: 80,
  hidden: [], // class values switched off
  colormap: "landcover",
};

/** The choice with its listeners; `change` merges a patch and tells which keys became different. */
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

/** { values, camera } of an address's hash; what it does not say, or says wrongly, is left out. */
export function readHash(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const [zoom, lat, lng] = (said.get("map") ?? "").split("/");
  const camera = {
    zoom: number(zoom ?? null, 0, 24), lat: number(lat ?? null, -85, 85), lng: number(lng ?? null, -180, 180),
  };
  const values = {
    source: said.get("source") ?? undefined,
    year: number(said.get("year"), 1900, 2200),
    before: number(said.get("before"), 1900, 2200),
    style: said.get("style") in STYLES ? said.get("style") : undefined,
    landcover: said.get("landcover") === "off" ? false : undefined,
    opacity: number(said.get("opacity"), 0, 100),
    hidden: said.get("off")?.split(",").map(Number).filter(Number.isInteger),
    colormap: said.get("colors") ?? undefined,
  };
  for (const key of Object.keys(values)) if (values[key] === undefined) delete values[key];
  const placed = Object.values(camera).every((value) => value !== undefined);
  return { values, camera: placed ? { zoom: camera.zoom, center: [camera.lng, camera.lat] } : null };
}

/** The hash of a choice and a camera; defaults are left out to keep links short. */
export function writeHash(values, { zoom, center }) {
  const said = new URLSearchParams();
  const say = (name, value, fallback) => {
    if (value !== null && String(value) !== String(fallback)) said.set(name, value);
  };
  say("source", values.source);
  say("year", values.year);
  say("before", values.before);
  say("style", values.style, DEFAULTS.style);
  if (!values.landcover) said.set("landcover", "off");
  say("opacity", values.opacity, DEFAULTS.opacity);
  if (values.hidden.length) said.set("off", values.hidden.join(","));
  say("colors", values.colormap, DEFAULTS.colormap);
  const place = [zoom.toFixed(2), center.lat.toFixed(5), center.lng.toFixed(5)].join("/");
  return `#map=${place}&${said}`.replaceAll("%2C", ",");
}
