// The pill over the map: one sentence about what is in view, and what one can do about it.

export class Status {
  constructor() {
    this.root = document.getElementById("hint");
    this.text = document.getElementById("hint-text");
    this.button = document.getElementById("hint-button");
    this.bar = document.getElementById("hint-bar");
    this.button.addEventListener("click", () => this.action?.());
  }

  /** `message`: { text, share of a bar 0..1 or null, action: { label, run } or null, alarm }, or null for nothing. */
  show(message) {
    this.root.hidden = !message;
    const { text = "", share = null, action = null, alarm = false } = message ?? {};
    // Only a changed text is set: screen readers read each one aloud.
    if (this.text.textContent !== text) this.text.textContent = text;
    this.root.classList.toggle("alarm", alarm);
    this.action = action?.run;
    this.button.hidden = !action;
    this.button.textContent = action?.label ?? "";
    this.bar.hidden = share === null;
    this.bar.style.setProperty("--share", `${100 * (share ?? 0)}%`);
  }
}

/** Returns the message about a view; see Viewport.progress and Viewport.blocks. */
export function messageOf({ progress, blocks, becomesExact, isLandCover, where, retry, nearest }) {
  const { missing, problem, empty, inexact, tiles } = progress;
  if (missing) {
    const parts = missing === tiles ? "This view is missing" : `${missing} of ${tiles} parts of this view are missing`;
    const why = problem.status ? `${problem.title}${problem.detail ? ` (${problem.detail})` : ""}` : "the service cannot be reached";
    const then = problem.temporary ? " Trying again by itself." : "";
    return { text: `${parts}: ${why.replace(/\.$/, "")}.${then}`, alarm: true, action: { label: "Try now", run: retry } };
  }
  if (where === "outside") return { text: "No imagery here.", action: { label: "Nearest imagery", run: nearest } };
  if (where === "far") return { text: "Zoom in to see imagery and land cover." };
  if (!isLandCover) return null;
  if (empty) return { text: "Reading the imagery for a first estimate …" };
  if (!inexact) return null;
  if (!becomesExact) return { text: "Estimate from coarser imagery. Zoom in for exact classes." };
  const counted = blocks && blocks.cached < blocks.blocks;
  return {
    text: counted ? `Estimate, becoming exact: ${blocks.cached} of ${blocks.blocks} blocks exact.` : "Estimate, becoming exact …",
    share: counted ? blocks.cached / blocks.blocks : null,
  };
}
