// The page as a whole: reads the service, builds the parts, and tells each part about changes.

import { showAbout } from "./about.js";
import { Area } from "./area.js";
import { Borders } from "./borders.js";
import { fit, freeView, imageryZoom, initialBounds, showInitialView, showNearest } from "./camera.js";
import { Choice, readHash, writeHash } from "./choice.js";
import { Controls } from "./controls.js";
import { Coverage } from "./coverage.js";
import { intersection, isEmpty } from "./grid.js";
import { Inspector } from "./inspect.js";
import { Layout } from "./layout.js";
import { Legend } from "./legend.js";
import { lookUpTable } from "./paint.js";
import { Pace } from "./pace.js";
import { Panes } from "./panes.js";
import { connectPlaces } from "./places.js";
import { Service } from "./service.js";
import { connectSharing } from "./sharing.js";
import { ShareCounter } from "./share_counter.js";
import { Status, messageOf } from "./status.js";
import { Swipe } from "./swipe.js";
import { TileStore } from "./tiles.js";
import { Toasts } from "./toasts.js";
import { imageryOf, labelsOf, validated, valuesOf, viewOf } from "./views.js";
import { Viewport } from "./viewport.js";

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const IDLE_DELAY_MS = 150;
const REDRAW_MS = 150;

const toasts = new Toasts();
const service = new Service();
const store = new TileStore(service);
const pace = new Pace(() => store.isLoading);
const status = new Status();

