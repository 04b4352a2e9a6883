// The viewer of one node: its canvas, its controls, and what they do.

import { FLAT, LOOK, drag, keepInside, resetView, startView, zoom } from "./camera.js";
import { drawLight, drawStops } from "./overlay.js";
import { NoWebGL, forget, release, rendererFor } from "./renderer.js";

const EXPOSURE_LIMIT = 16; // stops, as the nodes' own exposure inputs
const KEY_STOPS = 0.5;
const KEY_STEP = 0.08; // of the picture's height
const WHEEL_ZOOM = 0.0012; // a notch of 100 is 13%
const PAGE_ZOOM = 1.25;

/** A map as the node describes it (nodes/env_map_viewer.py).
 * @typedef {{filename: string, subfolder: string, type: string, width: number, height: number, auto_stops: number,
 *   light: null | {direction: number[], azimuth: number, elevation: number, stops: number, diameter: number,
 *   share: number}}} MapNotes */

export class ViewerPanel {
  /** `labels` from labels.js; `load(notes)` gives a map's bytes, an ArrayBuffer; `onOtherWheel(event)` gets what is the
   * graph's: the wheel with Ctrl. */
  constructor(labels, load, onOtherWheel) {
    Object.assign(this, { labels, load, onOtherWheel });
    this.view = startView();
    this.maps = [];
    this.index = 0;
    this.map = null;
    this.loading = false;
    this.frame = 0;
    this.element = this.build();
    this.listen();
    this.update();
    this.resizes = new ResizeObserver(() => this.requestDraw());
    this.resizes.observe(this.stage);
  }

  /** Show what a run gave. @param {MapNotes[]} maps */
  show(maps) {
    this.maps = maps;
    this.choose(Math.min(this.index, maps.length - 1));
  }

  async choose(index) {
    this.index = index;
    const notes = this.maps[index];
    this.loading = true;
    this.update();
    let pixels = null;
    try {
      pixels = new Uint16Array(await this.load(notes));
    } catch {
      // Not there any more: ComfyUI empties its temp folder when it starts.
    }
    if (this.maps[this.index] !== notes) return; // Another one was chosen in the meantime.
    if (pixels?.length !== 3 * notes.width * notes.height) pixels = null;
    forget(this.map);
    this.loading = false;
    this.map = pixels && { width: notes.width, height: notes.height, pixels };
    this.update();
  }

