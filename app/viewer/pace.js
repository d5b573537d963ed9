// How often the maps are drawn while tiles come in: without a GPU a frame of both takes a good part
// of a second, in which the page asks for nothing, and the processor that draws them is often the
// one that computes the tiles.

const SHARE = 3; // while tiles come in, a third of the time at most is spent on drawing
const SMOOTH_MS = 50; // a frame that takes no longer is never waited for
const MOST_MS = 1500;
const RUSH_MS = 1000; // after a touch of mouse, finger or key
const DECODE_MS = 60; // what came last is decoded by then

export class Pace {
  #frame = 0; // milliseconds that one takes
  #drawnAt = -Infinity;
  #rushUntil = 0;
  #timer = 0;
  #draws = new Set();

  /** `isLoading()`: whether tiles are still to come. */
  constructor(isLoading) {
    this.isLoading = isLoading;
    for (const type of ["pointerdown", "wheel", "keydown", "touchstart"]) {
      window.addEventListener(type, () => {
        this.#rushUntil = performance.now() + RUSH_MS;
        if (this.#draws.size) this.#draw();
      }, { capture: true, passive: true });
    }
  }

  /** Returns the milliseconds from one frame to the next. */
  get ms() {
    return this.#frame > SMOOTH_MS ? Math.min(MOST_MS, SHARE * this.#frame) : 0;
  }

  /** Calls `draw`, with what else waits to be drawn, when it is time for a frame; at once if `isUrgent`. */
  request(draw, isUrgent) {
    this.#draws.add(draw);
    const now = performance.now();
    const isSlow = this.ms && !isUrgent && now > this.#rushUntil;
    const at = !isSlow ? now : this.isLoading() ? this.#drawnAt + this.ms : now + DECODE_MS;
    if (at <= now) this.#draw();
    else this.#timer ||= setTimeout(() => this.#draw(), at - now);
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawnAt = performance.now();
    for (const draw of this.#draws) draw();
    this.#draws.clear();
    let [before, longest] = [0, 0];
    const measure = (left) => requestAnimationFrame((now) => {
      longest = before ? Math.max(longest, now - before) : 0;
      before = now;
      if (left) measure(left - 1);
      else this.#frame = longest;
    });
    measure(2); // the maps draw in the first; the next is held up by it
  }
}
