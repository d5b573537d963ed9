// Error messages: what failed, why, and a button to try again.

const DURATION_MS = 15000;

export class Toasts {
  constructor() {
    this.root = document.getElementById("toasts");
  }

  /** Shows a Problem once, however often it occurs while it is on screen. */
  show(problem, retry = null) {
    const key = `${problem.message}|${problem.detail ?? ""}`;
    if ([...this.root.children].some((toast) => toast.dataset.key === key)) return;
    const toast = document.createElement("div");
    toast.className = "toast";
    toast.dataset.key = key;
    const text = document.createElement("div");
    text.append(Object.assign(document.createElement("b"), { textContent: problem.message }));
    if (problem.detail) text.append(Object.assign(document.createElement("p"), { textContent: problem.detail }));
    toast.append(text);
    if (retry) {
      toast.append(this.#button("Try again", "action", () => {
        toast.remove();
        retry();
      }));
    }
    toast.append(this.#button("×", "close", () => toast.remove(), "Dismiss"));
    this.root.append(toast);
    if (this.root.children.length > 3) this.root.firstElementChild.remove();
    if (retry) setTimeout(() => toast.remove(), DURATION_MS);
  }

  #button(text, className, onClick, label = text) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, className });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", onClick);
    return button;
  }
}