async function start() {
  const waiting = ({ title }) => status.show({ text: `${title}. Trying again by itself.`, alarm: true });
  const [{ sources, basemap }, legendDocument] = await Promise.all([service.sources(waiting), service.legend(waiting)]);
  status.show(null);
  if (!sources.length) throw Object.assign(new Error("No imagery is configured"), { detail: "The service has no source to show." });
  const card = service.model().catch(() => null);
  const outlines = new Map(); // source id → footprints
  const sourceOf = (id) => sources.find((source) => source.id === id);

  const legend = new Legend(legendDocument, (hidden) => choice.change({ hidden }));
  const fromLink = readHash(window.location.hash);
  const choice = new Choice();
  choice.values = validated({ ...choice.values, ...fromLink.values }, sources, legend);
  const source = () => sourceOf(choice.values.source);

  const panes = new Panes(store, pace);
  const { front } = panes;
  const swipe = new Swipe();
  const layout = new Layout((free) => swipe.setFree(free));
  swipe.setFree(layout.free);
  const controls = new Controls(choice, sources, legend);
  const finest = new Map(); // source id → zoom of its finest imagery
  const viewport = new Viewport(panes, store, service, () => (
    { source: source(), ...valuesOf(choice.values), imagery: imageryOf(choice.values), imageryZoom: finest.get(source().id) }));
  const shareCounter = new ShareCounter(
    legend,
    () => ({ ...choice.values, view: freeView(front, layout.free), tileZoom: panes.tileZoom, source: source() }),
    (tile) => valuesOf(choice.values).counted.map((template) => viewport.entry(template, tile)),
    () => updateState(),
  );

  const updateStatus = () => {
    const isOutside = isEmpty(intersection(freeView(front, layout.free), source().bounds)) || isVoid();
    const progress = viewport.progress;
    const message = messageOf({
      progress,
      blocks: viewport.blocks,
      becomesExact: viewport.becomesExact,
      isLandCover: Boolean(viewOf(choice.values, legend).right.classes),
      where: isOutside ? "outside" : panes.tileZoom < source().minzoom ? "far" : "in",
      retry: () => {
        store.retry();
        panes.reload();
      },
      nearest: () => showNearest(panes, source(), outlines.get(source().id), choice.values.year, layout.free),
    });
    status.show(message);
    document.body.dataset.missing = progress.missing;
    if (!progress.inexact || progress.missing) viewport.forgetBlocks();
    else if (!progress.empty) viewport.countBlocks(new URLSearchParams({ source: source().id, year: choice.values.year }), updateStatus);
  };
  /** Returns whether no image of the year lies in the view, although the source is around it. */
  const isVoid = () => {
    if (panes.tileZoom < source().minzoom) return false;
    return coverage.isEmpty(freeView(front, layout.free));
  };

  let isFirst = true; // no view has been drawn whole yet
  /** Marks in the browser's timeline when every tile of the first view is drawn: classes or an estimate of them. */
  const markFirstView = () => {
    const { tiles, empty } = viewport.progress;
    if (!isFirst || !tiles || empty || !panes.idle) return;
    isFirst = false;
    performance.mark("landcover:first-view");
  };

  let [idleTimer, redrawTimer] = [0, 0];
  const updateState = () => {
    markFirstView();
    clearTimeout(idleTimer);
    const idle = () => store.settled && panes.idle && shareCounter.settled && !redrawTimer && service.inFlight === 0;
    if (!idle()) document.body.dataset.state = "loading";
    idleTimer = setTimeout(() => {
      if (idle()) document.body.dataset.state = "idle";
    }, IDLE_DELAY_MS);
  };
  service.onActivity((inFlight) => {
    document.body.classList.toggle("busy", inFlight > 0);
    updateState();
  });
  let isStale = false; // something drawn has been replaced in the store
  store.onChange((entry, change) => {
    updateStatus();
    if (entry.problem && !entry.problem.temporary) toasts.show(entry.problem);
    if (entry.isImagery || !entry.wanted) return;
    if (change) viewport.changed();
    isStale ||= change === "better"; // the map itself draws the first data of a tile, for which it waits
    redrawTimer ||= setTimeout(() => {
      redrawTimer = 0;
      if (isStale) panes.redraw();
      isStale = false;
      shareCounter.update();
    }, Math.max(REDRAW_MS, pace.ms));
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

  const coverage = new Coverage(front, (box) => fit(front, box, layout.free, 17));
  const borders = new Borders(panes, service);
  const inspector = new Inspector(front, service, legend, () => {
    const { source: id, year, before } = choice.values;
    return { source: id, years: before ? [before, year] : [year], free: layout.free };
  });
  const area = new Area(service, legend, panes, {
    getShown: () => ({ source: source(), year: choice.values.year }),
    fit: (box) => fit(front, box, layout.free, 17),
  });
  front.on("click", (event) => area.drawing.active || event.defaultPrevented || inspector.open(event.lngLat));
  document.addEventListener("keydown", ({ key }) => key === "Escape" && inspector.close());
  connectPlaces(({ lng, lat }) => {
    front.jumpTo({ center: [lng, lat], zoom: Math.max(front.getZoom(), 16) });
    inspector.open({ lng, lat });
  });
  connectSharing(panes, legend, () => ({ ...choice.values, title: source().title, credit: source().attribution ?? "", cut: swipe.cut }));
  const updateHash = (how = "replaceState") => window.history[how](
    null, "", writeHash(choice.values, { zoom: front.getZoom(), center: front.getCenter() }),
  );

  const draw = () => {
    const { values } = choice;
    controls.show(values);
    legend.show(values);
    panes.color(lookUpTable({ ...values, colors: legend.colors }));
    panes.show(viewOf(values, legend), values);
    swipe.label(...labelsOf(values));
    coverage.show(outlines.get(values.source), values.year);
  };
  /** Asks for what is in view now, counts it, and says what is missing. */
  const look = (how) => {
    viewport.update();
    shareCounter.update(how);
    updateStatus();
  };
  let isArriving = false; // the camera is on its way to a first view, in steps nobody sees
  const useSource = async (camera) => {
    const { source: id, year } = choice.values;
    if (!outlines.has(id)) {
      outlines.set(id, await service.footprints(id).catch(() => ({ type: "FeatureCollection", features: [] })));
    }
    const footprints = outlines.get(id);
    finest.set(id, imageryZoom(source(), footprints));
    panes.useSource({ ...source(), imagery_maxzoom: finest.get(id) }, footprints);
    document.getElementById("credit").textContent = [source().attribution, basemap?.attribution].filter(Boolean).join(" · ");
    isArriving = true;
    if (camera) front.jumpTo(camera);
    else showInitialView(panes, source(), initialBounds(source(), footprints, year), layout.free);
    isArriving = false;
    card.then((modelCard) => showAbout(source(), modelCard));
  };

  let linked = null; // the camera of a link that is being followed
  choice.onChange(async (values, keys) => {
    choice.values = validated(values, sources, legend);
    const camera = linked;
    if (keys.has("source")) {
      inspector.close();
      await useSource(camera);
    }
    draw();
    if (!camera) updateHash("pushState");
    const isOther = ["source", "year", "before", "layer"].some((key) => keys.has(key));
    if (["source", "year"].some((key) => keys.has(key))) area.update();
    if (isOther) {
      inspector.close();
      viewport.forgetBlocks();
    }
    look({ moved: isOther });
  });
  let moving = 0;
  front.on("move", () => {
    if (isArriving) return;
    moving ||= setTimeout(() => {
      moving = 0;
      viewport.update();
    }, 80);
  });
  front.on("movestart", () => isArriving || shareCounter.update({ moved: true }));
  front.on("moveend", () => {
    if (isArriving) return;
    viewport.forgetBlocks();
    coverage.update();
    borders.update();
    look({ moved: true });
    updateHash();
  });
  const follow = async () => {
    const { values, camera } = readHash(window.location.hash);
    linked = camera;
    choice.change(validated({ ...new Choice().values, ...values }, sources, legend));
    if (camera) front.jumpTo(camera); // last: its end writes the choice into the address
    linked = null;
  };
  window.addEventListener("popstate", follow);
  DARK.addEventListener("change", () => panes.setColors(DARK.matches));
  document.getElementById("fit").addEventListener("click", () => fit(front, source().bounds, layout.free));

  panes.setColors(DARK.matches);
  if (basemap) panes.addBasemap(basemap.url);
  await useSource(fromLink.camera);
  draw();
  updateHash();
  borders.update();
  look({ moved: true });
}

start().catch((error) => {
  document.body.dataset.state = "failed";
  toasts.show(error);
});
