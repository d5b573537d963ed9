// Where imagery is: circles with counts where images are too small to see.

import { boxOf, centerOf } from "./camera.js";
import { pixelOf } from "./grid.js";

const CELL = 72; // CSS pixels: at most one circle in each
const SMALL = 20; // CSS pixels: an image that is drawn smaller gets a circle
const MOST = 200; // circles at once

/** Returns [{ lng, lat, count, box }] of boxes that are smaller than SMALL at a map zoom, near ones together. */
export function clusters(boxes, zoom) {
  const cells = new Map();
  for (const box of boxes) {
    const [west, north] = pixelOf(box[0], box[3], zoom + 1);
    const [east, south] = pixelOf(box[2], box[1], zoom + 1);
    if (Math.max(east - west, south - north) >= SMALL) continue;
    const key = `${Math.floor((west + east) / 2 / CELL)}/${Math.floor((north + south) / 2 / CELL)}`;
    const cell = cells.get(key);
    if (!cell) cells.set(key, { count: 1, box: [...box] });
    else {
      cell.count += 1;
      cell.box = [
        Math.min(cell.box[0], box[0]), Math.min(cell.box[1], box[1]), Math.max(cell.box[2], box[2]), Math.max(cell.box[3], box[3]),
      ];
    }
  }
  return [...cells.values()].map(({ count, box }) => ({ count, box, center: centerOf(box) }));
}

export class Coverage {
  #markers = [];
  #boxes = [];

  /** `onPick(box)` gets the bounds of the images of a circle. */
  constructor(map, onPick) {
    this.map = map;
    this.onPick = onPick;
  }

  /** Sets the images: those of one year. */
  show(footprints, year) {
    this.#boxes = footprints.features
      .filter(({ geometry, properties }) => geometry && properties.year === year)
      .map(({ geometry }) => boxOf(geometry));
    this.update();
  }

  /** Returns whether no image touches [west, south, east, north], although there are some. */
  isEmpty([west, south, east, north]) {
    return this.#boxes.length > 0 && !this.#boxes.some(([w, s, e, n]) => w < east && e > west && s < north && n > south);
  }

  /** Draws the circles of the view again. */
  update() {
    for (const marker of this.#markers) marker.remove();
    const bounds = this.map.getBounds();
    const inView = ([west, south, east, north]) => west < bounds.getEast() && east > bounds.getWest()
      && south < bounds.getNorth() && north > bounds.getSouth();
    this.#markers = clusters(this.#boxes.filter(inView), this.map.getZoom()).slice(0, MOST).map((cluster) => {
      const images = `${cluster.count} ${cluster.count === 1 ? "image" : "images"}`;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "cluster", textContent: cluster.count });
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        this.onPick(cluster.box);
      });
      const marker = new window.maplibregl.Marker({ element: button }).setLngLat(cluster.center).addTo(this.map);
      button.setAttribute("aria-label", `Zoom to ${images}`); // MapLibre calls every marker the same
      return marker;
    });
  }
}
