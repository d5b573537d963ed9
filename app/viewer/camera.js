// The first look at a source: inside its imagery, close enough that land cover shows.

import { planShares } from "./shares.js";

const CLOSEST = 15;

/** [west, south, east, north] of a GeoJSON geometry. */
function boxOf(geometry) {
  const points = geometry.coordinates.flat(Infinity);
  const [lngs, lats] = [points.filter((_, i) => i % 2 === 0), points.filter((_, i) => i % 2 === 1)];
  return [Math.min(...lngs), Math.min(...lats), Math.max(...lngs), Math.max(...lats)];
}

const middle = ([west, south, east, north]) => [(west + east) / 2, (south + north) / 2];

/** What to look at: the source when its middle has imagery, else the scene nearest to its middle. */
export function subjectOf(source, footprints, year) {
  const [lng, lat] = middle(source.bounds);
  const away = ([west, south, east, north]) =>
    Math.hypot(Math.max(west - lng, 0, lng - east), Math.max(south - lat, 0, lat - north));
  const boxes = footprints.features
    .filter((feature) => feature.properties.year === year && feature.geometry)
    .map((feature) => boxOf(feature.geometry))
    .sort((a, b) => away(a) - away(b));
  return !boxes.length || away(boxes[0]) === 0 ? source.bounds : boxes[0];
}

/** The view [west, south, east, north] of the part of the window that no panel covers. */
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
  map.fitBounds([bounds.slice(0, 2), bounds.slice(2)], { padding: paddingOf(free), maxZoom: CLOSEST });
}

/** Zoom at which [west, south, east, north] just covers the free part of the window. */
function coveringZoom(map, [west, south, east, north], free) {
  const [a, b] = [map.project([west, north]), map.project([east, south])];
  const scale = Math.max((free.right - free.left) / (b.x - a.x), (free.bottom - free.top) / (b.y - a.y));
  return map.getZoom() + Math.log2(scale);
}

/** Jumps to the first look: the subject fills the free part, and its shares can be counted. */
export function firstLook(panes, source, subject, free) {
  const map = panes.front;
  map.jumpTo({ center: middle(subject), zoom: 12 });
  map.setZoom(Math.min(CLOSEST, coveringZoom(map, subject, free)));
  for (let i = 0; i < 60 && planShares(freeView(map, free), source, panes.tileZoom).why === "large"; i += 1) {
    map.setZoom(map.getZoom() + 0.1);
  }
  const aside = (free.left + free.right - window.innerWidth) / 2;
  const above = (free.top + free.bottom - window.innerHeight) / 2;
  map.panBy([-aside, -above], { animate: false });
}
