// Draws environment maps with WebGL 2, in one context for all nodes: a browser gives a page about 16, and a graph may hold
// more viewers than that. Each node has an ordinary 2-D canvas, into which the picture is copied.
//
// Plain WebGL rather than a library: all that there is to draw is one rectangle, whose shader looks up a lat-long map.
// three.js (0.187: 2.1 MB in two modules) would add a scene graph of which nothing is used, and ComfyUI's page loads every
// script of a pack when it opens. The viewer is 38 KB.

import { FLAT, basis, flatHeight } from "./camera.js";
import { BALLS, BALL_PIXELS, COVER, PICTURE, STOP_COLORS } from "./shaders.js";

// So many rows of the map, or up to twice as many, light the balls; the matte one mirrors small lamps.
const MATTE_ROWS = 64;
const DIFFUSE_ROWS = 32;

/** That this browser cannot draw the maps. */
export class NoWebGL extends Error {}

let shared = null;
const users = new Set();

/** The renderer, for a user that can redraw itself after the context was lost: `user.requestDraw()`. */
export function rendererFor(user) {
  users.add(user);
  shared ??= new Renderer();
  return shared;
}

/** A map is not drawn any more: its texture goes. */
export const forget = (map) => shared?.forget(map);

/** A user draws no more. With the last one the context goes too. */
export function release(user) {
  users.delete(user);
  if (users.size > 0 || !shared) return;
  shared.dispose();
  shared = null;
}

/** An environment map on the page: `pixels` are half floats, R, G and B, rows from the zenith down.
 * @typedef {{width: number, height: number, pixels: Uint16Array}} MapPixels */

class Renderer {
  constructor() {
    this.canvas = document.createElement("canvas");
    const gl = this.canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    // Both let a half-float texture be drawn to, which its mipmaps need as well.
    const drawable = gl && (gl.getExtension("EXT_color_buffer_float") ?? gl.getExtension("EXT_color_buffer_half_float"));
    if (!drawable) throw new NoWebGL();
    this.gl = gl;
    this.textures = new Map();
    this.canvas.addEventListener("webglcontextlost", () => this.replace());
    this.balls = new Program(gl, BALLS);
    this.picture = new Program(gl, PICTURE);
    this.ballTexture = texture(gl, 2 * BALL_PIXELS, BALL_PIXELS, null);
    this.ballFrame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.ballFrame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.ballTexture, 0);
  }

  /** Draw a view of a map. Returns a canvas of `size`, to be copied before anything else is drawn.
   * `ballPlaces`: for the mirror, the matte and the diffuse ball [x, y, radius] in pixels; radius 0 leaves it out. */
  draw(map, view, size, ballPlaces) {
    const { gl, canvas } = this;
    const { right, up, back } = basis(view);
    const camera = [...right, ...up, ...back];
    this.useTexture(0, this.textureOf(map));
    this.useTexture(1, this.ballTexture);
    if (view.balls) this.shadeBalls(map, camera);
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, size.width, size.height);
    this.picture.run({
      map: ["1i", 0],
      balls: ["1i", 1],
      size: ["2f", size.width, size.height],
      camera: ["Matrix3fv", false, camera],
      flat_view: ["1i", view.mode === FLAT ? 1 : 0],
      center: ["2f", view.u, view.v],
      map_height: ["1f", flatHeight(view, size)],
      half_tangent: ["1f", Math.tan(view.fov / 2)],
      exposure: ["1f", view.exposure],
      false_colors: ["1i", view.falseColors ? 1 : 0],
      stop_colors: ["3fv", STOP_COLORS.flatMap(channels)],
      ball_places: ["3fv", ballPlaces.flat()],
    });
    return canvas;
  }

  shadeBalls(map, camera) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.ballFrame);
    gl.viewport(0, 0, 2 * BALL_PIXELS, BALL_PIXELS);
    this.balls.run({
      map: ["1i", 0],
      matte_level: ["1i", mipmapWith(MATTE_ROWS, map)],
      diffuse_level: ["1i", mipmapWith(DIFFUSE_ROWS, map)],
      camera: ["Matrix3fv", false, camera],
    });
  }

  useTexture(unit, handle) {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(this.gl.TEXTURE_2D, handle);
  }

  textureOf(map) {
    if (!this.textures.has(map)) {
      const { gl } = this;
      const handle = texture(gl, map.width, map.height, withAlpha(map.pixels));
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
      gl.generateMipmap(gl.TEXTURE_2D);
      this.textures.set(map, handle);
    }
    return this.textures.get(map);
  }

  forget(map) {
    this.gl.deleteTexture(this.textures.get(map) ?? null);
    this.textures.delete(map);
  }

  /** The browser took the context away (sleep, a driver's restart): everybody draws again, in a new one. */
  replace() {
    if (shared !== this) return;
    shared = null;
    for (const user of users) user.requestDraw();
  }

  dispose() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

class Program {
  constructor(gl, fragments) {
    this.gl = gl;
    this.handle = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, COVER], [gl.FRAGMENT_SHADER, fragments]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.handle, shader);
    }
    gl.linkProgram(this.handle);
    if (!gl.getProgramParameter(this.handle, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = gl.getAttachedShaders(this.handle).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`Delit's viewer: a shader does not compile. ${logs.join(" ")}`);
    }
    this.places = {};
  }

  /** Fill the viewport. `uniforms`: name → [suffix of gl.uniform…, its arguments]. */
  run(uniforms) {
    const { gl } = this;
    gl.useProgram(this.handle);
    for (const [name, [kind, ...values]] of Object.entries(uniforms)) {
      this.places[name] ??= gl.getUniformLocation(this.handle, name);
      gl[`uniform${kind}`](this.places[name], ...values);
    }
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

/** A half-float RGBA texture, bound to the active unit. */
function texture(gl, width, height, pixels) {
  const handle = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, handle);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, width, height, 0, gl.RGBA, gl.HALF_FLOAT, pixels);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return handle;
}

/** RGB → RGBA: mipmaps are made of textures that can be drawn to, and those have four channels. */
function withAlpha(rgb) {
  const rgba = new Uint16Array((rgb.length / 3) * 4);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
  }
  return rgba;
}

/** Which of a map's mipmaps has so many rows, up to twice as many, or all where there are fewer. */
const mipmapWith = (rows, map) => Math.max(0, Math.floor(Math.log2(map.height / rows)));

/** "#rrggbb" → its channels in [0, 1]. */
const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
