// Counts the view whenever it or its tiles change: provisional from estimates, then exact.

import { confidenceOf, countValues, gainsOf, planShares, sharesOf, unclassifiedShare } from "./shares.js";

const DEBOUNCE_MS = 200;
const NOTES = {
  large: "Zoom in to see shares.",
  outside: "This view is outside the imagery.",
  empty: "No classified pixels in this view.",
};

export class ShareCounter {
  #timer = 0;
  #state = "waiting"; // waiting | estimate | ready | none; mirrored in <body data-shares>

  /** `getView()`: { view, tileZoom, source, layer, year, before }; `layersOf(tile)`: its entries in the store. */
  constructor(legend, getView, layersOf, onState) {
    this.legend = legend;
    this.getView = getView;
    this.layersOf = layersOf;
    this.onState = onState;
  }

  get settled() {
    return this.#state !== "waiting" && !this.#timer;
  }

  /** Counts again shortly; what is shown stays, dimmed if the view is another one. */
  update({ moved = false } = {}) {
    if (moved) {
      this.legend.wait("Counting pixels …");
      this.#setState("waiting");
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#count();
    }, DEBOUNCE_MS);
  }

  #setState(state) {
    this.#state = state;
    document.body.dataset.shares = state;
    this.onState();
  }

  #none(why) {
    this.legend.clearShares(NOTES[why]);
    this.#setState("none");
  }

  #count() {
    const shown = this.getView();
    const plan = planShares(shown.view, shown.source, shown.tileZoom);
    if (plan.why) return this.#none(plan.why);
    const entries = new Map(plan.tiles.map((tile) => [tile, this.layersOf(tile)]));
    const all = [...entries.values()].flat();
    if (all.some((entry) => !entry?.data)) {
      this.legend.wait("Counting pixels …");
      return this.#setState("waiting");
    }
    const counts = countValues(plan.tiles, (tile) => entries.get(tile).map((entry) => entry.data));
    const exact = all.every((entry) => entry.exact);
    const isShown = { class: this.#classes, change: this.#change, confidence: this.#confidence }[shown.layer]
      .call(this, counts, shown, exact);
    if (!isShown) return this.#none("empty");
    return this.#setState(exact ? "ready" : "estimate");
  }

  #classes([now, then], { year, before }, exact) {
    const shares = sharesOf(now, this.legend.values);
    if (!shares) return false;
    const earlier = then ? sharesOf(then, this.legend.values) : null;
    const missing = Math.round(unclassifiedShare(now) * 100);
    const rest = missing ? ` ${missing} % of the view is not classified${before ? " in both years" : ""}.` : "";
    const change = earlier ? `, and the change since ${before} in percentage points` : "";
    const kind = exact ? "Of the classified pixels in view" : "Estimated for this view";
    this.legend.showShares(shares, { earlier, since: before, exact, note: `${kind}, ${year}${change}.${rest}` });
    return true;
  }

  #change([counts], { year, before }, exact) {
    const result = gainsOf(counts, this.legend.values);
    if (!result) return false;
    const stayed = (result.stayed * 100).toFixed(1);
    this.legend.showShares(result.gains, {
      exact,
      note: `Share of this view that became each class between ${before} and ${year}; ${stayed} % did not change. `
        + "Edges shift by a few meters between images: trust changes wider than 5 m.",
    });
    return true;
  }

  #confidence([counts], _, exact) {
    const result = confidenceOf(counts);
    if (!result) return false;
    const unsure = (result.unsure * 100).toFixed(1);
    this.legend.clearShares(`${exact ? "Mean" : "Estimated mean"} confidence of this view ${result.mean.toFixed(0)} %; ${unsure} % of it is below 50 %.`);
    return true;
  }
}
