// Coordinates as people write them: decimal degrees, degrees with minutes and seconds, UTM.

const NUMBER = String.raw`[-+−]?\d+(?:\.\d+)?`;

/** Returns the degrees of one part such as `32°56'24"N`, `N 32 56.4` or `-86.93`; null if it is none. */
function degreesOf(text) {
  const side = /[NSEW]/i.exec(text)?.[0].toUpperCase() ?? "";
  const numbers = (text.replaceAll("−", "-").match(/[-+]?\d+(?:\.\d+)?/g) ?? []).map(Number);
  if (!numbers.length || numbers.length > 3 || numbers.slice(1).some((each) => each < 0 || each >= 60)) return null;
  const [degrees, minutes = 0, seconds = 0] = numbers;
  const size = Math.abs(degrees) + minutes / 60 + seconds / 3600;
  const isNegative = degrees < 0 || Object.is(degrees, -0) || side === "S" || side === "W";
  return { value: isNegative ? -size : size, side };
}

const isOnEarth = ({ lng, lat }) => Math.abs(lat) <= 90 && Math.abs(lng) <= 180;

/** Returns { lng, lat } of UTM coordinates on GRS 80, which is NAD 83 and within a meter WGS 84. */
export function lngLatOfUtm(zone, isNorth, easting, northing) {
  // Krüger's series to the third order in n (Karney 2011, doi 10.1007/s00190-011-0445-3): below 1 mm.
  const [a, f, k0] = [6378137, 1 / 298.257222101, 0.9996];
  const n = f / (2 - f);
  const radius = (a / (1 + n)) * (1 + n ** 2 / 4 + n ** 4 / 64);
  const xi = (northing - (isNorth ? 0 : 1e7)) / (k0 * radius);
  const eta = (easting - 5e5) / (k0 * radius);
  const beta = [n / 2 - (2 * n ** 2) / 3 + (37 * n ** 3) / 96, n ** 2 / 48 + n ** 3 / 15, (17 * n ** 3) / 480];
  const xi1 = beta.reduce((sum, b, i) => sum - b * Math.sin(2 * (i + 1) * xi) * Math.cosh(2 * (i + 1) * eta), xi);
  const eta1 = beta.reduce((sum, b, i) => sum - b * Math.cos(2 * (i + 1) * xi) * Math.sinh(2 * (i + 1) * eta), eta);
  const chi = Math.asin(Math.sin(xi1) / Math.cosh(eta1));
  const delta = [2 * n - (2 * n ** 2) / 3 - 2 * n ** 3, (7 * n ** 2) / 3 - (8 * n ** 3) / 5, (56 * n ** 3) / 15];
  const lat = delta.reduce((sum, d, i) => sum + d * Math.sin(2 * (i + 1) * chi), chi);
  const lng = Math.atan2(Math.sinh(eta1), Math.cos(xi1));
  return { lng: (lng * 180) / Math.PI + zone * 6 - 183, lat: (lat * 180) / Math.PI };
}

function utmOf(text) {
  const match = /^(?:utm\s*)?(?:zone\s*)?(\d{1,2})\s*([C-HJ-NP-X])?\s+(\d{6,7}(?:\.\d+)?)\s*m?\s*E?[\s,]+(\d{1,8}(?:\.\d+)?)\s*m?\s*N?$/i.exec(text);
  if (!match) return null;
  const [, zone, band, easting, northing] = match;
  if (zone < 1 || zone > 60) return null;
  return lngLatOfUtm(Number(zone), !band || band.toUpperCase() >= "N", Number(easting), Number(northing));
}

/** Returns the two parts of a pair of coordinates. */
function partsOf(text) {
  const comma = text.split(/[,;]/).map((part) => part.trim()).filter(Boolean);
  if (comma.length === 2) return comma;
  const sided = /^(.*?[NS])\s*(.+[EW])$/i.exec(text) ?? /^([NS].+?)\s*([EW].+)$/i.exec(text);
  if (sided) return sided.slice(1);
  const plain = new RegExp(`^(${NUMBER})\\s+(${NUMBER})$`).exec(text);
  return plain ? plain.slice(1) : null;
}

/** Returns { lng, lat } of "32.94, -86.93", "32°56'24\"N 86°55'48\"W" or "16S 506540 3644650"; null otherwise. */
export function parsePlace(written) {
  const text = written.trim().replace(/[()[\]]/g, " ").trim();
  const utm = utmOf(text);
  if (utm) return isOnEarth(utm) ? utm : null;
  const parts = partsOf(text)?.map(degreesOf);
  if (!parts || parts.includes(null)) return null;
  const isSwapped = /[EW]/.test(parts[0].side) || /[NS]/.test(parts[1].side);
  const [lat, lng] = (isSwapped ? parts.toReversed() : parts).map(({ value }) => value);
  return isOnEarth({ lng, lat }) ? { lng, lat } : null;
}

/** Connects the box for coordinates; `onPlace({ lng, lat })`. */
export function connectPlaces(onPlace) {
  const [form, input, note] = ["go", "place", "place-note"].map((id) => document.getElementById(id));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const place = parsePlace(input.value);
    note.textContent = place ? "" : 'Write coordinates as 32.94, -86.93 or 32°56\'24"N 86°55\'48"W or 16S 506540 3644650.';
    input.setAttribute("aria-invalid", String(!place));
    if (place) onPlace(place);
  });
}
