// A link, a picture or a printed sheet of the map.

import { confidenceColor } from "./paint.js";
import { printPicture, savePicture } from "./picture.js";
import { labelsOf } from "./views.js";

/** Returns what a picture says of the map; see picture.js. */
function aboutOf(values, legend) {
  const [left, right] = labelsOf(values);
  const shown = legend.classes.filter(({ value }) => !values.hidden.includes(value));
  const classes = shown.map(({ value, title }) => ({ color: legend.color(value), title, share: legend.shareText(value) }));
  const ramp = [0, 25, 50, 75, 100].map((percent) => ({ color: `rgb(${confidenceColor(percent)})`, title: `${percent} %`, share: "" }));
  return {
    title: `${values.title}: ${left ? `${left} (left), ${right} (right)` : values.year}`,
    note: legend.note.textContent,
    rows: !values.landcover ? [] : values.layer === "confidence" ? ramp : classes,
    credit: `${values.credit}  Printed ${new Date().toISOString().slice(0, 10)}.`,
    address: window.location.href,
    cut: values.cut,
    file: `landcover-${values.source}-${values.year}.png`,
  };
}

/** Connects the buttons; `getShown()`: the choice with title and credit of the source and the divider's `cut`. */
export function connectSharing(panes, legend, getShown) {
  const note = document.getElementById("share-note");
  const on = (id, work) => document.getElementById(id).addEventListener("click", async () => {
    note.textContent = "";
    try {
      note.textContent = (await work()) ?? "";
    } catch (error) {
      note.textContent = error.message;
    }
  });
  on("share-link", async () => {
    const url = window.location.href;
    if (navigator.share && window.matchMedia("(pointer: coarse)").matches) {
      await navigator.share({ title: document.title, url }).catch(() => null);
      return "";
    }
    const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
    return copied ? "The link is copied: it opens this map with this view." : `Copy this address: ${url}`;
  });
  on("share-picture", () => savePicture(panes, aboutOf(getShown(), legend)));
  on("share-print", () => printPicture(panes, aboutOf(getShown(), legend)));
}
