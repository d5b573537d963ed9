// The imagery and the model in a few plain lines.

const line = (name, ...children) => {
  const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  detail.append(...children.filter(Boolean));
  return [term, detail];
};

const small = (text) => Object.assign(document.createElement("small"), { textContent: text });

/** Counts correct and all pixels of a contingency table (rows: reference, columns: predicted). */
export function overall(contingency) {
  const all = contingency.flat().reduce((sum, n) => sum + n, 0);
  const correct = contingency.reduce((sum, row, i) => sum + row[i], 0);
  return { correct, all, share: all ? correct / all : 0 };
}

function accuracyLines(accuracy) {
  return accuracy.map(({ name, description, contingency }) => {
    const { all, share } = overall(contingency);
    const item = document.createElement("p");
    const figure = Object.assign(document.createElement("b"), { textContent: `${(share * 100).toFixed(1)} %` });
    item.append(figure, ` of ${all.toLocaleString("en")} pixels correct, ${name.replaceAll("_", " ")}`);
    if (description) item.append(small(description));
    return item;
  });
}

const listOf = (years) => new Intl.ListFormat("en").format(years.map(String));

/** Fills the disclosure; `card` is the model card, or null if it could not be loaded. */
export function showAbout(source, card) {
  const list = document.createElement("dl");
  const scenes = `${source.scenes} ${source.scenes === 1 ? "scene" : "scenes"}`;
  list.append(...line("Imagery", `${source.title}: ${scenes}, ${listOf(source.years)}.`, small(source.attribution ?? "")));
  if (card) {
    const resolution = card.ground_resolution ? `, ${card.ground_resolution} m per pixel` : "";
    list.append(...line("Model", `${card.name}, version ${card.version}${resolution}`, small(card.description ?? "")));
    const measured = card.accuracy ?? [];
    if (measured.length) list.append(...line("Measured accuracy", ...accuracyLines(measured)));
    else list.append(...line("Measured accuracy", "None is recorded for this model."));
    const terms = [card.license, card.attribution].filter(Boolean);
    if (terms.length) list.append(...line("License and credits", ...terms.map(small)));
  }
  document.getElementById("about-text").replaceChildren(list);
}
