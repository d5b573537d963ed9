// The map as a picture: what is on screen with its legend, scale, date and source; to save or to print.

const MARGIN = 16;
const ROW = 22;
const FONT = '13px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';

/** Returns the canvas of a map as it is drawn now; it is empty outside of a frame. */
function canvasOf(map) {
  return new Promise((resolve) => {
    map.once("render", () => createImageBitmap(map.getCanvas()).then(resolve));
    map.triggerRepaint();
  });
}

/** Returns a length of 1, 2 or 5 · 10ⁿ meters that fits in `most` CSS pixels, and its width. */
function scaleOf(map, most) {
  const { lat } = map.getCenter();
  const meters = (40075016.7 * Math.cos((lat * Math.PI) / 180)) / (512 * 2 ** map.getZoom());
  const power = 10 ** Math.floor(Math.log10(most * meters));
  const length = [5, 2, 1].map((factor) => factor * power).find((each) => each <= most * meters);
  return { text: length >= 1000 ? `${length / 1000} km` : `${length} m`, width: length / meters };
}

/**
 * Returns a canvas with both sides of the divider, and below them title, legend, scale and source.
 * `about`: { title, note, rows: [{ color, title, share }], credit, address, cut: CSS pixels of the divider or 0 }.
 */
export async function compose(panes, about) {
  const [back, front] = await Promise.all(panes.maps.map(canvasOf));
  const ratio = front.width / panes.front.getContainer().clientWidth;
  const [width, height] = [front.width / ratio, front.height / ratio];
  const columns = Math.max(1, Math.min(3, Math.floor((width - MARGIN) / 250)));
  const lines = Math.ceil(about.rows.length / columns);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [front.width, front.height + (lines * ROW + 118) * ratio];
  const draw = canvas.getContext("2d");
  draw.fillStyle = "#fff";
  draw.fillRect(0, 0, canvas.width, canvas.height);
  draw.drawImage(back, 0, 0);
  const cut = Math.round(about.cut * ratio);
  if (cut < front.width) draw.drawImage(front, cut, 0, front.width - cut, front.height, cut, 0, front.width - cut, front.height);
  draw.scale(ratio, ratio);
  if (cut) {
    draw.fillStyle = "#fff";
    draw.fillRect(about.cut - 1.5, 0, 3, height);
  }
  const text = (words, x, y, { bold = false, color = "#18211d", most = width - 2 * MARGIN } = {}) => {
    draw.font = bold ? `600 ${FONT}` : FONT;
    draw.fillStyle = color;
    draw.fillText(words, x, y, most);
  };
  text(about.title, MARGIN, height + 26, { bold: true });
  text(about.note, MARGIN, height + 46, { color: "#566159" });
  about.rows.forEach(({ color, title, share }, i) => {
    const x = MARGIN + (i % columns) * ((width - MARGIN) / columns);
    const y = height + 60 + Math.floor(i / columns) * ROW;
    draw.fillStyle = color;
    draw.fillRect(x, y, 15, 15);
    draw.strokeStyle = "rgb(128 128 128 / 0.6)";
    draw.strokeRect(x + 0.5, y + 0.5, 14, 14);
    text(`${title}  ${share}`, x + 23, y + 12.5, { most: width / columns - 40 });
  });
  const bottom = height + 60 + lines * ROW;
  const scale = scaleOf(panes.front, 160);
  draw.fillStyle = "#18211d";
  draw.fillRect(MARGIN, bottom + 14, scale.width, 3);
  text(scale.text, MARGIN + scale.width + 10, bottom + 20);
  text(about.credit, MARGIN, bottom + 42, { color: "#566159" });
  if (width > 700) {
    draw.textAlign = "right";
    text(about.address, width - MARGIN, bottom + 20, { color: "#566159", most: width - scale.width - 220 });
  }
  return canvas;
}

const blobOf = (canvas) => new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });

export async function savePicture(panes, about) {
  const blob = await blobOf(await compose(panes, about));
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: about.file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** Prints the picture alone, on one sheet. */
export async function printPicture(panes, about) {
  const sheet = document.getElementById("sheet");
  const url = URL.createObjectURL(await blobOf(await compose(panes, about)));
  sheet.src = url;
  sheet.alt = about.title;
  await sheet.decode();
  window.addEventListener("afterprint", () => URL.revokeObjectURL(url), { once: true });
  window.print();
}
