// Counts the class shares of the view after each move; a count that is out of date is dropped.

import { wasAborted } from "./service.js";
import { countClasses, planShares, sharesOf, unclassifiedShare } from "./shares.js";

const DEBOUNCE_MS = 450;
const NOTES = {
  large: "Zoom in to see shares.",
  outside: "This view is outside the imagery.",
  empty: "No classified pixels in this view.",
};

export class ShareCounter {
  #timer = 0;
  #controller = null;
  #state = "waiting"; // waiting | counting | ready | none | failed; mirrored in <body data-shares>

  /** `getView()` returns { view, tileZoom, source, year, before } when counting starts. */
  constructor(service, legend, getView, onState) {
    this.service = service;
    this.legend = legend;
    this.getView = getView;
    this.onState = onState;
  }

  get settled() {
    return ["ready", "none", "failed"].includes(this.#state);
  }

  /** Stops counting and starts again when the view or the year has stopped changing. */
  restart() {
    this.stop();
    this.#timer = setTimeout(() => this.#count(), DEBOUNCE_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
    this.#setState("waiting");
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

  async #count() {
    const { view, tileZoom, source, year, before } = this.getView();
    const plan = planShares(view, source, tileZoom);
    if (plan.why) return this.#none(plan.why);
    const controller = new AbortController();
    this.#controller = controller;
    const { signal } = controller;
    this.legend.wait("Counting pixels …");
    this.#setState("counting");
    try {
      const years = before ? [year, before] : [year];
      const [now, then] = await countClasses(this.service, plan, { source: source.id, years, signal });
      if (signal.aborted) return undefined;
      this.#showCounts(now, then, { year, before });
    } catch (error) {
      if (wasAborted(error) || signal.aborted) return undefined;
      controller.abort();
      this.legend.clearShares(`Counting the shares failed: ${error.message}.`);
      this.#setState("failed");
    }
    return undefined;
  }

  #showCounts(now, then, { year, before }) {
    const shares = sharesOf(now, this.legend.values);
    if (!shares) {
      this.#none("empty");
      return;
    }
    const earlier = then ? sharesOf(then, this.legend.values) : null;
    const missing = Math.round(unclassifiedShare(now) * 100);
    const rest = missing ? ` ${missing} % of the view is not classified${before ? " in both years" : ""}.` : "";
    const change = earlier ? `, and the change since ${before} in percentage points` : "";
    this.legend.showShares(shares, {
      earlier, since: before, note: `Of the classified pixels in view, ${year}${change}.${rest}`,
    });
    this.#setState("ready");
  }
}
