// What is in view: asks the store for its values, hatches what is not there yet, says how far it is.

import { distanceOf, intersection, isEmpty, ringOf, tilesIn } from "./grid.js";
import { placed } from "./service.js";
import { planShares } from "./shares.js";

const EXACT_ZOOMS = 2; // zooms below native at which the exact classes of a whole view can be waited for
const LAZY_MS = 250; // ground stays hatched until its tile has been drawn
const BLOCKS_MS = 1500; // between two looks at how many blocks are exact
const BUSY_MS = 2000; // without a change before anything is fetched ahead

export class Viewport {
  #timer = 0;
  #nearTimer = 0;
  #prefetch = () => {};
  #requestedAt = 0;
  #controller = null;
  blocks = null; // { blocks, cached } of the view, while there is something to wait for

  /** `getShown()`: { source, templates: [left, right, …of values], isDrawn: [left, right], imagery: [templates], imageryZoom }. */
  constructor(panes, store, service, getShown) {
    Object.assign(this, { panes, store, service, getShown });
    this.ratio = window.devicePixelRatio > 1 ? "@2x" : ""; // as MapLibre does
  }

  get box() {
    const bounds = this.panes.front.getBounds();
    return [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
  }

  get ground() {
    return intersection(this.box, this.getShown().source.bounds);
  }

  /** Returns the zoom of the tiles of values in view; below the source's there are none. */
  get zoom() {
    return Math.min(this.panes.tileZoom, this.getShown().source.maxzoom);
  }

  get hasValues() {
    return this.panes.tileZoom >= this.getShown().source.minzoom && !isEmpty(this.ground);
  }

  /** Whether exact classes of the view can be waited for. */
  get becomesExact() {
    return this.hasValues && this.zoom >= this.getShown().source.maxzoom - EXACT_ZOOMS;
  }

  /** Returns the entry of the store for a template and a tile, or null. */
  entry(template, tile) {
    return this.store.peek(placed(template, tile, this.ratio));
  }

  /** Asks for what is in view now; the view may be moving. */
  update() {
    const { source, templates, isDrawn, imagery, imageryZoom } = this.getShown();
    const { lng, lat } = this.panes.front.getCenter();
    const isCounted = !planShares(this.box, source, this.panes.tileZoom).why;
    const used = [...new Set(templates.filter((each, i) => each && (isCounted || isDrawn[i])))];
    const tiles = this.hasValues ? tilesIn(this.ground, this.zoom) : [];
    const wanted = (template, tile) => {
      const rank = distanceOf(tile, [lng, lat]);
      // Below native zoom the service computes what was asked for last first.
      const exactRank = tile.z < source.maxzoom ? -rank : rank;
      return { path: placed(template, tile, this.ratio), rank, exactRank, mayBeExact: this.becomesExact };
    };
    // The map asks for its imagery only when it draws, which takes long without a GPU.
    const ground = this.hasValues ? tilesIn(this.ground, Math.min(this.panes.tileZoom, imageryZoom)) : [];
    const all = [...used.flatMap((template) => tiles.map((tile) => wanted(template, tile))),
      ...imagery.flatMap((template) => ground.map((tile) => wanted(template, tile)))];
    this.store.want(all);
    this.#prefetch = () => this.#wantNear(all, used, tiles, wanted);
    this.#hatch();
    this.changed();
  }

  /** Also asks for the ring around the view and the middle of the next zoom, with idle cores only. */
  #wantNear(all, used, tiles, wanted) {
    const { source } = this.getShown();
    if (!this.store.settled || !tiles.length || !this.becomesExact) return;
    const [west, south, east, north] = this.box;
    const [dx, dy] = [(east - west) / 2, (north - south) / 2];
    const [first, last] = [tiles[0], tiles.at(-1)];
    const isInside = ({ x, y }) => x >= first.x && x <= last.x && y >= first.y && y <= last.y;
    const around = intersection([west - dx, south - dy, east + dx, north + dy], source.bounds);
    const ring = tilesIn(around, this.zoom)
      .filter((tile) => !isInside(tile) && tile.x >= first.x - 1 && tile.x <= last.x + 1 && tile.y >= first.y - 1 && tile.y <= last.y + 1);
    const middle = intersection([west + dx / 2, south + dy / 2, east - dx / 2, north - dy / 2], source.bounds);
    const next = this.zoom < source.maxzoom ? tilesIn(middle, this.zoom + 1) : [];
    const near = [...next, ...ring].flatMap((tile) => used.map((template) => wanted(template, tile)));
    this.store.want(all, near);
  }

  /** Takes note of a change: unhatches what is drawn by now, and looks ahead once nothing changes any longer. */
  changed() {
    clearTimeout(this.#nearTimer);
    this.#nearTimer = setTimeout(() => this.#prefetch(), BUSY_MS);
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#hatch();
    }, LAZY_MS);
  }

  #hatch() {
    const { source, templates, isDrawn } = this.getShown();
    const tiles = this.hasValues ? tilesIn(this.ground, this.zoom) : [];
    this.panes.showPending([0, 1].map((side) => (isDrawn[side]
      ? tiles.filter((tile) => !this.entry(templates[side], tile)?.data).map((tile) => ringOf(tile, source.bounds))
      : [])));
  }

  /** Returns how far the view is: tiles in all, without data, exact, and the problem of those that failed. */
  get progress() {
    const view = this.store.view;
    const failed = view.filter((entry) => entry.problem);
    return {
      tiles: view.length,
      empty: view.filter((entry) => !entry.data && !entry.isImagery).length,
      inexact: view.filter((entry) => !entry.isImagery && !entry.exact).length,
      missing: failed.length,
      problem: failed.at(0)?.problem ?? null,
    };
  }

  /** Asks the service how many blocks of the view are exact, at most every BLOCKS_MS; calls `then` if it answers. */
  async countBlocks(query, then) {
    if (!this.becomesExact || Date.now() - this.#requestedAt < BLOCKS_MS) return;
    this.#requestedAt = Date.now();
    this.#controller?.abort();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const geometry = { type: "Polygon", coordinates: [ringOf({ z: 0, x: 0, y: 0 }, this.ground)] };
    try {
      const { blocks, cached } = await (await this.service.post(`estimate?${query}`, geometry, { signal })).json();
      this.blocks = { blocks, cached };
      then();
    } catch { /* the pill says "Estimate" without figures */ }
  }

  forgetBlocks() {
    this.#controller?.abort();
    this.blocks = null;
    this.#requestedAt = 0;
  }
}