  /** The node is gone: give back what the graphics card holds for it. */
  dispose() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    forget(this.map);
    release(this);
  }

  build() {
    const { labels } = this;
    this.canvas = element("canvas", { tabIndex: 0, role: "application", ariaLabel: labels.viewer });
    this.message = element("div", { className: "message", role: "status" });
    this.stage = element("div", { className: "stage" }, this.canvas, this.message);
    // Vue nodes leave the wheel to what says so (and, in newer front ends, has the focus); else it zooms the graph.
    this.stage.dataset.captureWheel = "true";
    this.buttons = {
      look: this.button(labels.look, "", () => this.change({ mode: LOOK })),
      flat: this.button(labels.flat, "", () => this.change({ mode: FLAT })),
      falseColors: this.button(labels.falseColors, labels.falseColorsHelp, () =>
        this.change({ falseColors: !this.view.falseColors })),
      balls: this.button(labels.balls, labels.ballsHelp, () => this.change({ balls: !this.view.balls })),
    };
    const reset = this.button(labels.reset, labels.resetHelp, () => this.change(resetView(this.view)));
    this.exposure = slider(-EXPOSURE_LIMIT, EXPOSURE_LIMIT, 0.1, (exposure) => this.change({ exposure }));
    this.exposure.title = labels.exposureHelp;
    this.exposureValue = element("output", {});
    const auto = this.button(labels.auto, labels.autoHelp, () =>
      this.change({ exposure: this.maps[this.index]?.auto_stops ?? 0 }));
    this.mapSlider = slider(1, 1, 1, (number) => this.choose(number - 1));
    this.mapValue = element("output", {});
    this.mapRow = row(element("label", {}, labels.map, this.mapSlider, this.mapValue));
    this.light = element("div", { className: "light" });
    return element("div", { className: "delit-env-viewer" },
      this.stage,
      row(...Object.values(this.buttons), reset),
      row(element("label", {}, labels.exposure, this.exposure, this.exposureValue), auto),
      this.mapRow,
      this.light);
  }

  button(text, title, onclick) {
    return element("button", { type: "button", title, onclick }, text);
  }

  listen() {
    const { canvas } = this;
    // What is done in the viewer moves no node and triggers none of the graph's keys.
    for (const name of ["pointerdown", "mousedown"]) {
      this.element.addEventListener(name, (event) => event.button === 0 && event.stopPropagation());
    }
    this.element.addEventListener("keydown", (event) => {
      if (event.target !== canvas && !modified(event)) event.stopPropagation();
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("held");
      this.held = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => this.held && this.onDrag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        this.held = null;
        canvas.classList.remove("held");
      });
    }
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  onDrag(event) {
    // The graph may be zoomed: what counts is how large the picture is on the screen.
    const shown = this.canvas.getBoundingClientRect();
    drag(this.view, shown, event.clientX - this.held[0], event.clientY - this.held[1]);
    this.held = [event.clientX, event.clientY];
    this.requestDraw();
  }

  onWheel(event) {
    event.preventDefault();
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey) return this.onOtherWheel(event);
    zoom(this.view, this.size(), Math.exp(-event.deltaY * WHEEL_ZOOM));
    return this.requestDraw();
  }

  onKey(event) {
    const size = this.size();
    const step = KEY_STEP * size.height;
    const turn = (dx, dy) => drag(this.view, size, dx, dy);
    const expose = (stops) => this.change({ exposure: this.view.exposure + stops });
    const actions = {
      ArrowLeft: () => turn(step, 0),
      ArrowRight: () => turn(-step, 0),
      ArrowUp: () => turn(0, step),
      ArrowDown: () => turn(0, -step),
      PageUp: () => zoom(this.view, size, PAGE_ZOOM),
      PageDown: () => zoom(this.view, size, 1 / PAGE_ZOOM),
      Home: () => resetView(this.view),
      "+": () => expose(KEY_STOPS),
      "=": () => expose(KEY_STOPS),
      "-": () => expose(-KEY_STOPS),
    };
    if (modified(event) || !(event.key in actions)) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
    this.requestDraw();
  }

  change(changes) {
    Object.assign(this.view, changes);
    this.view.exposure = Math.min(Math.max(this.view.exposure, -EXPOSURE_LIMIT), EXPOSURE_LIMIT);
    this.update();
  }

  /** Bring the controls and the picture in line with the view. */
  update() {
    const { view, maps, labels, buttons } = this;
    const pressed = { look: view.mode === LOOK, flat: view.mode === FLAT, falseColors: view.falseColors, balls: view.balls };
    for (const name of Object.keys(buttons)) buttons[name].ariaPressed = String(pressed[name]);
    this.exposure.value = view.exposure;
    this.exposureValue.textContent = labels.signed(view.exposure);
    this.mapRow.hidden = maps.length < 2;
    this.mapSlider.max = Math.max(1, maps.length);
    this.mapSlider.value = this.index + 1;
    this.mapValue.textContent = `${this.index + 1} / ${maps.length}`;
    const notes = maps[this.index];
    this.light.textContent = !notes ? "" : notes.light ? labels.light(notes.light) : labels.noLight;
    this.stage.ariaBusy = String(this.loading);
    this.message.textContent = this.map || this.loading ? "" : notes ? labels.gone : labels.empty;
    this.requestDraw();
  }

  requestDraw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  /** Of the picture in CSS pixels. */
  size() {
    return { width: this.stage.clientWidth, height: this.stage.clientHeight };
  }

  draw() {
    const unit = window.devicePixelRatio || 1;
    const { width, height } = this.size();
    const size = { width: Math.round(width * unit), height: Math.round(height * unit) };
    if (!size.width || !size.height) return; // Not on the page, or folded away.
    if (this.canvas.width !== size.width || this.canvas.height !== size.height) Object.assign(this.canvas, size);
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, size.width, size.height);
    if (!this.map) return;
    const { view } = this;
    keepInside(view, size);
    try {
      context.drawImage(rendererFor(this).draw(this.map, view, size, this.ballPlaces(size)), 0, 0);
    } catch (error) {
      if (!(error instanceof NoWebGL)) throw error;
      this.message.textContent = this.labels.noWebGL;
      return;
    }
    drawLight(context, this.maps[this.index].light, view, size, unit);
    if (view.falseColors) drawStops(context, view.exposure, size, unit, this.labels.signed);
  }

  /** Along the lower edge, from the left: mirror, matte, diffuse. */
  ballPlaces({ width, height }) {
    const radius = this.view.balls ? Math.min(0.13 * height, 0.09 * width) : 0;
    return [0, 1, 2].map((number) => [radius * (1.25 + 2.2 * number), height - 1.25 * radius, radius]);
  }
}

/** Whether a key is one of the graph's commands, such as Ctrl+Enter. */
const modified = (event) => event.ctrlKey || event.metaKey || event.altKey;

/** An element with properties and with children, strings among them as text. */
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const row = (...children) => element("div", { className: "row" }, ...children);

function slider(min, max, step, onInput) {
  const input = element("input", { type: "range", min, max, step, value: 0 });
  input.addEventListener("input", () => onInput(Number(input.value)));
  return input;
}
