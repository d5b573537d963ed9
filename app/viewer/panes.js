// The two maps: `back` (left of the divider) follows `front` (right of it), which takes all input.
// Only front's canvas is cut at the divider, so pop-ups and controls are never cut.
//
// With one year, back shows the imagery and front, transparent, only the classes: no imagery is
// fetched twice. When two years are compared, each map shows its own imagery and classes.

import { templateOf } from "./tiles.js";

const TILE = 256;
const MAX_ZOOM = 19.5;

const emptyStyle = () => ({
  version: 8,
  sources: {},
  layers: [{
    id: "background", type: "background",
    layout: { visibility: "none" }, paint: { "background-color": "#dfe4df" },
  }],
});

/** Returns whether two paths differ in at most one parameter of the query. */
function differsOnlyIn(one, other, parameter) {
  const rest = (path) => {
    const [place, query] = path.split("?");
    const parameters = new URLSearchParams(query);
    parameters.delete(parameter);
    return `${place}?${parameters}`;
  };
  return rest(one) === rest(other);
}

function pane(container, options) {
  const map = new window.maplibregl.Map({
    container, style: emptyStyle(),
    maxZoom: MAX_ZOOM, minZoom: 2, maxPitch: 0, dragRotate: false, pitchWithRotate: false,
    renderWorldCopies: false, attributionControl: false, fadeDuration: 0, ...options,
  });
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  return map;
}

export class Panes {
  #shown = new Map(); // map → { layer id → path } as last applied
  #source = null;

  constructor() {
    this.back = pane("back", { interactive: false });
    this.front = pane("front", { });
    this.front.on("move", () => {
      const { lng, lat } = this.front.getCenter();
      this.back.jumpTo({ center: [lng, lat], zoom: this.front.getZoom() });
      if (this.back.loaded()) this.back.redraw(); // in the same frame, so that the sides never come apart
    });
    const loaded = (map) => new Promise((resolve) => map.once("load", resolve));
    this.ready = Promise.all([loaded(this.back), loaded(this.front)]);
  }

  get maps() {
    return [this.back, this.front];
  }

  get idle() {
    return this.maps.every((map) => map.loaded() && map.areTilesLoaded() && !map.isMoving());
  }

  /** Adds the layers of a source; MapLibre requests no tile outside its bounds and zooms. */
  useSource(source, footprints) {
    this.#source = source;
    for (const map of this.maps) {
      for (const id of ["scenes", "outlines", "classes", "imagery"]) if (map.getLayer(id)) map.removeLayer(id);
      for (const id of ["footprints", "classes", "imagery"]) if (map.getSource(id)) map.removeSource(id);
      this.#shown.set(map, {});
      const firstZoom = source.minzoom - Math.log2(512 / TILE) - 0.5; // map zoom at which tiles start
      map.addSource("footprints", { type: "geojson", data: footprints });
      map.addLayer({
        id: "scenes", type: "fill", source: "footprints", maxzoom: Math.max(0, firstZoom),
        paint: { "fill-color": "#3f9d6b", "fill-opacity": 0.3 },
      });
      map.addLayer({
        id: "outlines", type: "line", source: "footprints",
        paint: {
          "line-color": ["step", ["zoom"], "#3f9d6b", Math.max(0.1, firstZoom), "#ffffff"],
          "line-width": 1.25, "line-dasharray": [3, 3],
          "line-opacity": ["interpolate", ["linear"], ["zoom"], 12, 0.9, 16, 0.45],
        },
      });
    }
  }

  /** Shows each side of `view`: { imagery, classes } paths or null, opacity 0..1, background. */
  show(view) {
    this.#showSide(this.back, view.left);
    this.#showSide(this.front, view.right);
  }

  #showSide(map, side) {
    this.#raster(map, "imagery", side.imagery, { "raster-resampling": "linear" });
    this.#raster(map, "classes", side.classes, { "raster-resampling": "nearest" });
    if (map.getLayer("classes")) map.setPaintProperty("classes", "raster-opacity", side.opacity);
    map.setLayoutProperty("background", "visibility", side.background ? "visible" : "none");
    for (const id of ["scenes", "outlines"]) map.setFilter(id, ["==", ["get", "year"], side.year]);
  }

  #raster(map, id, path, paint) {
    const shown = this.#shown.get(map);
    if (path && map.getSource(id) && !differsOnlyIn(shown[id], path, "classes")) {
      // MapLibre keeps a source's old tiles until new ones arrive, or forever if those fail: last
      // year's classes must not pass for this year's. They stay only when classes are switched.
      map.removeLayer(id);
      map.removeSource(id);
    }
    if (path && !map.getSource(id)) {
      const { bounds, minzoom, maxzoom } = this.#source;
      map.addSource(id, {
        type: "raster", tiles: [templateOf(path)], tileSize: TILE, bounds, minzoom, maxzoom,
      });
      const above = id === "imagery" && map.getLayer("classes") ? "classes" : "scenes";
      map.addLayer({
        id, type: "raster", source: id, paint: { "raster-fade-duration": 0, ...paint },
      }, above);
    } else if (path && shown[id] !== path) {
      map.getSource(id).setTiles([templateOf(path)]);
    }
    if (path) shown[id] = path;
    if (map.getLayer(id)) map.setLayoutProperty(id, "visibility", path ? "visible" : "none");
  }

  /** Requests every tile in view again, failed ones included. */
  reload() {
    for (const [map, shown] of this.#shown) {
      for (const [id, path] of Object.entries(shown)) map.getSource(id)?.setTiles([templateOf(path)]);
    }
  }

  setBackground(color) {
    for (const map of this.maps) map.setPaintProperty("background", "background-color", color);
  }

  /** Returns the zoom of the tiles MapLibre requests at the current camera. */
  get tileZoom() {
    return Math.round(this.front.getZoom() + Math.log2(512 / TILE));
  }
}
