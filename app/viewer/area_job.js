// An area above the limit of one request: a job, with its estimate, progress and a button to stop it.

import { make } from "./area_tables.js";

const POLL_MS = 1500;
const ENDED = ["successful", "failed", "dismissed"];
const TITLES = { cog: "GeoTIFF", csv: "Hectares (CSV)", item: "STAC item", polygons: "Polygons" };

/** Returns "about 3 min" of seconds. */
const duration = (seconds) => (seconds < 90 ? `about ${Math.max(1, Math.round(seconds))} s`
  : seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${(seconds / 3600).toFixed(1)} h`);
const bytes = (count) => (count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`);

export class AreaJob {
  #timer = 0;
  #url = null; // only who has it can see or stop the job

  /** `onStatistics(document)` gets the areas of a job that has succeeded. */
  constructor(service, onStatistics) {
    Object.assign(this, { service, onStatistics });
    this.root = make("div", { className: "job" });
  }

  /** Stops looking at a job; it goes on at the server. */
  forget() {
    clearTimeout(this.#timer);
    this.#url = null;
  }

  /** Returns the offer to run an area as a job; `cost`: of POST /estimate. */
  offer(area, { source, year }, cost) {
    const button = make("button", { type: "button", className: "action" }, "Run as a job");
    button.addEventListener("click", () => this.#start(area, source, year));
    this.root.replaceChildren(
      make("p", {}, `This area needs ${cost.blocks.toLocaleString("en")} blocks of 512 × 512 pixels; one request may need ${cost.limit_blocks}. `
        + `As a job it takes ${duration(cost.seconds)} (${cost.cached.toLocaleString("en")} blocks are there already) and its GeoTIFF ${bytes(cost.bytes)}.`),
      button,
    );
    return this.root;
  }

  async #start(area, source, year) {
    try {
      const inputs = { area, source: source.id, year: String(year) };
      const response = await this.service.post("processes/classify-area/execution", { inputs }, { headers: { Prefer: "respond-async" } });
      // Behind a proxy the Location may name another host: its last part is the job's id.
      this.#url = `jobs/${response.headers.get("Location").split("/jobs/").at(-1)}`;
      this.#show(await response.json());
    } catch (error) {
      this.root.append(make("p", { className: "failed" }, [error.message, error.detail].filter(Boolean).join(". ")));
    }
  }

  async #poll() {
    const url = this.#url;
    try {
      const job = await (await this.service.get(url)).json();
      if (this.#url === url) await this.#show(job);
    } catch (error) {
      if (this.#url !== url) return;
      if (error.temporary) this.#timer = setTimeout(() => this.#poll(), 4 * POLL_MS);
      else this.root.replaceChildren(make("p", { className: "failed" }, [error.message, error.detail].filter(Boolean).join(". ")));
    }
  }

  async #show(job) {
    if (!ENDED.includes(job.status)) {
      const bar = make("progress", { max: 100, value: job.progress ?? 0, ariaLabel: "Progress of the job" });
      const stop = make("button", { type: "button", className: "plain-button" }, "Stop");
      stop.addEventListener("click", async () => {
        stop.disabled = true;
        await this.service.request(this.#url, { method: "DELETE" }).catch(() => null);
        this.#poll();
      });
      const text = job.status === "accepted" ? "Waiting for its turn …" : `${job.progress ?? 0} %`;
      // The button keeps the focus: only the figures change.
      if (this.root.querySelector("progress")) {
        this.root.querySelector("progress").value = bar.value;
        this.root.querySelector(".how-far").textContent = text;
      } else this.root.replaceChildren(bar, make("div", { className: "row" }, make("span", { className: "how-far", role: "status" }, text), stop));
      this.#timer = setTimeout(() => this.#poll(), POLL_MS);
      return;
    }
    if (job.status !== "successful") {
      this.root.replaceChildren(make("p", { className: "failed" }, job.status === "dismissed" ? "The job was stopped." : `The job failed: ${job.message ?? ""}`));
      return;
    }
    const results = await (await this.service.get(`${this.#url}/results`)).json();
    const links = Object.entries(results).filter(([, each]) => each?.href).map(([name, { href }]) => (
      make("a", { href: `${this.#url}/results/${href.split("/results/").at(-1)}`, download: "" }, TITLES[name] ?? name)));
    this.onStatistics(results.statistics);
    this.root.replaceChildren(make("span", { className: "name" }, "Files of the job"), ...links);
    document.querySelector(".area-files")?.replaceWith(this.root);
  }
}
