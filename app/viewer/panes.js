// The two maps: `back` (left of the divider) follows `front` (right of it), which takes all input.
// Only front's canvas is cut at the divider, so pop-ups and controls are never cut.
//
// With one year, back shows the imagery and front, transparent, only the classes: no imagery is
// fetched twice. When two years are compared, each map shows its own imagery and classes.

import { paint } from "./paint.js";

const TILE = 256;
const MAX_ZOOM = 20.5;
const [IMAGERY, VALUES] = ["imagery-tiles", "value-tiles"]; // protocols
const NOTHING = { type: "FeatureCollection", features: [] };

const emptyStyle = () => ({
  version: 8,
  sources: {},
  layers: [{
    id: "background", type: "background",
    layout: { visibility: "none" }, paint: { "background-color": "#dfe4df" },
  }],
});

/** Returns the hatching of ground whose class is not known yet, as an image of MapLibre. */
function hatching({ ground, line }) {
  const size = 16;
  const data = new Uint8Array(size * size * 4);
  for (let at = 0; at < size * size; at += 1) {
    const isLine = (at % size + Math.floor(at / size)) % 8 < 2;
    data.set(isLine ? line : ground, at * 4);
  }
  return { width: size, height: size, data };
}

/** Adds what lies over all tiles, from the bottom to the top: borders, an area, a drawing. */
function addOverlays(map) {
  for (const id of ["borders", "area", "drawing"]) map.addSource(id, { type: "geojson", data: NOTHING });
  const line = (id, source, paintOptions) => map.addLayer({ id, type: "line", source, paint: paintOptions, layout: { "line-join": "round" } });
  line("borders", "borders", {
    "line-color": "#5a3d7a", "line-opacity": ["interpolate", ["linear"], ["zoom"], 11.5, 0.7, 12.5, 0],
    "line-width": ["case", ["get", "state"], 1.8, 0.7],
  });
  for (const source of ["area", "drawing"]) {
    line(`${source}-casing`, source, { "line-color": "#fff", "line-width": 5, "line-opacity": 0.85 });
    line(`${source}-line`, source, { "line-color": "#b3124a", "line-width": 2.5 });
  }
  map.addLayer({
    id: "corners", type: "circle", source: "drawing", filter: ["==", ["geometry-type"], "Point"],
    paint: { "circle-radius": 5, "circle-color": "#b3124a", "circle-stroke-color": "#fff", "circle-stroke-width": 2 },
  });
}

function pane(container, pace, options) {
  const map = new window.maplibregl.Map({
    container, style: emptyStyle(),
    maxZoom: MAX_ZOOM, minZoom: 2, maxPitch: 0, dragRotate: false, pitchWithRotate: false,
    renderWorldCopies: false, attributionControl: false, fadeDuration: 0, ...options,
  });
  const draw = map.triggerRepaint.bind(map);
  map.triggerRepaint = () => pace.request(draw, map.isMoving());
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  return map;
}

export class Panes {
  #shown = new Map(); // map → { layer id → path } as last applied
  #pending = new Map(); // map → the rings that are hatched, as text
  #source = null;
  #table = new Uint32Array(256);
  #version = 0; // of what the values are drawn from; part of their URL

