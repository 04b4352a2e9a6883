// Where the viewer looks. Axes and lat-long are Delit's (delit_models/lat_long.py): +X right, +Y up, the camera looks
// along -Z; the map's centre is straight ahead, right of it is +X.

export const LOOK = "look"; // through a camera that stands where the portrait's stood
export const FLAT = "flat"; // the lat-long map itself

const DEGREE = Math.PI / 180;
const START = { yaw: 0, pitch: 0, fov: 75 * DEGREE, u: 0.5, v: 0.5, zoom: 1 };

/** A view as it is at first: ahead, as the camera that took the portrait. Angles are radians, `fov` is vertical. */
export const startView = () => ({ mode: LOOK, exposure: 0, falseColors: false, balls: true, ...START });

/** Turn a view back ahead and zoom out. */
export const resetView = (view) => Object.assign(view, START);

/** Unit vectors of the camera: right, up, and back (towards the viewer). */
export function basis({ mode, yaw, pitch }) {
  if (mode === FLAT) return { right: [1, 0, 0], up: [0, 1, 0], back: [0, 0, 1] };
  const [sinYaw, cosYaw, sinPitch, cosPitch] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  return {
    right: [cosYaw, 0, sinYaw],
    up: [-sinPitch * sinYaw, cosPitch, sinPitch * cosYaw],
    back: [-cosPitch * sinYaw, -sinPitch, cosPitch * cosYaw],
  };
}

/** Of a flat view, how many pixels high the whole map is. */
export const flatHeight = ({ zoom }, { width, height }) => zoom * Math.min(height, width / 2);

/** Pixel (x, y), y downwards, at which a direction is seen in a picture of a size; null where it is not. */
export function placeOf(direction, view, size) {
  const [x, y, z] = direction;
  if (view.mode === FLAT) {
    const high = flatHeight(view, size);
    const u = Math.atan2(x, -z) / (2 * Math.PI) + 0.5 - view.u;
    const v = 0.5 - Math.atan2(y, Math.hypot(x, z)) / Math.PI - view.v;
    return { x: size.width / 2 + (u - Math.round(u)) * 2 * high, y: size.height / 2 + v * high };
  }
  const { right, up, back } = basis(view);
  const dot = (axis) => axis[0] * x + axis[1] * y + axis[2] * z;
  const depth = -dot(back);
  if (depth <= 1e-3) return null;
  const scale = size.height / (2 * Math.tan(view.fov / 2) * depth);
  return { x: size.width / 2 + dot(right) * scale, y: size.height / 2 - dot(up) * scale };
}

/** Move what is seen by pixels, as when it is taken hold of. */
export function drag(view, size, dx, dy) {
  if (view.mode === FLAT) {
    const high = flatHeight(view, size);
    view.u = modulo(view.u - dx / (2 * high), 1);
    view.v -= dy / high;
  } else {
    const perPixel = view.fov / size.height;
    view.yaw = modulo(view.yaw - dx * perPixel + Math.PI, 2 * Math.PI) - Math.PI;
    view.pitch = clamp(view.pitch + dy * perPixel, -Math.PI / 2, Math.PI / 2);
  }
  keepInside(view, size);
}

/** Magnify by a factor. */
export function zoom(view, size, factor) {
  if (view.mode === FLAT) view.zoom = clamp(view.zoom * factor, 1, 32);
  else view.fov = clamp(view.fov / factor, 5 * DEGREE, 120 * DEGREE);
  keepInside(view, size);
}

/** A flat view does not leave the map's upper and lower edge. */
export function keepInside(view, size) {
  const half = Math.min(0.5, size.height / (2 * flatHeight(view, size)));
  view.v = clamp(view.v, half, 1 - half);
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const modulo = (value, period) => ((value % period) + period) % period;
