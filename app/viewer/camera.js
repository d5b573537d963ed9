// The first look at a source: inside its imagery, close enough that land cover shows.

import { planShares } from "./shares.js";

const CLOSEST = 16;

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
export function fit(map, bounds, free, options = {}) {
  map.fitBounds([bounds.slice(0, 2), bounds.slice(2)], { padding: paddingOf(free), maxZoom: CLOSEST, ...options });
}

/** Jumps to the first look: the subject, but no farther away than shares can be counted. */
export function firstLook(panes, source, subject, free) {
  const map = panes.front;
  fit(map, subject, free, { animate: false });
  const centre = [(free.left + free.right) / 2, (free.top + free.bottom) / 2];
  const aim = () => map.jumpTo({
    center: middle(subject), zoom: map.getZoom(),
    padding: { left: 0, top: 0, right: 0, bottom: 0 },
  });
  aim();
  for (let i = 0; i < 60 && planShares(freeView(map, free), source, panes.tileZoom).why === "large"; i += 1) {
    map.jumpTo({ zoom: map.getZoom() + 0.1 });
  }
  const shift = [centre[0] - window.innerWidth / 2, centre[1] - window.innerHeight / 2];
  map.panBy([-shift[0], -shift[1]], { animate: false });
}