  constructor(store, pace) {
    window.maplibregl.setMaxParallelImageRequests(256); // the store decides which goes first
    const pathOf = ({ url }) => url.slice(url.indexOf("://") + 3).split("#")[0];
    window.maplibregl.addProtocol(IMAGERY, async (request, { signal }) => ({ data: await store.data(pathOf(request), signal) }));
    window.maplibregl.addProtocol(VALUES, async (request, { signal }) => (
      { data: await paint(await store.data(pathOf(request), signal), this.#table) }));
    this.back = pane("back", pace, { interactive: false });
    this.front = pane("front", pace, {});
    this.front.on("move", () => {
      const { lng, lat } = this.front.getCenter();
      this.back.jumpTo({ center: [lng, lat], zoom: this.front.getZoom() });
      if (this.back.loaded()) this.back.redraw(); // in the same frame, so that the sides never come apart
    });
    const loaded = (map) => new Promise((resolve) => {
      map.once("load", () => {
        addOverlays(map);
        resolve();
      });
    });
    this.ready = Promise.all([loaded(this.back), loaded(this.front)]);
  }

  get maps() {
    return [this.back, this.front];
  }

  get idle() {
    return this.maps.every((map) => map.loaded() && map.areTilesLoaded() && !map.isMoving());
  }

  /** Adds XYZ tiles of the operator's below everything; they show where the back map has no imagery. */
  addBasemap(url) {
    this.back.addSource("basemap", { type: "raster", tiles: [url], tileSize: TILE, maxzoom: 19 });
    this.back.addLayer({ id: "basemap", type: "raster", source: "basemap" }, "borders");
  }

  /** Adds the layers of a source; MapLibre requests no tile outside its bounds and zooms. */
  useSource(source, footprints) {
    this.#source = source;
    for (const map of this.maps) {
      for (const id of ["scenes", "outlines", "classes", "pending", "imagery"]) if (map.getLayer(id)) map.removeLayer(id);
      for (const id of ["footprints", "classes", "pending", "imagery"]) if (map.getSource(id)) map.removeSource(id);
      this.#shown.set(map, {});
      this.#pending.set(map, "[]");
      const firstZoom = source.minzoom - Math.log2(512 / TILE) - 0.5; // map zoom at which tiles start
      map.addSource("footprints", { type: "geojson", data: footprints });
      map.addLayer({
        id: "scenes", type: "fill", source: "footprints", maxzoom: Math.max(0, firstZoom),
        paint: { "fill-color": "#3f9d6b", "fill-opacity": 0.3 },
      }, "borders");
      map.addLayer({
        id: "outlines", type: "line", source: "footprints", layout: { visibility: "none" },
        paint: {
          "line-color": ["step", ["zoom"], "#3f9d6b", Math.max(0.1, firstZoom), "#ffffff"],
          "line-width": 1.25, "line-dasharray": [3, 3],
          "line-opacity": ["interpolate", ["linear"], ["zoom"], 12, 0.9, 16, 0.45],
        },
      }, "borders");
      map.addSource("pending", { type: "geojson", data: NOTHING });
      map.addLayer({ id: "pending", type: "fill", source: "pending", paint: { "fill-pattern": "hatching", "fill-antialias": false } }, "scenes");
    }
  }

  /** Shows each side of `view`: { imagery, classes } paths or null, opacity 0..1, background, years of the outlines. */
  show(view, { outlines }) {
    this.#showSide(this.back, view.left, outlines);
    this.#showSide(this.front, view.right, outlines);
  }

  /** Colors the values by another table; no tile is requested for it. */
  color(table) {
    if (table.every((color, value) => color === this.#table[value])) return;
    this.#table = table;
    this.redraw();
  }

  /** Draws all values again from the store: after better ones have come, or in other colors. */
  redraw() {
    this.#version += 1;
    for (const [map, { classes }] of this.#shown) if (classes) map.getSource("classes")?.setTiles([this.#template("classes", classes)]);
  }

  /** Requests failed tiles of imagery again. */
  reload() {
    for (const [map, { imagery }] of this.#shown) if (imagery) map.getSource("imagery")?.setTiles([this.#template("imagery", imagery)]);
    this.redraw();
  }

  /** Hatches the ground of polygon rings whose values are not known yet: [left, right]. */
  showPending(sides) {
    this.maps.forEach((map, i) => {
      const rings = JSON.stringify(sides[i]);
      if (this.#pending.get(map) === rings) return; // to draw it again is dear without a GPU
      this.#pending.set(map, rings);
      const features = sides[i].map((ring) => ({ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [ring] } }));
      map.getSource("pending")?.setData({ ...NOTHING, features });
    });
  }

  /** Shows GeoJSON over both maps, or nothing: `borders`, `area` or `drawing`. */
  showOverlay(id, geojson) {
    for (const map of this.maps) map.getSource(id).setData(geojson ?? NOTHING);
  }

  #template(id, path) {
    return id === "imagery" ? `${IMAGERY}://${path}` : `${VALUES}://${path}#${this.#version}`;
  }

  #showSide(map, side, outlines) {
    this.#raster(map, "imagery", side.imagery, { "raster-resampling": "linear" });
    this.#raster(map, "classes", side.classes, { "raster-resampling": "nearest" });
    if (map.getLayer("classes")) map.setPaintProperty("classes", "raster-opacity", side.opacity);
    map.setLayoutProperty("background", "visibility", side.background ? "visible" : "none");
    map.setLayoutProperty("outlines", "visibility", outlines ? "visible" : "none");
    for (const id of ["scenes", "outlines"]) map.setFilter(id, ["==", ["get", "year"], side.year]);
  }

  #raster(map, id, path, paintOptions) {
    const shown = this.#shown.get(map);
    if (map.getSource(id) && shown[id] !== path) {
      // MapLibre keeps a source's old tiles until new ones arrive, or forever if those fail: last
      // year's classes must not pass for this year's.
      map.removeLayer(id);
      map.removeSource(id);
    }
    if (path && !map.getSource(id)) {
      const { bounds, minzoom, maxzoom, imagery_maxzoom: finest } = this.#source;
      map.addSource(id, {
        type: "raster", tiles: [this.#template(id, path)], tileSize: TILE, bounds, minzoom,
        maxzoom: id === "imagery" ? finest ?? maxzoom : maxzoom,
      });
      map.addLayer({
        id, type: "raster", source: id, paint: { "raster-fade-duration": 0, ...paintOptions },
      }, id === "imagery" ? "pending" : "scenes");
    }
    shown[id] = path;
  }

  /** Sets the colors of empty ground and of the hatching: of the light or of the dark page. */
  setColors(dark) {
    const image = hatching(dark
      ? { ground: [32, 40, 42, 236], line: [70, 82, 84, 236] }
      : { ground: [225, 230, 224, 236], line: [190, 199, 190, 236] });
    for (const map of this.maps) {
      map.setPaintProperty("background", "background-color", dark ? "#20282a" : "#dde3dc");
      if (map.hasImage("hatching")) map.updateImage("hatching", image);
      else map.addImage("hatching", image);
    }
  }

  /** Returns the zoom of the tiles MapLibre requests at the current camera. */
  get tileZoom() {
    return Math.round(this.front.getZoom() + Math.log2(512 / TILE));
  }
}
