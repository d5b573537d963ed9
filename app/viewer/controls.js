// The panel's controls: they show the selections and change them; they do not touch the maps.

import { STYLES } from "./choice.js";
import { addressOf, classesPath } from "./service.js";

const COLORMAP_TITLES = { landcover: "Standard", colorblind: "Color-blind safe", nlcd: "NLCD-like" };

const element = (id) => document.getElementById(id);

/** A radio group drawn as one row of segments; `onPick(value)` gets the selected value. */
function segments(id, options, onPick) {
  const root = element(id);
  const build = (entries) => {
    root.replaceChildren(...entries.map(([value, title]) => {
      const input = Object.assign(document.createElement("input"), { type: "radio", name: id, value });
      const label = document.createElement("label");
      label.append(input, Object.assign(document.createElement("span"), { textContent: title }));
      return label;
    }));
  };
  build(options);
  root.addEventListener("change", (event) => onPick(event.target.value));
  return {
    build,
    show(value) {
      for (const input of root.querySelectorAll("input")) input.checked = input.value === String(value);
    },
  };
}

export class Controls {
  #built = null; // id of the source whose years are on the buttons

  constructor(choice, sources, legend) {
    this.sources = sources;
    const pick = (key, as = String) => (value) => choice.change({ [key]: as(value) });
    // Two different years are compared: picking the other side's year swaps the sides.
    const side = (key, other) => (picked) => {
      const { values } = choice;
      const swaps = values.before && Number(picked) === values[other];
      choice.change({ [key]: Number(picked), ...(swaps ? { [other]: values[key] } : {}) });
    };
    this.years = segments("years", [], side("year", "before"));
    this.befores = segments("befores", [], side("before", "year"));
    this.styles = segments("styles", Object.entries(STYLES), pick("style"));
    this.colormaps = segments(
      "colormaps",
      Object.keys(legend.colormaps).map((name) => [name, COLORMAP_TITLES[name] ?? name]),
      pick("colormap"),
    );
    const select = element("source");
    select.replaceChildren(...sources.map(({ id, title }) => new Option(title, id)));
    select.addEventListener("change", () => choice.change({ source: select.value }));
    element("source-field").hidden = sources.length < 2;
    element("landcover").addEventListener("change", (event) => choice.change({ landcover: event.target.checked }));
    element("opacity").addEventListener("input", (event) => choice.change({ opacity: Number(event.target.value) }));
    element("compare").addEventListener("change", (event) => {
      choice.change({ before: event.target.checked ? this.#otherYear(choice.values) : null });
    });
    element("copy").addEventListener("click", () => this.#copy());
  }

  #source(id) {
    return this.sources.find((source) => source.id === id);
  }

  /** Returns the year to compare with first: the nearest earlier one, else the nearest later one. */
  #otherYear({ source, year }) {
    const { years } = this.#source(source);
    return years.filter((other) => other < year).at(-1) ?? years.find((other) => other > year);
  }

  async #copy() {
    const [address, button] = [element("address"), element("copy")];
    address.select();
    const copied = await navigator.clipboard?.writeText(address.value).then(() => true, () => false);
    button.textContent = copied || document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  show(values) {
    const source = this.#source(values.source);
    if (this.#built !== source.id) {
      this.#built = source.id;
      for (const group of [this.years, this.befores]) group.build(source.years.map((year) => [year, String(year)]));
    }
    element("source").value = source.id;
    const years = values.before ? `${values.before}–${values.year}` : values.year;
    element("source-title").textContent = `${source.title} · ${years}`;
    element("year-name").textContent = values.before ? "Right" : "Year";
    element("compare-field").hidden = source.years.length < 2;
    element("compare").checked = Boolean(values.before);
    for (const part of document.querySelectorAll(".before")) part.hidden = !values.before;
    this.years.show(values.year);
    this.befores.show(values.before);
    this.styles.show(values.style);
    this.colormaps.show(values.colormap);
    element("landcover").checked = values.landcover;
    const opacity = element("opacity");
    opacity.value = values.opacity;
    opacity.disabled = !values.landcover;
    opacity.style.setProperty("--filled", `${values.opacity}%`);
    element("opacity-value").textContent = values.landcover ? `${values.opacity} %` : "off";
    element("address").value = addressOf(classesPath({ source: source.id, year: values.year }, ".png"));
  }
}
