// The HTTP client of the land cover service: addresses, retries, problems, activity.
// All addresses are relative to the page, so the service can be published under any path.

const BASE = new URL("./", document.baseURI).href;
const MAX_ATTEMPTS = 5;
const MAX_WAIT_S = 8;

/** A failed request, in the terms of RFC 9457 (application/problem+json). */
export class Problem extends Error {
  constructor(title, detail = "", status = 0) {
    super(title);
    this.name = "Problem";
    this.title = title;
    this.detail = detail;
    this.status = status;
  }

  static async of(response) {
    const fallback = new Problem("The service answered with an error", `HTTP ${response.status}`, response.status);
    if (!/json/.test(response.headers.get("Content-Type") ?? "")) return fallback;
    const body = await response.json().catch(() => ({}));
    const detail = typeof body.detail === "string" ? body.detail : "";
    return body.title ? new Problem(body.title, detail, response.status) : fallback;
  }
}

export const wasAborted = (error) => error?.name === "AbortError";

/** Waits, or rejects as fetch does when the signal fires first. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Returns the seconds to wait after `attempt`: the server's Retry-After, else doubling, with jitter. */
function retryDelay(response, attempt) {
  const retryAfter = Number(response.headers.get("Retry-After"));
  const wait = Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : 0.5 * 2 ** attempt;
  return Math.min(wait, MAX_WAIT_S) * (0.8 + 0.4 * Math.random());
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

  /** Returns the response of a path below the service's root; retries while the server is busy. */
  async get(path, signal) {
    this.#count(+1);
    try {
      for (let attempt = 0; ; attempt += 1) {
        const response = await fetch(BASE + path, { signal });
        if (response.ok) return response;
        const busy = response.status === 503 || response.status === 429;
        if (!busy || attempt + 1 >= MAX_ATTEMPTS) throw await Problem.of(response);
        await pause(retryDelay(response, attempt), signal);
      }
    } catch (error) {
      if (error instanceof TypeError) {
        throw new Problem("The service cannot be reached", "Check the connection, then try again.");
      }
      throw error;
    } finally {
      this.#count(-1);
    }
  }

  async json(path, signal) {
    return (await this.get(path, signal)).json();
  }

  async bytes(path, signal) {
    return (await this.get(path, signal)).arrayBuffer();
  }

  sources = async () => (await this.json("sources")).sources;
  legend = () => this.json("legend");
  model = () => this.json("model");
  footprints = (source) => this.json(`sources/${encodeURIComponent(source)}/footprints`);

  point(lngLat, source, year, { probabilities = false, signal } = {}) {
    const query = new URLSearchParams({ source, year });
    if (probabilities) query.set("probabilities", "true");
    return this.json(`point/${lngLat.lng.toFixed(7)},${lngLat.lat.toFixed(7)}?${query}`, signal);
  }
}

/** Returns the path of land cover tiles; MapLibre or the caller fills in `{z}/{x}/{y}`. */
export function classesPath({ source, year, classes, colormap }, ending = "{ratio}.png") {
  const query = new URLSearchParams({ source, year });
  if (classes) query.set("classes", classes.join(","));
  if (colormap) query.set("colormap_name", colormap);
  const shown = query.toString().replaceAll("%2C", ",");
  return `tiles/WebMercatorQuad/{z}/{x}/{y}${ending}?${shown}`;
}

export function imageryPath({ source, year, style }) {
  return `imagery/tiles/WebMercatorQuad/{z}/{x}/{y}{ratio}.webp?${new URLSearchParams({ source, year, style })}`;
}

/** Returns the absolute URL of a path, for use in other programs. */
export const addressOf = (path) => BASE + path;
