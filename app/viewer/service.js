// The HTTP client of the land cover service: addresses, retries, problems, activity.
// All addresses are relative to the page, so the service can be published under any path.

const BASE = new URL("./", document.baseURI).href;
const MAX_ATTEMPTS = 5;
const WAITS_S = [1, 2, 4, 8, 12];
const MAX_WAIT_S = 12;
const TEMPORARY = [0, 429, 502, 503, 504];

/** A failed request, in the terms of RFC 9457 (application/problem+json). */
export class Problem extends Error {
  /** `status` 0: no answer at all. `retryAfter`: seconds, or null. `body`: the problem document. */
  constructor(title, detail = "", { status = 0, retryAfter = null, body = {} } = {}) {
    super(title);
    this.name = "Problem";
    Object.assign(this, { title, detail, status, retryAfter, body });
  }

  /** Whether the same request may succeed later. */
  get temporary() {
    return TEMPORARY.includes(this.status);
  }

  /** Returns the seconds to wait after `attempt` failures: the server's Retry-After, else doubling, with jitter. */
  delay(attempt) {
    const wait = this.retryAfter ?? WAITS_S[Math.min(attempt, WAITS_S.length - 1)];
    return Math.min(wait, MAX_WAIT_S) * (0.9 + 0.2 * Math.random());
  }

  static async of(response) {
    const { status } = response;
    const retryAfter = retryAfterOf(response.headers.get("Retry-After"));
    const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
    const body = isJson ? await response.json().catch(() => ({})) : {};
    const title = body.title ?? (status === 504 ? "The service took too long"
      : status === 502 || status === 503 ? "The service is not available" : "The service answered with an error");
    const detail = typeof body.detail === "string" ? body.detail : `HTTP ${status}`;
    return new Problem(title, detail, { status, retryAfter, body });
  }
}

/** Returns the seconds of a Retry-After header, a number or an HTTP date; null without one. */
function retryAfterOf(text) {
  if (!text) return null;
  const seconds = /^\d+$/.test(text.trim()) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return seconds > 0 ? seconds : null;
}

export const wasAborted = (error) => error?.name === "AbortError";

/** Waits, or rejects as fetch does when the signal fires first; the network coming back ends the wait. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle) => () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      signal?.removeEventListener("abort", stop);
      settle();
    };
    const done = end(resolve);
    const stop = end(() => reject(new DOMException("aborted", "AbortError")));
    const timer = setTimeout(done, seconds * 1000);
    window.addEventListener("online", done);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop);
  });
}

export class Service {
  #inFlight = 0;
  #listeners = [];

  /** Calls `listener(inFlight)` whenever the number of requests under way changes. */
  onActivity(listener) {
    this.#listeners.push(listener);
  }

  get inFlight() {
    return this.#inFlight;
  }

  #count(step) {
    this.#inFlight += step;
    for (const listener of this.#listeners) listener(this.#inFlight);
  }

  /** Returns the response of a path below the service's root; Problem otherwise. `quiet`: no activity is shown. */
  async request(path, { quiet = false, ...init } = {}) {
    if (!quiet) this.#count(+1);
    try {
      const response = await fetch(new URL(path, BASE), init);
      if (response.ok) return response;
      throw await Problem.of(response);
    } catch (error) {
      if (error instanceof TypeError) throw new Problem("The service cannot be reached", "Check the connection.");
      throw error;
    } finally {
      if (!quiet) this.#count(-1);
    }
  }

  /** Returns the response; asks again while the problem may pass. `onWait(problem)`: ask for ever. */
  async get(path, signal, onWait = null) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.request(path, { signal });
      } catch (error) {
        if (!error.temporary || (!onWait && attempt + 1 >= MAX_ATTEMPTS)) throw error;
        onWait?.(error);
        await pause(error.delay(attempt), signal);
      }
    }
  }

  async json(path, signal, onWait) {
    return (await this.get(path, signal, onWait)).json();
  }

  /** Returns the response of a POST of GeoJSON or another JSON document. */
  post(path, document, { signal, headers = {} } = {}) {
    const body = JSON.stringify(document);
    return this.request(path, { method: "POST", body, signal, headers: { "Content-Type": "application/json", ...headers } });
  }

  /** Returns { sources, basemap }: the basemap is the operator's, or undefined. */
  sources = (onWait) => this.json("sources", undefined, onWait);
  legend = (onWait) => this.json("legend", undefined, onWait);
  model = () => this.json("model");
  footprints = (source) => this.json(`sources/${encodeURIComponent(source)}/footprints`);

  point(lngLat, source, year, { probabilities = false, signal } = {}) {
    const query = new URLSearchParams({ source, year });
    if (probabilities) query.set("probabilities", "true");
    return this.json(`point/${lngLat.lng.toFixed(7)},${lngLat.lat.toFixed(7)}?${query}`, signal);
  }
}

const TILE = "WebMercatorQuad/{z}/{x}/{y}";

/** Returns the path of tiles of `layer` as class values; MapLibre or the caller fills in the place. */
export function valuesPath({ source, layer = "class", year, before }) {
  const query = new URLSearchParams({ source });
  if (layer === "change") {
    query.set("layer", layer);
    query.set("from", before);
    query.set("to", year);
  } else {
    query.set("year", year);
    if (layer !== "class") query.set("layer", layer);
  }
  return `tiles/${TILE}{ratio}.npy?${query}`;
}

/** Returns the path of land cover tiles as pictures, for other programs. */
export const picturePath = ({ source, year }) => `tiles/${TILE}.png?${new URLSearchParams({ source, year })}`;

export const imageryPath = ({ source, year, style }) => `imagery/tiles/${TILE}{ratio}.webp?${new URLSearchParams({ source, year, style })}`;

/** Returns a template's path with its place filled in. */
export const placed = (template, { z, x, y }, ratio) => template
  .replace("{z}", z).replace("{x}", x).replace("{y}", y).replace("{ratio}", ratio);

/** Returns the absolute URL of a path, for use in other programs. */
export const addressOf = (path) => BASE + path;
