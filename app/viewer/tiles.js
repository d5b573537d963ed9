// Tiles on their way to MapLibre: the `landcover://` protocol fetches them through the Service,
// so a busy server is asked again and a preliminary tile is fetched anew while it is in view.

import { wasAborted } from "./service.js";

const SCHEME = "landcover";
const REFRESH_MS = [3000, 4000, 6000, 10000, 20000];
const FORGET_MS = 25000;

/** The template MapLibre needs for a path of the service. */
export const templateOf = (path) => `${SCHEME}://${path}`;

export class Tiles {
  #preliminary = new Map(); // path → { since, rounds }
  #onPreliminary = () => {};

  /** `onProblem(problem)` hears of failures, `onPreliminary(count)` of unfinished tiles in use. */
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
    setInterval(() => this.#tell(), 5000);
  }

  /** Preliminary tiles expire soon, and MapLibre asks for them again while they are in view. */
  #expiry(path, quality) {
    if (!quality || quality === "full") {
      if (this.#preliminary.delete(path)) this.#tell();
      return {};
    }
    const rounds = this.#preliminary.get(path)?.rounds ?? 0;
    this.#preliminary.set(path, { since: Date.now(), rounds: rounds + 1 });
    this.#tell();
    const wait = REFRESH_MS[Math.min(rounds, REFRESH_MS.length - 1)];
    return { expires: new Date(Date.now() + wait).toUTCString() };
  }

  #tell() {
    for (const [path, { since }] of this.#preliminary) {
      if (Date.now() - since > FORGET_MS) this.#preliminary.delete(path);
    }
    this.#onPreliminary(this.#preliminary.size);
  }
}
