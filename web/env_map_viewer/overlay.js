// What is drawn over the picture on its 2-D canvas: the ring around the main light, and the scale of false colours.

import { placeOf } from "./camera.js";
import { STOP_COLORS } from "./shaders.js";

const FIRST_STOP = -8;
const LABEL_EVERY = 4; // stops

/** Circles around where the main light comes from; `unit` is a CSS pixel. */
export function drawLight(context, light, view, size, unit) {
  const place = light && placeOf(light.direction, view, size);
  if (!place) return;
  for (const [color, width] of [["#000a", 3.5], ["#fff", 1.5]]) {
    context.beginPath();
    context.arc(place.x, place.y, 12 * unit, 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = width * unit;
    context.stroke();
  }
}

/** The colours of the stops, numbered in stops over radiance 1, whatever the exposure. */
export function drawStops(context, exposure, size, unit, signed) {
  const height = Math.min(11 * unit, (size.height - 24 * unit) / STOP_COLORS.length);
  const right = size.width - 8 * unit;
  const bottom = size.height - 12 * unit;
  context.font = `${10 * unit}px sans-serif`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillStyle = "#000a";
  context.fillRect(right - 52 * unit, bottom - 16 * height - 8 * unit, 56 * unit, 16 * height + 16 * unit);
  STOP_COLORS.forEach((color, index) => {
    context.fillStyle = color;
    context.fillRect(right - 10 * unit, bottom - (index + 1) * height, 10 * unit, height);
  });
  context.fillStyle = "#fff";
  for (let index = 0; index <= STOP_COLORS.length; index += LABEL_EVERY) {
    context.fillText(signed(FIRST_STOP + index - exposure), right - 14 * unit, bottom - index * height);
  }
}
