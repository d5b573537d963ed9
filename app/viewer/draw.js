// Drawing a polygon: click its corners, then the first one again, or Enter; Esc gives up.

const CLOSE_PX = 14;

export class Drawing {
  #corners = [];
  #pointer = null;
  active = false;

  /** `onShow(GeoJSON or null)` gets what is drawn so far; `onDone(geometry or null)` what came of it. */
  constructor(map, { onShow, onDone }) {
    Object.assign(this, { map, onShow, onDone });
    map.on("click", (event) => {
      if (!this.active) return;
      event.preventDefault(); // the click that closes the polygon asks for no place
      this.#add(event.lngLat);
    });
    map.on("mousemove", (event) => {
      if (!this.active) return;
      this.#pointer = [event.lngLat.lng, event.lngLat.lat];
      this.#show();
    });
    // Before the map's own listeners: Enter sets a corner then and asks for no class.
    document.addEventListener("keydown", (event) => this.active && this.#key(event), { capture: true });
  }

  begin() {
    this.#corners = [];
    this.#pointer = null;
    this.active = true;
    this.map.doubleClickZoom.disable();
    document.body.classList.add("drawing");
    this.#show();
  }

  /** Ends with a polygon, or with nothing when there are fewer than three corners. */
  finish() {
    const ring = this.#corners;
    this.#end(ring.length > 2 ? { type: "Polygon", coordinates: [[...ring, ring[0]]] } : null);
  }

  cancel() {
    if (this.active) this.#end(null);
  }

  #end(geometry) {
    this.active = false;
    document.body.classList.remove("drawing");
    setTimeout(() => this.map.doubleClickZoom.enable(), 300); // the second click of a double click is still to come
    this.onShow(null);
    this.onDone(geometry);
  }

  #add({ lng, lat }) {
    const first = this.#corners[0];
    if (first && this.#corners.length > 2) {
      const [a, b] = [this.map.project(first), this.map.project([lng, lat])];
      if (Math.hypot(a.x - b.x, a.y - b.y) < CLOSE_PX) {
        this.finish();
        return;
      }
    }
    const corner = [lng, lat].map((degrees) => Number(degrees.toFixed(7)));
    const last = this.#corners.at(-1);
    if (last && last[0] === corner[0] && last[1] === corner[1]) this.finish(); // a double click
    else this.#corners.push(corner);
    if (this.active) this.#show();
  }

  #key(event) {
    const onMap = event.target === this.map.getCanvas();
    if (event.key === "Escape") this.cancel();
    else if (event.key === "Backspace" && !/input|textarea/i.test(event.target.tagName)) this.#corners.pop();
    else if (event.key === "Enter" && onMap && event.shiftKey) this.finish();
    else if (event.key === "Enter" && onMap) this.#add(this.map.getCenter());
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (this.active) this.#show();
  }

  #show() {
    const line = this.#pointer ? [...this.#corners, this.#pointer] : this.#corners;
    const features = this.#corners.map((corner) => ({ type: "Feature", properties: {}, geometry: { type: "Point", coordinates: corner } }));
    if (line.length > 1) features.push({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: [...line, line[0]] } });
    this.onShow({ type: "FeatureCollection", features });
  }
}
