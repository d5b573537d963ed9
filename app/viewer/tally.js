// Counts the shares of the view after each move, and drops a count the moment it is out of date.

import { wasAborted } from "./service.js";
import { countClasses, planShares, sharesOf, unclassifiedShare } from "./shares.js";

const DEBOUNCE_MS = 450;
const NOTES = {
  large: "Zoom in to see shares.",
  outside: "This view lies outside the imagery.",
  empty: "No classified pixels in this view.",
};

export class Tally {
  #timer = 0;
  #controller = null;
  #state = "waiting"; // waiting | counting | ready | none | failed; mirrored in <body data-shares>

  /** `look()` gives { view, tileZoom, source, year, before } at the time of counting. */
  constructor(service, legend, look, onState) {
    this.service = service;
    this.legend = legend;
    this.look = look;
    this.onState = onState;
  }

  get settled() {
    return ["ready", "none", "failed"].includes(this.#state);
  }

  /** The view or the year changed: stop counting, and begin again when it rests. */
  restart() {
    this.stop();
    this.#timer = setTimeout(() => this.#count(), DEBOUNCE_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
    this.#become("waiting");
  }

  #become(state) {
    this.#state = state;
    document.body.dataset.shares = state;
    this.onState();
  }

  #none(why) {
    this.legend.clearShares(NOTES[why]);
    this.#become("none");
  }

  async #count() {
    const { view, tileZoom, source, year, before } = this.look();
    const plan = planShares(view, source, tileZoom);
    if (plan.why) return this.#none(plan.why);
    const controller = new AbortController();
    this.#controller = controller;
    const { signal } = controller;
    this.legend.wait("Counting pixels …");
    this.#become("counting");
    try {
      const years = before ? [year, before] : [year];
      const [now, then] = await countClasses(this.service, plan, { source: source.id, years, signal });
      if (signal.aborted) return undefined;
      this.#tell(now, then, { year, before });
    } catch (error) {
      if (wasAborted(error) || signal.aborted) return undefined;
      controller.abort();
      this.legend.clearShares(`The shares could not be counted: ${error.message}.`);
      this.#become("failed");
    }
    return undefined;
  }

  #tell(now, then, { year, before }) {
    const shares = sharesOf(now, this.legend.values);
    if (!shares) {
      this.#none("empty");
      return;
    }
    const earlier = then ? sharesOf(then, this.legend.values) : null;
    const missing = Math.round(unclassifiedShare(now) * 100);
    const rest = missing ? ` ${missing} % of the view is not classified${before ? " in both years" : ""}.` : "";
    const change = earlier ? `, and the change since ${before} in points` : "";
    this.legend.showShares(shares, {
      earlier, since: before, note: `Of the classified pixels in view, ${year}${change}.${rest}`,
    });
    this.#become("ready");
  }
}
