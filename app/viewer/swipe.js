// The divider between the two maps: drag it, or focus it and use the arrow keys.

const STEP = 2;
const PAGE_STEP = 10;

export class Swipe {
  #share = 0.5; // of the free width, 0..1
  #free = { left: 0, right: 0 };

  constructor() {
    this.root = document.getElementById("swipe");
    this.knob = document.getElementById("knob");
    this.left = document.getElementById("left-label");
    this.right = document.getElementById("right-label");
    this.root.addEventListener("pointerdown", (event) => this.#drag(event));
    this.knob.addEventListener("keydown", (event) => this.#key(event));
  }

  /** The column at which the front map begins, CSS pixels; 0 if it is all there is. */
  get cut() {
    const { left, right } = this.#free;
    return this.root.hidden || this.#share === 0 ? 0 : Math.round(left + this.#share * (right - left));
  }

  /** Labels the two sides, or hides the divider if both show the same. */
  label(left, right) {
    this.root.hidden = !left;
    this.left.textContent = left ?? "";
    this.right.textContent = right ?? "";
    this.#draw();
  }

  /** Sets the part of the window that no panel covers, in CSS pixels. */
  setFree(free) {
    this.#free = free;
    this.#draw();
  }

  #move(share) {
    this.#share = Math.min(1, Math.max(0, share));
    this.#draw();
  }

  #draw() {
    const { left, right } = this.#free;
    const percent = Math.round(this.#share * 100);
    const x = Math.round(left + this.#share * (right - left));
    const cut = this.root.hidden || percent === 0 ? 0 : x;
    document.body.style.setProperty("--swipe", `${x}px`);
    document.body.style.setProperty("--cut", `${cut}px`);
    this.root.classList.toggle("at-left", x - left < 140);
    this.root.classList.toggle("at-right", right - x < 140);
    this.knob.setAttribute("aria-valuenow", percent);
    this.knob.setAttribute(
      "aria-valuetext",
      `${percent} % ${this.left.textContent}, ${100 - percent} % ${this.right.textContent}`,
    );
  }

  #drag(down) {
    if (down.button !== 0) return;
    down.preventDefault();
    this.knob.focus({ preventScroll: true });
    this.root.setPointerCapture(down.pointerId);
    const { left, right } = this.#free;
    const grip = down.clientX - (left + this.#share * (right - left));
    const move = (event) => this.#move((event.clientX - grip - left) / (right - left));
    const stop = () => {
      this.root.removeEventListener("pointermove", move);
      this.root.classList.remove("dragging");
    };
    this.root.classList.add("dragging");
    this.root.addEventListener("pointermove", move);
    this.root.addEventListener("lostpointercapture", stop, { once: true });
  }

  #key(event) {
    const steps = {
      ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP,
      PageDown: -PAGE_STEP, PageUp: PAGE_STEP, Home: -100, End: 100,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const step = steps[event.key];
    const factor = event.shiftKey && Math.abs(step) === STEP ? PAGE_STEP / STEP : 1;
    this.#move((Math.round(this.#share * 100) + step * factor) / 100);
  }
}
