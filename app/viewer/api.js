// The API's documentation, drawn from its OpenAPI definition.

const METHODS = ["get", "post", "put", "delete"];

function element(name, text = "", ...children) {
  const made = document.createElement(name);
  made.append(...(text === "" ? [] : [text]), ...children);
  return made;
}

function typeOf(schema = {}) {
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  const kinds = (schema.anyOf ?? []).filter((each) => each.type !== "null").map(typeOf);
  return kinds.length ? kinds.join(" | ") : (schema.type ?? "");
}

function table(heads, rows) {
  const made = element("table", "", element("tr", "", ...heads.map((head) => element("th", head))));
  made.append(...rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", "", cell)))));
  const scroll = element("div", "", made);
  scroll.className = "scroll";
  return scroll;
}

function parametersOf(parameters) {
  const rows = parameters.map((each) => [
    element("code", each.name),
    each.in + (each.required ? ", required" : ""),
    element("code", typeOf(each.schema)),
    each.schema?.default === undefined ? "" : element("code", JSON.stringify(each.schema.default)),
    each.description ?? "",
  ]);
  return table(["parameter", "in", "type", "default", "description"], rows);
}

function answersOf(responses) {
  const rows = Object.entries(responses).map(([status, each]) => [
    element("code", status),
    Object.keys(each.content ?? {}).join(", "),
    each.description ?? "",
  ]);
  return table(["status", "media types", "description"], rows);
}

function operation(method, path, about) {
  const name = element("summary", "", element("b", method.toUpperCase()), element("code", path));
  const text = element("p", about.description ?? about.summary ?? "");
  const made = element("details", "", name, text);
  const body = Object.keys(about.requestBody?.content ?? {});
  if (body.length) made.append(element("p", `Body: ${body.join(", ")}`));
  if (about.parameters?.length) made.append(parametersOf(about.parameters));
  made.append(answersOf(about.responses ?? {}));
  return made;
}

async function main() {
  const place = document.getElementById("operations");
  const answer = await fetch("./api");
  if (!answer.ok) throw new Error(`/api answered ${answer.status}`);
  const api = await answer.json();
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("about").textContent = api.info.description ?? "";
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => operations[each])) {
      const tag = operations[method].tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operation(method, path, operations[method])]);
    }
  }
  place.replaceChildren();
  for (const [tag, operations] of groups) {
    const head = element("h2", tag);
    head.id = `group-${tag}`;
    place.append(head, ...operations);
    const link = element("a", tag);
    link.href = `#group-${tag}`;
    document.getElementById("tags").append(link);
  }
  document.body.dataset.state = "ready";
}

main().catch((error) => {
  document.getElementById("operations").textContent = `The definition could not be read: ${error.message}`;
});
