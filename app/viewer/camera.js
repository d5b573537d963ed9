// The initial view of a source: inside its imagery, close enough that land cover shows.

import { planShares } from "./shares.js";

const MAX_INITIAL_ZOOM = 15;
const MAX_FIRST_ZOOM = 17; // of the first look: small images fill the view too
const WIDE_EQUATOR_M = 40075016.7;

/** Returns [west, south, east, north] of a GeoJSON geometry. */
export function boxOf(geometry) {
  const points = geometry.coordinates.flat(Infinity);
  const [lngs, lats] = [points.filter((_, i) => i % 2 === 0), points.filter((_, i) => i % 2 === 1)];
  const least = (values) => values.reduce((a, b) => Math.min(a, b));
  const most = (values) => values.reduce((a, b) => Math.max(a, b));
  return [least(lngs), least(lats), most(lngs), most(lats)];
}

export const centerOf = ([west, south, east, north]) => [(west + east) / 2, (south + north) / 2];

/** Returns the boxes of a year's footprints, nearest to [lng, lat] first, as { box, distance in degrees }. */
export function nearestBoxes(footprints, year, [lng, lat]) {
  const narrow = Math.cos((lat * Math.PI) / 180);
  const distance = ([west, south, east, north]) =>
    Math.hypot(narrow * Math.max(west - lng, 0, lng - east), Math.max(south - lat, 0, lat - north));
  return footprints.features
    .filter((feature) => feature.geometry && (year === null || feature.properties.year === year))
    .map((feature) => boxOf(feature.geometry))
    .map((box) => ({ box, distance: distance(box) }))
    .sort((a, b) => a.distance - b.distance);
}

/** Returns the source's bounds if its center has imagery, else those of the nearest scene. */
export function initialBounds(source, footprints, year) {
  const [nearest] = nearestBoxes(footprints, year, centerOf(source.bounds));
  return !nearest || nearest.distance === 0 ? source.bounds : nearest.box;
}

/** Returns the zoom of 256 px tiles that shows the source's finest imagery pixel by pixel. */
export function imageryZoom(source, footprints) {
  const finest = footprints.features
    .reduce((least, { properties }) => Math.min(least, properties.resolution || 1), 1);
  const [, lat] = centerOf(source.bounds);
  const zoom = Math.round(Math.log2((WIDE_EQUATOR_M / 256) * Math.cos((lat * Math.PI) / 180) / finest));
  return Math.max(source.maxzoom, Math.min(zoom, 20));
}

/** Returns [west, south, east, north] of the part of the window that no panel covers. */
export function freeView(map, free) {
  const { lng: west, lat: north } = map.unproject([free.left, free.top]);
  const { lng: east, lat: south } = map.unproject([free.right, free.bottom]);
  return [west, south, east, north];
}

const paddingOf = (free) => ({
  left: free.left + 24, top: free.top + 24, right: window.innerWidth - free.right + 24,
  bottom: window.innerHeight - free.bottom + 24,
});

/** Moves the map so that `bounds` fills its free part. */
export function fit(map, bounds, free, maxZoom = MAX_INITIAL_ZOOM) {
  map.fitBounds([bounds.slice(0, 2), bounds.slice(2)], { padding: paddingOf(free), maxZoom });
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
  map.setZoom(Math.min(MAX_FIRST_ZOOM, coveringZoom(map, bounds, free)));
  for (let i = 0; i < 60 && planShares(freeView(map, free), source, panes.tileZoom).why === "large"; i += 1) {
    map.setZoom(map.getZoom() + 0.1);
  }
  const offsetX = (free.left + free.right - window.innerWidth) / 2;
  const offsetY = (free.top + free.bottom - window.innerHeight) / 2;
  map.panBy([-offsetX, -offsetY], { animate: false });
}

/** Jumps to where the nearest imagery of a year fills the view. */
export function showNearest(panes, source, footprints, year, free) {
  const { lng, lat } = panes.front.getCenter();
  const [nearest] = nearestBoxes(footprints, year, [lng, lat]);
  if (nearest) showInitialView(panes, source, nearest.box, free);
}
