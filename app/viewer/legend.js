// The legend: a switch for each class, its color, its share of the view, and how it changed.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const percent = (tenths) => `${(tenths / 10).toFixed(1)} %`;
const signed = (tenths) => `${tenths > 0 ? "+" : tenths < 0 ? "−" : "±"}${(Math.abs(tenths) / 10).toFixed(1)}`;

export class Legend {
  #rows = new Map(); // class value → { input, share, delta, bar }
  #colors = {};

  /** `onToggle(hidden)` gets the class values that are switched off. */
  constructor({ classes, colormaps }, onToggle) {
    this.classes = classes.filter((entry) => !entry.nodata);
    this.colormaps = colormaps;
    this.values = this.classes.map((entry) => entry.value);
    this.list = document.getElementById("legend");
    this.strip = document.getElementById("strip");
    this.note = document.getElementById("shares-note");
    this.all = document.getElementById("show-all");
    this.short = document.getElementById("short-legend");
    this.short.replaceChildren(...this.classes.map(({ value, title }) => make(
      "li", { className: `class-${value}` }, make("span", { className: "swatch" }), title.split(/ or |, /)[0],
    )));
    this.list.replaceChildren(...this.classes.map((entry) => this.#row(entry)));
    this.strip.replaceChildren(...this.values.map((value) => make("i", { className: `class-${value}` })));
    this.list.addEventListener("change", () => onToggle(this.#hidden()));
    this.all.addEventListener("click", () => {
      onToggle([]);
      this.list.querySelector("input").focus();
    });
  }

  #row({ value, title, description }) {
    const input = make("input", { type: "checkbox", value });
    const share = make("span", { className: "share" });
    const delta = make("span", { className: "delta" });
    const bar = make("i");
    this.#rows.set(value, { input, share, delta, bar });
    const row = make(
      "li", { className: `class-${value}`, title: description ?? "" },
      make("label", {},
        input, make("span", { className: "swatch" }),
        make("span", { className: "title", textContent: title }), delta, share),
      make("span", { className: "bar" }, bar),
    );
    row.dataset.value = value;
    return row;
  }

  #hidden() {
    return this.values.filter((value) => !this.#rows.get(value).input.checked);
  }

  find(value) {
    return this.classes.find((entry) => entry.value === value);
  }

  color(value) {
    return this.#colors[value] ?? "transparent";
  }

  /** Paints the swatches in a colormap and sets the switches. */
  show({ colormap, hidden, layer, year, before }) {
    this.#colors = this.colormaps[colormap] ?? {};
    document.getElementById("legend-name").textContent = layer === "change" ? `Became, ${before}–${year}`
      : layer === "confidence" ? "Confidence of the model" : "Share of this view";
    this.list.hidden = this.short.hidden = layer === "confidence";
    document.getElementById("ramp").hidden = layer !== "confidence";
    for (const value of this.values) {
      document.documentElement.style.setProperty(`--class-${value}`, this.color(value));
      this.#rows.get(value).input.checked = !hidden.includes(value);
    }
    for (const element of document.querySelectorAll("#legend li, #strip i, #short-legend li")) {
      const value = element.className.replace("class-", "");
      element.style.setProperty("--color", `var(--class-${value})`);
    }
    this.all.hidden = !hidden.length || layer === "confidence";
  }

  /** Returns the share of a class as it is written now. */
  shareText(value) {
    return this.#rows.get(value).share.textContent;
  }

  /** The colors of the classes by value, as they are shown now. */
  get colors() {
    return this.#colors;
  }

  /** Shows shares (tenths of a percent) and, against another year, the change in points. */
  showShares(shares, { note, exact = true, earlier = null, since = null }) {
    this.list.classList.remove("waiting");
    for (const value of this.values) {
      const { share, delta, bar } = this.#rows.get(value);
      const tenths = shares.get(value);
      share.textContent = `${exact ? "" : "≈ "}${percent(tenths)}`;
      share.dataset.tenths = tenths;
      bar.style.width = `${tenths / 10}%`;
      const change = earlier ? tenths - earlier.get(value) : 0;
      delta.textContent = earlier ? signed(change) : "";
      delta.title = earlier ? `change since ${since}, in percentage points` : "";
    }
    [...this.strip.children].forEach((part, i) => {
      part.style.flexGrow = shares.get(this.values[i]);
    });
    this.strip.classList.add("filled");
    this.#report(note);
  }

  /** Sets the note; the same text again would be read aloud again. */
  #report(note) {
    if (this.note.textContent !== note) this.note.textContent = note;
  }

  /** Dims the figures while new ones are counted. */
  wait(note) {
    this.list.classList.add("waiting");
    this.#report(note);
  }

  /** Removes the figures and shows the reason. */
  clearShares(note) {
    this.list.classList.remove("waiting");
    for (const { share, delta, bar } of this.#rows.values()) {
      share.textContent = delta.textContent = "";
      delete share.dataset.tenths;
      bar.style.width = "0";
    }
    this.strip.classList.remove("filled");
    this.#report(note);
  }
}
