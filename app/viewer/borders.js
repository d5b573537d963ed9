// State and county borders with names, for orientation; fetched when one first looks from afar.

import { intersection, isEmpty } from "./grid.js";

const MAX_ZOOM = 12.5; // closer the lines are too coarse to be true
const MOST_NAMES = 40; // of counties; where there are more, states are named
const UNITED_STATES = [-180, 15, -64, 72];

/** Returns the borders as GeoJSON; `state` says whether a state ends there. */
export function linesOf({ grid, arcs, state }) {
  const ofStates = new Set(state);
  const features = arcs.map((arc, i) => {
    let [x, y] = [0, 0];
    const coordinates = [];
    for (let at = 0; at < arc.length; at += 2) {
      x += arc[at];
      y += arc[at + 1];
      coordinates.push([x * grid, y * grid]);
    }
    return { type: "Feature", properties: { state: ofStates.has(i) }, geometry: { type: "LineString", coordinates } };
  });
  return { type: "FeatureCollection", features };
}

export class Borders {
  #data = null; // null until it is asked for, then a promise
  #names = null; // { states, counties } once it is there
  #markers = [];

  constructor(panes, service) {
    Object.assign(this, { panes, service });
  }

  /** Draws the names of the view; fetches the borders if they would show. */
  update() {
    const map = this.panes.front;
    for (const marker of this.#markers) marker.remove();
    this.#markers = [];
    const bounds = map.getBounds();
    const box = [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
    if (map.getZoom() > MAX_ZOOM || isEmpty(intersection(box, UNITED_STATES))) return;
    this.#data ??= this.#load();
    const inView = (named = []) => named.filter(([, lng, lat]) => lng > box[0] && lng < box[2] && lat > box[1] && lat < box[3]);
    const counties = inView(this.#names?.counties);
    const named = counties.length > MOST_NAMES ? inView(this.#names.states) : counties;
    this.#markers = named.map(([name, lng, lat]) => {
      const element = Object.assign(document.createElement("span"), { className: "border-name", textContent: name });
      const marker = new window.maplibregl.Marker({ element }).setLngLat([lng, lat]).addTo(map);
      element.removeAttribute("role"); // MapLibre calls every marker a button
      element.removeAttribute("aria-label");
      element.removeAttribute("tabindex");
      return marker;
    });
  }

  async #load() {
    try {
      const data = await this.service.json(new URL("./borders.json", import.meta.url));
      this.panes.showOverlay("borders", linesOf(data));
      this.#names = data;
      this.update();
    } catch {
      this.#data = null; // the map is whole without them; the next move asks again
    }
  }
}
