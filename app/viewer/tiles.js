// All tiles of the page: which to fetch next, and again until they are there.
//
// Of classes the page fetches the values (.npy) and colors them itself, so that a filter or another
// palette costs no request and the shares are counted from what is on screen. First an estimate of
// every tile in view, then the exact classes from the middle outward; what a tile with an error
// lacks is asked for again for as long as it is in view.

import { readNpy } from "./npy.js";
import { wasAborted } from "./service.js";

const CONCURRENCY = 6; // a browser's connections to one host
const EXACT_CONCURRENCY = 4; // leaves some for what is new in view while exact classes are computed
const ESTIMATE_CONCURRENCY = 4; // leaves some for imagery, which comes at once
const MEMORY_BYTES = 96e6;
const [FIRST, EXACT, PREFETCH] = [0, 1, 2];
const PREFETCH_HEADERS = { Priority: "u=7" }; // RFC 9218: below everything else

class Entry {
  data = null; // { data, shape } of classes, an ArrayBuffer of imagery
  exact = false;
  mayBeExact = true; // whether the zoom has exact classes at all
  wanted = false; // whether it is in view
  prefetched = false; // whether it is near the view
  rank = Infinity; // distance from the middle of the view, in tiles
  exactRank = Infinity; // the same, for the exact classes
  attempts = 0;
  notBefore = 0;
  problem = null; // of the last attempt
  controller = null; // of the attempt under way
  waiters = new Set();

  constructor(path) {
    this.path = path;
    this.isImagery = path.startsWith("imagery/");
  }

  get bytes() {
    return this.data?.data?.length ?? this.data?.byteLength ?? 0;
  }
}

export class TileStore {
  #entries = new Map(); // path → Entry, least recently used first
  #listeners = [];
  #timer = 0;
  #held = 0; // time until which nothing is fetched ahead

  constructor(service) {
    this.service = service;
    window.addEventListener("online", () => this.retry());
  }

  /** Calls `listener(entry, change)` when a tile has data ("first"), better data ("better"), or a problem (null). */
  onChange(listener) {
    this.#listeners.push(listener);
  }

