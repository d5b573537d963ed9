// Where the panel is and which part of the map it leaves free: beside the map on wide windows,
// below it (as a sheet that folds) on narrow ones.

const WIDE = window.matchMedia("(min-width: 720px)");
export const NARROW = window.matchMedia("(max-width: 719.98px)");

export class Layout {
  constructor(onChange) {
    this.panel = document.getElementById("panel");
    this.button = document.getElementById("fold");
    this.onChange = onChange;
    this.fold(!WIDE.matches);
    this.button.addEventListener("click", () => this.fold(!this.folded));
    this.#acceptSwipes(this.panel.querySelector("header"));
    WIDE.addEventListener("change", () => this.fold(!WIDE.matches));
    new ResizeObserver(() => this.#measure()).observe(this.panel);
    window.addEventListener("resize", () => this.#measure());
  }

  /** On a narrow window the header can be pushed up or down as well. */
  #acceptSwipes(header) {
    let from = null;
    header.addEventListener("pointerdown", (event) => { from = event.clientY; });
    header.addEventListener("pointerup", (event) => {
      const moved = from === null ? 0 : event.clientY - from;
      from = null;
      if (NARROW.matches && Math.abs(moved) > 24) this.fold(moved > 0);
    });
  }

  get folded() {
    return this.panel.classList.contains("folded");
  }

  fold(folded) {
    this.panel.classList.toggle("folded", folded);
    this.button.setAttribute("aria-expanded", String(!folded));
    this.#measure();
  }

  /** Returns the part of the window that the panel leaves free: { left, top, right, bottom }, CSS pixels. */
  get free() {
    const { innerWidth: width, innerHeight: height } = window;
    const box = this.panel.getBoundingClientRect();
    if (WIDE.matches) return { left: this.folded ? 0 : box.right + 12, top: 0, right: width, bottom: height };
    return { left: 0, top: 0, right: width, bottom: Math.max(height * 0.25, box.top) };
  }

  #measure() {
    const { left, bottom } = this.free;
    document.body.style.setProperty("--free-left", `${left}px`);
    document.body.style.setProperty("--free-bottom", `${window.innerHeight - bottom}px`);
    this.onChange?.(this.free);
  }
}
