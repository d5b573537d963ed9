// Tiles for MapLibre: the `landcover://` protocol fetches them through the Service, which retries
// while the server is busy, and fetches a preliminary tile again while it is in view.

import { wasAborted } from "./service.js";

const SCHEME = "landcover";
const REFRESH_MS = [3000, 4000, 6000, 10000, 20000];
const DROP_AFTER_MS = 25000;

/** Returns MapLibre's tile template for a path of the service. */
export const templateOf = (path) => `${SCHEME}://${path}`;

export class Tiles {
  #preliminary = new Map(); // path → { since, rounds }
  #onPreliminary = () => {};

  /** `onProblem(problem)` is called on failures, `onPreliminary(count)` when unfinished tiles change. */
  constructor(service, { onProblem, onPreliminary }) {
    this.#onPreliminary = onPreliminary;
    window.maplibregl.addProtocol(SCHEME, async (request, controller) => {
      const path = request.url.slice(SCHEME.length + "://".length);
      try {
        const response = await service.get(path, controller.signal);
        const data = await response.arrayBuffer();
        return { data, ...this.#expiry(path, response.headers.get("X-Landcover-Quality")) };
      } catch (error) {
        if (!wasAborted(error)) onProblem(error);
        throw error;
      }
    });
    setInterval(() => this.#report(), 5000);
  }

  /** Returns an early expiry for a preliminary tile, so that MapLibre requests it again. */
  #expiry(path, quality) {
    if (!quality || quality === "full") {
      if (this.#preliminary.delete(path)) this.#report();
      return {};
    }
    const rounds = this.#preliminary.get(path)?.rounds ?? 0;
    this.#preliminary.set(path, { since: Date.now(), rounds: rounds + 1 });
    this.#report();
    const wait = REFRESH_MS[Math.min(rounds, REFRESH_MS.length - 1)];
    return { expires: new Date(Date.now() + wait).toUTCString() };
  }

  #report() {
    for (const [path, { since }] of this.#preliminary) {
      if (Date.now() - since > DROP_AFTER_MS) this.#preliminary.delete(path);
    }
    this.#onPreliminary(this.#preliminary.size);
  }
}
