// The page as a whole: reads the service, builds the parts, and tells each part about changes.

import { showAbout } from "./about.js";
import { fit, freeView, initialBounds, showInitialView } from "./camera.js";
import { Choice, STYLES, readHash, writeHash } from "./choice.js";
import { Controls } from "./controls.js";
import { Inspector } from "./inspect.js";
import { Layout } from "./layout.js";
import { Legend } from "./legend.js";
import { Panes } from "./panes.js";
import { Service, classesPath, imageryPath } from "./service.js";
import { ShareCounter } from "./share_counter.js";
import { Swipe } from "./swipe.js";
import { Tiles } from "./tiles.js";
import { Toasts } from "./toasts.js";

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const IDLE_DELAY_MS = 150;

const toasts = new Toasts();
const service = new Service();

/** Keeps only the values the service offers; an old link must not break the page. */
function validated(values, sources, legend) {
  const source = sources.find(({ id }) => id === values.source) ?? sources[0];
  const year = source.years.includes(values.year) ? values.year : source.years.at(-1);
  const compares = values.before !== year && source.years.includes(values.before);
  return {
    ...values, source: source.id, year, before: compares ? values.before : null,
    hidden: (values.hidden ?? []).filter((value) => legend.values.includes(value)),
    colormap: values.colormap in legend.colormaps ? values.colormap : "landcover",
  };
}

/** Returns what each side of the divider shows; see panes.js. */
function viewOf({ source, year, before, style, landcover, opacity, hidden, colormap }, legend) {
  const shown = legend.values.filter((value) => !hidden.includes(value));
  const classes = (of) => (landcover && shown.length && opacity
    ? classesPath({
      source, year: of, classes: hidden.length ? shown : null,
      colormap: colormap === "landcover" ? null : colormap,
    })
    : null);
  const imagery = (of) => imageryPath({ source, year: of, style });
  const both = (of) => ({ imagery: imagery(of), classes: classes(of), opacity: opacity / 100, background: true, year: of });
  if (before) return { left: both(before), right: both(year) };
  return {
    left: { imagery: imagery(year), classes: null, background: true, year },
    right: { imagery: null, classes: classes(year), opacity: opacity / 100, background: false, year },
  };
}

function labelsOf({ year, before, style, landcover }) {
  if (before) return [String(before), String(year)];
  return landcover ? [`${STYLES[style]} ${year}`, `Land cover ${year}`] : [null, null];
}

async function start() {
  const [sources, legendDocument] = await Promise.all([service.sources(), service.legend()]);
  if (!sources.length) throw Object.assign(new Error("No imagery is configured"), { detail: "The service has no source to show." });
  const card = service.model().catch(() => null);
  const outlines = new Map(); // source id → footprints
  const sourceOf = (id) => sources.find((source) => source.id === id);

  const legend = new Legend(legendDocument, (hidden) => choice.change({ hidden }));
  const fromLink = readHash(window.location.hash);
  const choice = new Choice();
  choice.values = validated({ ...choice.values, ...fromLink.values }, sources, legend);

  const panes = new Panes();
  const { front } = panes;
  const swipe = new Swipe();
  const layout = new Layout((free) => swipe.setFree(free));
  swipe.setFree(layout.free);
  const controls = new Controls(choice, sources, legend);
  const currentView = () => ({
    view: freeView(front, layout.free), tileZoom: panes.tileZoom,
    source: sourceOf(choice.values.source), year: choice.values.year, before: choice.values.before,
  });

  let idleTimer = 0;
  const updateState = () => {
    clearTimeout(idleTimer);
    const idle = () => panes.idle && shareCounter.settled && service.inFlight === 0;
    if (!idle()) document.body.dataset.state = "loading";
    idleTimer = setTimeout(() => {
      if (idle()) document.body.dataset.state = "idle";
    }, IDLE_DELAY_MS);
  };
  const shareCounter = new ShareCounter(service, legend, currentView, updateState);
  service.onActivity((inFlight) => {
    document.body.classList.toggle("busy", inFlight > 0);
    updateState();
  });
  let preliminary = 0;
  const updateHint = () => {
    const source = sourceOf(choice.values.source);
    const [west, south, east, north] = freeView(front, layout.free);
    const [w, s, e, n] = source.bounds;
    const outside = west > e || east < w || south > n || north < s;
    const zoomedOut = panes.tileZoom < source.minzoom;
    const text = outside ? "No imagery here. The button at the top of the panel goes back to it."
      : zoomedOut ? "Zoom in to see imagery and land cover."
        : preliminary ? "Parts of this view are still being classified. Zoom in for full detail." : "";
    const pill = document.getElementById("hint");
    pill.textContent = text;
    pill.hidden = !text;
  };
  new Tiles(service, {
    onProblem: (problem) => toasts.show(problem, () => {
      panes.reload();
      shareCounter.restart();
    }),
    onPreliminary: (count) => {
      preliminary = count;
      updateHint();
    },
  });

  await panes.ready;
  front.addControl(new window.maplibregl.NavigationControl({ showCompass: false }), "top-right");
  front.addControl(new window.maplibregl.ScaleControl({ maxWidth: 120 }), "bottom-right");
  for (const map of panes.maps) {
    map.on("idle", updateState);
    map.on("error", ({ error }) => {
      if (error?.name !== "Problem") console.error(error);
    });
  }

  const inspector = new Inspector(front, service, legend, () => {
    const { source, year, before } = choice.values;
    return { source, years: before ? [before, year] : [year], free: layout.free };
  });
  const updateHash = () => window.history.replaceState(
    null, "", writeHash(choice.values, { zoom: front.getZoom(), center: front.getCenter() }),
  );
  const updateBackground = () => panes.setBackground(DARK.matches ? "#20282a" : "#dde3dc");

  const draw = () => {
    const { values } = choice;
    controls.show(values);
    legend.show(values);
    panes.show(viewOf(values, legend));
    swipe.label(...labelsOf(values));
  };
  const useSource = async (camera) => {
    const { source: id, year } = choice.values;
    const source = sourceOf(id);
    if (!outlines.has(id)) {
      outlines.set(id, await service.footprints(id).catch(() => ({ type: "FeatureCollection", features: [] })));
    }
    panes.useSource(source, outlines.get(id));
    document.getElementById("credit").textContent = source.attribution ?? "";
    if (camera) front.jumpTo(camera);
    else showInitialView(panes, source, initialBounds(source, outlines.get(id), year), layout.free);
    card.then((modelCard) => showAbout(source, modelCard));
  };

  choice.onChange(async (values, keys) => {
    choice.values = validated(values, sources, legend);
    if (keys.has("source")) {
      inspector.close();
      await useSource(null);
    }
    draw();
    updateHash();
    if (["source", "year", "before"].some((key) => keys.has(key))) {
      inspector.close();
      shareCounter.restart();
    }
  });
  front.on("movestart", () => shareCounter.stop());
  front.on("moveend", () => {
    shareCounter.restart();
    updateHash();
    updateHint();
  });
  window.addEventListener("hashchange", () => {
    const { values, camera } = readHash(window.location.hash);
    if (camera) front.jumpTo(camera);
    choice.change(validated({ ...new Choice().values, ...values }, sources, legend));
  });
  DARK.addEventListener("change", updateBackground);
  document.getElementById("fit").addEventListener("click", () => {
    fit(front, sourceOf(choice.values.source).bounds, layout.free);
  });

  updateBackground();
  await useSource(fromLink.camera);
  draw();
  updateHint();
  updateHash();
  shareCounter.restart();
}

start().catch((error) => {
  document.body.dataset.state = "failed";
  toasts.show(error);
});
