// The panel's controls: they show the selections and change them; they do not touch the maps.

import { LAYERS, STYLES } from "./choice.js";
import { addressOf, picturePath } from "./service.js";

const COLORMAP_TITLES = { vivid: "Vivid", landcover: "Article", colorblind: "Color-blind safe", nlcd: "NLCD-like" };

const MOST_SEGMENTS = 5; // years that fit as buttons; more are a slider

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

/** A choice of one of some years: buttons, or a slider if there are many. */
function yearPicker(id, onPick) {
  const root = element(id);
  const buttons = segments(id, [], onPick);
  let slider = null;
  let years = [];
  return {
    build(all) {
      years = all;
      slider = null;
      root.classList.toggle("slider", years.length > MOST_SEGMENTS);
      root.setAttribute("role", years.length > MOST_SEGMENTS ? "group" : "radiogroup");
      if (years.length <= MOST_SEGMENTS) {
        buttons.build(years.map((year) => [year, String(year)]));
        return;
      }
      slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: years.length - 1, step: 1 });
      slider.setAttribute("aria-label", "Year");
      const shown = document.createElement("output");
      const ends = document.createElement("p");
      ends.append(...[years[0], years.at(-1)].map((year) => Object.assign(document.createElement("span"), { textContent: year })));
      slider.addEventListener("input", () => { shown.textContent = years[slider.value]; });
      root.replaceChildren(slider, shown, ends);
    },
    show(year) {
      if (!slider) {
        buttons.show(year);
        return;
      }
      slider.value = years.indexOf(year);
      slider.setAttribute("aria-valuetext", year);
      slider.style.setProperty("--filled", `${(100 * slider.value) / (years.length - 1)}%`);
      slider.nextElementSibling.textContent = year ?? "";
    },
    yearOf: (value) => (slider ? years[value] : Number(value)),
  };
}

export class Controls {
  #built = null; // id of the source whose years are on the buttons

  constructor(choice, sources, legend) {
    this.sources = sources;
    const pick = (key, as = String) => (value) => choice.change({ [key]: as(value) });
    // Two different years are compared: picking the other side's year swaps the sides.
    const side = (key, other, picker) => (picked) => {
      const [{ values }, year] = [choice, picker().yearOf(picked)];
      const swaps = values.before && year === values[other];
      choice.change({ [key]: year, ...(swaps ? { [other]: values[key] } : {}) });
    };
    this.years = yearPicker("years", side("year", "before", () => this.years));
    this.befores = yearPicker("befores", side("before", "year", () => this.befores));
    let lent = false; // whether the year before was set for the change layer only
    this.layers = segments("layers", Object.entries(LAYERS), (layer) => {
      const { before } = choice.values;
      if (layer === "change" && !before) choice.change({ layer, before: this.#otherYear(choice.values) });
      else choice.change(lent ? { layer, before: null } : { layer });
      lent = layer === "change" && !before;
    });
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
    element("outlines").addEventListener("change", (event) => choice.change({ outlines: event.target.checked }));
    element("compare").addEventListener("change", (event) => {
      const before = event.target.checked ? this.#otherYear(choice.values) : null;
      choice.change(before || choice.values.layer !== "change" ? { before } : { before, layer: "class" });
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
      for (const picker of [this.years, this.befores]) picker.build(source.years);
    }
    element("source").value = source.id;
    const years = values.before ? `${values.before}–${values.year}` : values.year;
    element("source-title").textContent = `${source.title} · ${years}`;
    const isChange = values.layer === "change";
    element("year-name").textContent = !values.before ? "Year" : isChange ? "After" : "Right";
    element("before-name").textContent = isChange ? "Before" : "Left";
    element("compare-field").hidden = source.years.length < 2;
    element("compare").checked = Boolean(values.before);
    for (const part of document.querySelectorAll(".before")) part.hidden = !values.before;
    this.years.show(values.year);
    this.befores.show(values.before);
    this.styles.show(values.style);
    this.colormaps.show(values.colormap);
    this.layers.show(values.layer);
    element("layers-field").classList.toggle("single", source.years.length < 2);
    element("layers").hidden = !values.landcover;
    element("colors").hidden = values.layer === "confidence";
    element("outlines").checked = values.outlines;
    element("landcover").checked = values.landcover;
    const opacity = element("opacity");
    opacity.value = values.opacity;
    opacity.disabled = !values.landcover;
    opacity.style.setProperty("--filled", `${values.opacity}%`);
    element("opacity-value").textContent = values.landcover ? `${values.opacity} %` : "off";
    element("address").value = addressOf(picturePath({ source: source.id, year: values.year }));
  }
}
