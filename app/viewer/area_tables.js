// Tables of an area: hectares and acres of each class with adjusted ranges and a bar; change.

export const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const plain = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ha = (value) => plain(value, value < 0.1 && value > 0 ? 3 : 2);
const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${ha(Math.abs(value))}`;

/** Returns "96.30 ha (237.97 acres)". */
export const sizeOf = ({ hectares, acres }) => `${ha(hectares)} ha (${ha(acres)} acres)`;

/** Returns [low, high] hectares over all assessments, interval included; null without any. */
function rangeOf({ adjusted }) {
  if (!adjusted) return null;
  const values = [...(adjusted.interval95_hectares ?? []), ...Object.values(adjusted.by_assessment ?? {})];
  return values.length ? [Math.max(0, Math.min(...values)), Math.max(...values)] : null;
}

function swatch(value, legend) {
  const element = make("span", { className: "swatch" });
  element.style.setProperty("--color", legend.color(value));
  return element;
}

/** Returns the table of a statistics document. The bar is what is mapped, the line the adjusted range. */
export function classTable(statistics, legend) {
  const ranges = statistics.classes.map(rangeOf);
  const most = Math.max(...statistics.classes.map((each, i) => Math.max(each.hectares, ranges[i]?.[1] ?? 0)), 1e-9);
  const rows = statistics.classes.flatMap((each, i) => {
    const bar = make("i");
    bar.style.cssText = `width: ${(100 * each.hectares) / most}%; background: ${legend.color(each.value)}`;
    const chart = make("td", { className: "chart", colSpan: 3 }, make("span", { className: "bar" }, bar));
    if (ranges[i]) {
      const [low, high] = ranges[i];
      const line = make("u", { title: `adjusted for the model's known errors: ${ha(low)} to ${ha(high)} ha` });
      line.style.cssText = `left: ${(100 * low) / most}%; width: ${(100 * (high - low)) / most}%`;
      chart.firstChild.append(line);
      chart.append(make("small", {}, `adjusted ${ha(low)}–${ha(high)} ha`));
    }
    const row = make(
      "tr", {}, make("th", { scope: "row" }, swatch(each.value, legend), each.title),
      make("td", { className: "hectares" }, ha(each.hectares)), make("td", {}, ha(each.acres)),
    );
    row.dataset.value = each.value;
    return [row, make("tr", {}, chart)];
  });
  const head = make("tr", {}, make("th", { scope: "col" }, "Class"), make("th", { scope: "col" }, "ha"), make("th", { scope: "col" }, "acres"));
  const table = make("table", { className: "areas" }, make("thead", {}, head), make("tbody", {}, ...rows));
  const notes = [];
  if (statistics.uncovered.hectares >= 0.005) notes.push(`${sizeOf(statistics.uncovered)} of the area has no imagery.`);
  if (ranges.some(Boolean)) notes.push("Adjusted: what the model's known errors make of the mapped areas; the range is over all its assessments.");
  return make("div", {}, table, ...notes.map((note) => make("small", { className: "area-hint" }, note)));
}

/** Returns the table of a change document: hectares before, after, and the difference. */
export function changeTable(change, legend) {
  const head = ["Class", change.from, change.to, "±"].map((title) => make("th", { scope: "col" }, title));
  const rows = change.classes.map((each) => {
    const row = make(
      "tr", {}, make("th", { scope: "row" }, swatch(each.value, legend), each.title),
      make("td", {}, ha(each.before_hectares)), make("td", {}, ha(each.after_hectares)),
      make("td", { title: `gained ${ha(each.gained_hectares)} ha, lost ${ha(each.lost_hectares)} ha` }, signed(each.after_hectares - each.before_hectares)),
    );
    row.dataset.value = each.value;
    return row;
  });
  const table = make("table", { className: "areas change" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("div", {}, table, make("small", { className: "area-hint" }, `${sizeOf(change.changed)} changed. ${change.limits?.[0] ?? ""}`));
}
