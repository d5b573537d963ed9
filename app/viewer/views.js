// What the choice means: which tiles each side of the divider shows, and what it is called.

import { COLORS, STYLES } from "./choice.js";
import { imageryPath, valuesPath } from "./service.js";

const TITLES = { class: "Land cover", confidence: "Confidence", change: "Change" };

/** Keeps only the values the service offers; an old link must not break the page. */
export function validated(values, sources, legend) {
  const source = sources.find(({ id }) => id === values.source) ?? sources[0];
  const year = source.years.includes(values.year) ? values.year : source.years.at(-1);
  const compares = values.before !== year && source.years.includes(values.before);
  return {
    ...values, source: source.id, year, before: compares ? values.before : null,
    layer: values.layer === "change" && !compares ? "class" : values.layer,
    hidden: (values.hidden ?? []).filter((value) => legend.values.includes(value)),
    colormap: values.colormap in legend.colormaps ? values.colormap : COLORS in legend.colormaps ? COLORS : "landcover",
  };
}

const isCompared = ({ before, layer }) => Boolean(before) && layer !== "change";

/** Returns whether land cover is drawn at all. */
function isDrawn({ landcover, opacity, layer, hidden }, legend) {
  const shown = layer === "confidence" || !legend || hidden.length < legend.values.length;
  return landcover && opacity > 0 && shown;
}

/** Returns the paths of values: those each side may draw (templates), and those that are counted. */
export function valuesOf(values) {
  const of = (year) => valuesPath({ ...values, year });
  const right = of(values.year);
  const left = isCompared(values) ? of(values.before) : null;
  const drawn = isDrawn(values, null);
  const isCounted = values.layer === "class" && left;
  return { templates: [left, right], isDrawn: [Boolean(left) && drawn, drawn], counted: isCounted ? [right, left] : [right] };
}

/** Returns the paths of the imagery that is shown. */
export const imageryOf = (values) => {
  const { left, right } = viewOf(values, null);
  return [left.imagery, right.imagery].filter(Boolean);
};

/** Returns what each side of the divider shows; see panes.js. */
export function viewOf(values, legend) {
  const { source, year, before, style, opacity } = values;
  const { templates } = valuesOf(values);
  const [left, right] = isDrawn(values, legend) ? templates : [null, null];
  const imagery = (of) => imageryPath({ source, year: of, style });
  const side = (of, classes, hasImagery) => ({
    imagery: hasImagery ? imagery(of) : null, classes, opacity: opacity / 100, background: hasImagery, year: of,
  });
  if (isCompared(values)) return { left: side(before, left, true), right: side(year, right, true) };
  return { left: side(year, null, true), right: side(year, right, false) };
}

/** Returns the names of the two sides of the divider, or nulls when both show the same. */
export function labelsOf(values) {
  const { year, before, style, landcover, layer } = values;
  if (isCompared(values)) return [String(before), String(year)];
  const years = layer === "change" ? `${before}–${year}` : year;
  return landcover ? [`${STYLES[style]} ${year}`, `${TITLES[layer]} ${years}`] : [null, null];
}