  /**
   * Sets what is in view and near it: [{ path, rank, exactRank, mayBeExact }] of classes; low ranks go first.
   * Requests of tiles that nobody waits for any longer are aborted.
   */
  want(view, near = []) {
    for (const entry of this.#entries.values()) entry.wanted = entry.prefetched = false;
    for (const { path, ...how } of view) Object.assign(this.#entry(path), { wanted: true, ...how });
    for (const { path, rank } of near) {
      const entry = this.#entry(path);
      if (!entry.wanted) Object.assign(entry, { prefetched: true, rank });
    }
    this.#abandon();
    this.#pump();
  }

  /** Returns the values of a tile of classes, or null. */
  peek(path) {
    return this.#entries.get(path) ?? null;
  }

  /** Returns the data of a tile as soon as there is any; rejects when aborted or refused for good. */
  data(path, signal, rank = 0) {
    const entry = this.#entry(path);
    if (entry.data) return Promise.resolve(entry.data);
    if (entry.problem && !entry.problem.temporary) return Promise.reject(entry.problem);
    if (!entry.wanted) entry.rank = rank;
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject };
      entry.waiters.add(waiter);
      signal.addEventListener("abort", () => {
        entry.waiters.delete(waiter);
        reject(new DOMException("aborted", "AbortError"));
        this.#abandon();
      });
      this.#pump();
    });
  }

  /** Asks for everything that failed again, now. */
  retry() {
    for (const entry of this.#entries.values()) {
      const { problem } = entry;
      if (problem) Object.assign(entry, { notBefore: 0, attempts: 0, problem: problem.temporary ? problem : null });
    }
    this.#pump();
  }

  /** Returns the entries that somebody looks at. */
  get view() {
    return [...this.#entries.values()].filter((entry) => entry.wanted || entry.waiters.size);
  }

  /** Returns whether nothing that is in view is missing or could become better. */
  get settled() {
    return this.view.every((entry) => this.#stage(entry) === null);
  }

  /** Returns whether anything in view is still to come, be it an estimate. */
  get isLoading() {
    return [...this.#entries.values()].some((entry) => !entry.problem && this.#stage(entry) === FIRST);
  }

  #entry(path) {
    let entry = this.#entries.get(path);
    if (entry) this.#entries.delete(path); // to the end: used last
    else entry = new Entry(path);
    this.#entries.set(path, entry);
    return entry;
  }

  #stage(entry) {
    if (entry.problem && !entry.problem.temporary) return null;
    if (!entry.data) return entry.wanted || entry.waiters.size ? FIRST : entry.prefetched ? PREFETCH : null;
    if (entry.exact || !entry.mayBeExact || entry.isImagery) return null;
    return entry.wanted ? EXACT : null;
  }

  /** Returns the entry to fetch next, or null. */
  #next() {
    const [now, entries] = [Date.now(), [...this.#entries.values()]];
    const stages = entries.map((entry) => this.#stage(entry));
    const running = (stage) => entries.filter((entry, i) => entry.controller && stages[i] === stage).length;
    const firsts = running(FIRST);
    const estimates = entries.filter((entry, i) => entry.controller && stages[i] === FIRST && !entry.isImagery).length;
    if (firsts + running(EXACT) + running(PREFETCH) >= CONCURRENCY) return null;
    const open = entries
      .map((entry, i) => ({ entry, stage: stages[i] }))
      .filter(({ entry, stage }) => stage !== null && !entry.controller && entry.notBefore <= now);
    const limit = { [FIRST]: CONCURRENCY, [EXACT]: firsts ? 0 : EXACT_CONCURRENCY, [PREFETCH]: 1 };
    for (const stage of [FIRST, EXACT, PREFETCH]) {
      if (stage === PREFETCH && (firsts || running(EXACT) || now < this.#held)) break;
      const isFull = stage === FIRST && estimates >= ESTIMATE_CONCURRENCY;
      const candidates = open.filter((each) => each.stage === stage && (!isFull || each.entry.isImagery)).map(({ entry }) => entry);
      if (candidates.length && running(stage) < limit[stage]) {
        const rank = stage === EXACT ? "exactRank" : "rank";
        return candidates.reduce((best, each) => (each[rank] < best[rank] ? each : best));
      }
      if (stage === FIRST && candidates.length) break;
    }
    return null;
  }

  #pump() {
    clearTimeout(this.#timer);
    for (let entry = this.#next(); entry; entry = this.#next()) this.#fetch(entry);
    const now = Date.now();
    const waits = [...this.#entries.values()]
      .filter((entry) => !entry.controller && this.#stage(entry) !== null && entry.notBefore > now)
      .map((entry) => entry.notBefore);
    if (this.#held > now) waits.push(this.#held);
    if (waits.length) this.#timer = setTimeout(() => this.#pump(), Math.max(20, Math.min(...waits) - now));
  }

  async #fetch(entry) {
    const stage = this.#stage(entry);
    const controller = new AbortController();
    entry.controller = controller;
    const quality = entry.isImagery ? "" : `&quality=${stage === FIRST ? "estimate" : "exact"}`;
    const quiet = stage === PREFETCH;
    const headers = quiet ? PREFETCH_HEADERS : {};
    let change = null;
    try {
      const response = await this.service.request(entry.path + quality, { signal: controller.signal, headers, quiet });
      const bytes = await response.arrayBuffer();
      const exact = response.headers.get("X-Landcover-Quality") !== "estimate";
      change = entry.data ? "better" : "first";
      Object.assign(entry, { data: entry.isImagery ? bytes : readNpy(bytes), exact, problem: null, attempts: 0 });
      for (const { resolve } of entry.waiters) resolve(entry.data);
      entry.waiters.clear();
      this.#forget();
    } catch (error) {
      if (wasAborted(error)) return;
      this.#failed(entry, stage, error);
    } finally {
      if (entry.controller === controller) entry.controller = null;
    }
    for (const listener of this.#listeners) listener(entry, change);
    this.#pump();
  }

  #failed(entry, stage, error) {
    if (stage === PREFETCH) {
      entry.prefetched = false;
      this.#held = Date.now() + 5000;
      return;
    }
    // An estimate stands where exact classes are not ready yet (503): that is no failure.
    const isQueued = stage === EXACT && error.status === 503;
    entry.problem = isQueued ? null : error;
    entry.notBefore = Date.now() + 1000 * (error.delay?.(entry.attempts) ?? 10);
    entry.attempts += 1;
    if (error.temporary) return;
    for (const { reject } of entry.waiters) reject(error);
    entry.waiters.clear();
  }

  /** Aborts what nobody waits for any longer. */
  #abandon() {
    for (const entry of this.#entries.values()) {
      if (this.#stage(entry) !== null || !entry.controller) continue;
      entry.controller.abort();
      entry.controller = null;
    }
  }

  /** Drops the least recently used tiles beyond the limit of memory. */
  #forget() {
    let bytes = [...this.#entries.values()].reduce((sum, entry) => sum + entry.bytes, 0);
    for (const [path, entry] of this.#entries) {
      if (bytes <= MEMORY_BYTES) return;
      if (entry.wanted || entry.waiters.size || entry.controller) continue;
      bytes -= entry.bytes;
      this.#entries.delete(path);
    }
  }
}
