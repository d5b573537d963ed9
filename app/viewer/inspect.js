// The pop-up of a clicked point: its class, the model's confidence, and the scene it comes from.

import { NARROW } from "./layout.js";
import { wasAborted } from "./service.js";

const HALF_WIDTH = 150; // of the pop-up, CSS pixels

const make = (tag, className = "", ...children) => {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
};

const LONG_DATE = new Intl.DateTimeFormat("en", { dateStyle: "long", timeZone: "UTC" });
const dateOf = (iso) => (iso ? LONG_DATE.format(new Date(iso)) : "Date unknown");

/** "40.03998° N, 76.30991° W" */
function coordinatesOf({ lng, lat }) {
  const side = (value, plus, minus) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
  return `${side(lat, "N", "S")}, ${side(lng, "E", "W")}`;
}

function gauge(label, share, color) {
  const fill = make("i");
  fill.style.width = `${share * 100}%`;
  if (color) fill.style.background = color;
  const figure = make("b", "", `${(share * 100).toFixed(share > 0 && share < 0.01 ? 1 : 0)} %`);
  return make("div", "gauge", make("span", "", label), make("span", "bar", fill), figure);
}

export class Inspector {
  #controller = null;
  #popup = null; // of a wide window; on a narrow one the place is a card above the panel
  #fromKeyboard = false;

  /** `getView()` returns { source, years, free }: the years shown, left side first; the free window. */
  constructor(map, service, legend, getView) {
    this.map = map;
    this.service = service;
    this.legend = legend;
    this.getView = getView;
    this.card = document.getElementById("place-card");
    this.live = document.getElementById("live");
    map.getCanvas().addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // the pop-up takes the focus: the same key must not press its button
      this.open(map.getCenter(), { fromKeyboard: true });
    });
    document.getElementById("place-close").addEventListener("click", () => this.close());
  }

  get isOpen() {
    return Boolean(this.#controller);
  }

  /** Closes the place; the focus goes back to the map if it came from there. */
  close() {
    if (!this.isOpen) return;
    this.#controller.abort();
    this.#controller = null;
    this.#popup?.remove();
    this.#popup = null;
    this.card.hidden = true;
    if (this.#fromKeyboard) this.map.getCanvas().focus();
    this.#fromKeyboard = false;
  }

  #place(lngLat, body, free) {
    if (NARROW.matches) {
      document.getElementById("place-body").replaceChildren(body);
      this.card.hidden = false;
      if (this.#fromKeyboard) document.getElementById("place-close").focus();
      return;
    }
    const popup = new window.maplibregl.Popup({ maxWidth: "300px", offset: 6, anchor: this.#anchor(lngLat, free), closeOnClick: false });
    popup.setLngLat(lngLat).setDOMContent(body).addTo(this.map);
    popup.on("close", () => this.#popup === popup && this.close());
    this.#popup = popup;
  }

  async open(lngLat, { fromKeyboard = false } = {}) {
    this.close();
    this.#fromKeyboard = fromKeyboard;
    const controller = new AbortController();
    this.#controller = controller;
    const { source, years, free } = this.getView();
    const body = make("div", "place", make("p", "quiet", "Reading this point …"));
    body.dataset.state = "loading";
    this.#place(lngLat, body, free);
    const fetchPoints = (options) => Promise.all(
      years.map((year) => this.service.point(lngLat, source, year, { ...options, signal: controller.signal })),
    );
    try {
      const points = await fetchPoints({});
      body.replaceChildren(...points.map((point, i) => this.#section(point, years[i])));
      if (points.some((point) => point.class)) body.append(this.#details(fetchPoints, years));
      body.append(make("p", "quiet coordinates", coordinatesOf(lngLat)));
      body.dataset.state = "ready";
      this.live.textContent = points.map((point, i) => this.#spoken(point, years[i])).join("; ");
    } catch (error) {
      if (wasAborted(error)) return;
      body.replaceChildren(make("b", "", error.message), make("p", "quiet", error.detail ?? ""));
      body.dataset.state = "failed";
    }
  }

  #spoken({ class: result, confidence, year }, requestedYear) {
    const sure = confidence === null || confidence === undefined ? "" : `, confidence ${confidence} %`;
    return result ? `${result.title ?? result.name}${sure}, ${year ?? requestedYear}` : `No data here, ${requestedYear}`;
  }

  /** Beside the panel the pop-up opens on the far side of it; elsewhere MapLibre places it. */
  #anchor(lngLat, free) {
    const { x, y } = this.map.project(lngLat);
    if (free.left === 0 || x - free.left > HALF_WIDTH) return undefined;
    return y < (free.top + free.bottom) / 2 ? "top-left" : "bottom-left";
  }

  #section(point, requestedYear) {
    const year = make("span", "year", String(point.year ?? requestedYear));
    if (!point.class) {
      return make("section", "", make("header", "", make("b", "", "No data here"), year));
    }
    const swatch = make("span", "swatch");
    swatch.style.setProperty("--color", this.legend.color(point.class.value));
    const section = make(
      "section", "",
      make("header", "", swatch, make("b", "", point.class.title ?? point.class.name), year),
    );
    if (point.confidence !== null && point.confidence !== undefined) {
      const confidence = gauge("Confidence", point.confidence / 100);
      confidence.title = "Probability the model gives this class; not a measured accuracy";
      section.append(confidence);
    }
    if (point.scene) {
      section.append(make("p", "quiet scene", dateOf(point.scene.date), make("code", "", point.scene.id)));
    }
    return section;
  }

  /** Lists every class's probability; fetched when opened, because the server runs the model again. */
  #details(fetchPoints, years) {
    const details = make("details", "", make("summary", "", "All classes"));
    details.addEventListener("toggle", async () => {
      const waiting = make("p", "quiet", "Reading …");
      details.append(waiting);
      try {
        const points = await fetchPoints({ probabilities: true });
        const lists = points
          .map((point, i) => point.probabilities && this.#list(point.probabilities, points.length > 1 ? years[i] : null))
          .filter(Boolean);
        if (lists.length) details.replaceChildren(make("summary", "", "All classes"), ...lists);
        else details.remove();
      } catch (error) {
        if (!wasAborted(error)) waiting.textContent = error.message;
      }
    }, { once: true });
    return details;
  }

  #list(probabilities, year) {
    const rows = this.legend.classes
      .filter((entry) => entry.name in probabilities)
      .sort((a, b) => probabilities[b.name] - probabilities[a.name])
      .map((entry) => gauge(entry.title, probabilities[entry.name], this.legend.color(entry.value)));
    return make("div", "probabilities", ...(year ? [make("p", "quiet", String(year))] : []), ...rows);
  }
}
