// An area in the map: drawn, dropped, pasted or picked; its classes, change and files.

import { boxOf } from "./camera.js";
import { AreaJob } from "./area_job.js";
import { changeTable, classTable, make, sizeOf } from "./area_tables.js";
import { Drawing } from "./draw.js";
import { wasAborted } from "./service.js";

const FILES = { tif: "GeoTIFF", zip: "GeoTIFF with class names (zip)", csv: "Hectares (CSV)", gpkg: "Polygons (GeoPackage)" };
const TYPES = ["Feature", "FeatureCollection", "Polygon", "MultiPolygon"];

const element = (id) => document.getElementById(id);

/** Returns the GeoJSON of a text; an Error says what else it is. */
export function readGeoJson(text, name = "This text") {
  let document;
  try {
    document = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch {
    throw new Error(`${name} is not GeoJSON. In QGIS: Export → Save Features As… → GeoJSON, EPSG:4326.`);
  }
  if (!TYPES.includes(document?.type)) throw new Error(`${name} holds ${document?.type ?? "no GeoJSON"}, not polygons.`);
  return document;
}

const geometriesOf = (area) => (area.features ?? [area]).map((each) => (each.type === "Feature" ? each.geometry : each)).filter((each) => each?.coordinates);

function nameOf(area) {
  const features = area.features ?? [area];
  if (features.length > 1) return `${features.length} areas`;
  const { properties, id } = features[0] ?? {};
  return String(properties?.name ?? properties?.NAME ?? id ?? "Your area");
}

export class Area {
  #area = null;
  #controller = null;

  /** `getShown()`: { source, year }; `panes` draws the outline; `fit(box)` moves the map there. */
  constructor(service, legend, panes, { getShown, fit }) {
    Object.assign(this, { service, legend, panes, getShown, fit });
    this.result = element("area-result");
    this.note = element("area-note");
    this.drawing = new Drawing(panes.front, {
      onShow: (shown) => panes.showOverlay("drawing", shown),
      onDone: (geometry) => {
        this.#showDrawing();
        if (geometry) this.show(geometry);
      },
    });
    this.job = new AreaJob(service, (statistics) => this.#showStatistics(statistics));
    element("area-draw").addEventListener("click", () => {
      if (this.drawing.active) this.drawing.finish();
      else {
        this.drawing.begin();
        this.#showDrawing();
      }
    });
    element("area-pick").addEventListener("click", () => element("area-file").click());
    element("area-file").addEventListener("change", ({ target }) => {
      this.#read(target.files[0]);
      target.value = "";
    });
    element("area-clear").addEventListener("click", () => this.clear());
    document.body.dataset.area = "none";
    this.#acceptDrops();
    document.addEventListener("paste", (event) => {
      if (/input|textarea/i.test(event.target.tagName)) return;
      const text = event.clipboardData.getData("text");
      if (text.trim()) this.#accept(() => readGeoJson(text, "The pasted text"));
    });
  }

  #showDrawing() {
    const { active } = this.drawing;
    element("area-draw").textContent = active ? "Finish" : "Draw";
    this.note.textContent = active ? "Click each corner, then Finish. With the keyboard: Enter sets a corner at the cross, Shift+Enter finishes, Esc gives up." : "";
  }

  #acceptDrops() {
    const { body } = document;
    const over = (event) => {
      event.preventDefault();
      body.classList.add("dropping");
    };
    window.addEventListener("dragover", over);
    window.addEventListener("dragleave", (event) => event.relatedTarget ?? body.classList.remove("dropping"));
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      body.classList.remove("dropping");
      const { files } = event.dataTransfer;
      if (files.length) this.#read(files[0]);
      else this.#accept(() => readGeoJson(event.dataTransfer.getData("text"), "What was dropped"));
    });
  }

  async #read(file) {
    if (!file) return;
    const text = await file.text();
    this.#accept(() => readGeoJson(text, file.name));
  }

  #accept(read) {
    try {
      const area = read();
      this.fit(boxOf({ coordinates: geometriesOf(area).map((each) => each.coordinates) }));
      this.show(area);
    } catch (error) {
      this.#open();
      this.note.textContent = error.message;
    }
  }

  #open() {
    element("area").hidden = false;
    element("area-details").open = true;
    element("area").scrollIntoView({ block: "nearest" });
  }

  clear() {
    this.#controller?.abort();
    this.job.forget();
    this.#area = null;
    this.panes.showOverlay("area", null);
    this.result.replaceChildren();
    this.note.textContent = "";
    element("area-clear").hidden = true;
    document.body.dataset.area = "none";
  }

  /** Shows an area; measures it if one request may, else offers a job. */
  async show(area) {
    this.clear();
    this.#area = area;
    this.panes.showOverlay("area", area);
    element("area-clear").hidden = false;
    this.#open();
    await this.update();
  }

  #query(more = {}) {
    const { source, year } = this.getShown();
    return new URLSearchParams({ source: source.id, year, ...more });
  }

  /** Measures the area again: after another year or source has been selected. */
  async update() {
    if (!this.#area) return;
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    const { signal } = controller;
    document.body.dataset.area = "measuring";
    this.result.classList.add("waiting");
    this.note.textContent = "Measuring …";
    try {
      const cost = await (await this.service.post(`estimate?${this.#query()}`, this.#area, { signal })).json();
      if (cost.blocks > cost.limit_blocks) {
        this.result.replaceChildren(make("b", {}, nameOf(this.#area)), this.job.offer(this.#area, this.getShown(), cost));
        this.#report("");
        document.body.dataset.area = "large";
        return;
      }
      if (cost.blocks > cost.cached) this.note.textContent = `Measuring: ${cost.blocks - cost.cached} of ${cost.blocks} blocks are new, about ${Math.max(1, Math.round(cost.seconds))} s …`;
      const answer = await (await this.service.post(`statistics?${this.#query()}`, this.#area, { signal })).json();
      this.#showStatistics(answer.totals ?? answer.properties.statistics);
    } catch (error) {
      if (wasAborted(error)) return;
      this.result.replaceChildren();
      this.#report([error.message, error.detail, error.body?.hint].filter(Boolean).join(". "));
      document.body.dataset.area = "failed";
    }
  }

  #report(text) {
    this.result.classList.remove("waiting");
    this.note.textContent = text;
  }

  #showStatistics(statistics) {
    const { source, year } = this.getShown();
    const parts = [
      make("p", { className: "area-name" }, make("b", {}, nameOf(this.#area)), ` ${sizeOf(statistics.area)}, ${year}`),
      classTable(statistics, this.legend),
    ];
    if (source.years.length > 1 && geometriesOf(this.#area).length === 1) parts.push(this.#changeControl(source, year));
    parts.push(this.#downloads());
    this.result.replaceChildren(...parts);
    this.#report("");
    document.body.dataset.area = "ready";
  }

  #changeControl(source, year) {
    const others = source.years.filter((other) => other !== year);
    const select = make("select", { ariaLabel: `Change between ${year} and` }, ...others.map((other) => new Option(other, other)));
    select.value = others.filter((other) => other < year).at(-1) ?? others[0];
    const table = make("div", {});
    const button = make("button", { type: "button", className: "plain-button" }, "Show change");
    button.addEventListener("click", async () => {
      const [from, to] = [Number(select.value), year].sort((a, b) => a - b);
      await this.#busy(button, async () => {
        const change = await (await this.service.post(`change?${this.#query({ from, to })}`, this.#area)).json();
        const file = make("button", { type: "button", className: "plain-button" }, `Change ${from}–${to} (zip)`);
        file.addEventListener("click", () => this.#busy(file, () => this.#download("change.zip", { from, to })));
        table.replaceChildren(changeTable(change, this.legend), file);
      });
    });
    return make("div", { className: "area-change" }, make("label", { className: "row" }, make("span", { className: "name" }, "Change since"), select, button), table);
  }

  #downloads() {
    const buttons = Object.entries(FILES).map(([suffix, title]) => {
      const button = make("button", { type: "button", className: "plain-button", value: suffix }, title);
      const [path, more] = suffix === "csv" ? ["statistics", { f: "csv" }] : [`feature.${suffix}`, {}];
      button.addEventListener("click", () => this.#busy(button, () => this.#download(path, more)));
      return button;
    });
    return make("div", { className: "area-files" }, make("span", { className: "name" }, "Download"), ...buttons);
  }

  async #busy(button, work) {
    const text = button.textContent;
    Object.assign(button, { disabled: true, textContent: `${text} …` });
    this.note.textContent = "";
    try {
      await work();
    } catch (error) {
      this.note.textContent = [error.message, error.detail].filter(Boolean).join(". ");
    } finally {
      Object.assign(button, { disabled: false, textContent: text });
    }
  }

  async #download(path, more) {
    const response = await this.service.post(`${path}?${this.#query(more)}`, this.#area);
    const named = /filename="?([^"]+)"?/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: named ?? `${path.replace(".", "-")}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}
