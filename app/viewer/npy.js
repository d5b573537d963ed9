// NumPy's .npy format, as far as class tiles need it: uint8, C order.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

/** Returns { shape, data } of an .npy file; data is a Uint8Array view of the buffer, not a copy. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 12 || view.getUint32(0) !== 0x934e554d) throw new Error("not an .npy file");
  const long = view.getUint8(6) >= 2;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, start - 10));
  if (!/'descr':\s*'\|u1'/.test(header) || /'fortran_order':\s*True/.test(header)) {
    throw new Error(`expected uint8 in C order, got ${header.trim()}`);
  }
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)[1].split(",").filter((n) => n.trim()).map(Number);
  const size = shape.reduce((product, n) => product * n, 1);
  return { shape, data: new Uint8Array(buffer, start, size) };
}
