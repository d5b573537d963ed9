// The initial view of a source: inside its imagery, close enough that land cover shows.

import { planShares } from "./shares.js";

const MAX_INITIAL_ZOOM = 15;

/** Returns [west, south, east, north] of a GeoJSON geometry. */
function boxOf(geometry) {
  const points = geometry.coordinates.flat(Infinity);
  const [lngs, lats] = [points.filter((_, i) => i % 2 === 0), points.filter((_, i) => i % 2 === 1)];
  return [Math.min(...lngs), Math.min(...lats), Math.max(...lngs), Math.max(...lats)];
}

const centerOf = ([west, south, east, north]) => [(west + east) / 2, (south + north) / 2];

/** Returns the source's bounds if its center has imagery, else those of the nearest scene. */
export function initialBounds(source, footprints, year) {
  const [lng, lat] = centerOf(source.bounds);
  const distance = ([west, south, east, north]) =>
    Math.hypot(Math.max(west - lng, 0, lng - east), Math.max(south - lat, 0, lat - north));
  const boxes = footprints.features
    .filter((feature) => feature.properties.year === year && feature.geometry)
    .map((feature) => boxOf(feature.geometry))
    .sort((a, b) => distance(a) - distance(b));
  return !boxes.length || distance(boxes[0]) === 0 ? source.bounds : boxes[0];
}

/** Returns [west, south, east, north] of the part of the window that no panel covers. */
export function freeView(map, free) {
  const { lng: west, lat: north } = map.unproject([free.left, free.top]);
  const { lng: east, lat: south } = map.unproject([free.right, free.bottom]);
  return [west, south, east, north];
}

const paddingOf = (free) => ({
  left: free.left + 24, top: 24, right: window.innerWidth - free.right + 24,
  bottom: window.innerHeight - free.bottom + 24,
});

/** Moves the map so that `bounds` fills its free part. */
export function fit(map, bounds, free) {
  map.fitBounds([bounds.slice(0, 2), bounds.slice(2)], { padding: paddingOf(free), maxZoom: MAX_INITIAL_ZOOM });
}

/** Returns the zoom at which [west, south, east, north] just covers the free part of the window. */
function coveringZoom(map, [west, south, east, north], free) {
  const [a, b] = [map.project([west, north]), map.project([east, south])];
  const scale = Math.max((free.right - free.left) / (b.x - a.x), (free.bottom - free.top) / (b.y - a.y));
  return map.getZoom() + Math.log2(scale);
}

/** Jumps to where `bounds` fills the free part and its class shares can be counted. */
export function showInitialView(panes, source, bounds, free) {
  const map = panes.front;
  map.jumpTo({ center: centerOf(bounds), zoom: 12 });
  map.setZoom(Math.min(MAX_INITIAL_ZOOM, coveringZoom(map, bounds, free)));
  for (let i = 0; i < 60 && planShares(freeView(map, free), source, panes.tileZoom).why === "large"; i += 1) {
    map.setZoom(map.getZoom() + 0.1);
  }
  const offsetX = (free.left + free.right - window.innerWidth) / 2;
  const offsetY = (free.top + free.bottom - window.innerHeight) / 2;
  map.panBy([-offsetX, -offsetY], { animate: false });
}
