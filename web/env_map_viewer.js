// “Preview Environment Map (Delit)” gets a viewer of its maps. The parts are in env_map_viewer/; shown as a DOM widget, it
// is the same in nodes drawn on the canvas and in Vue's.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { labelsFor } from "./env_map_viewer/labels.js";
import { ViewerPanel } from "./env_map_viewer/panel.js";

const NODE_ID = "DelitPreviewEnvMap";
const OUTPUT = "delit_env_maps"; // what nodes/env_map_viewer.py calls its maps among a node's outputs
const MIN_HEIGHT = 350;
const START_SIZE = [420, 520];

const panels = new Map(); // node → its viewer

async function load({ filename, subfolder, type }) {
  const response = await api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

function addStyles() {
  const href = new URL("./env_map_viewer/panel.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}

function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? navigator.language;
}

/** The node's key among a page's outputs: its id, with its subgraph's before it where it lies in one. */
function locator(node) {
  const inSubgraph = node.graph && node.graph.isRootGraph === false;
  return inSubgraph ? `${node.graph.id}:${node.id}` : String(node.id);
}

/** Show what an earlier run gave, if there is anything. */
function showOutputs(node, outputs) {
  const maps = outputs?.[locator(node)]?.[OUTPUT];
  if (maps?.length) panels.get(node)?.show(maps);
}

app.registerExtension({
  name: "Delit.EnvMapViewer",
  nodeCreated(node) {
    if (node.comfyClass !== NODE_ID) return;
    addStyles();
    const panel = new ViewerPanel(labelsFor(language()), load, (event) => app.canvas.processMouseWheel(event));
    const widget = node.addDOMWidget("viewer", "delit_env_map_viewer", panel.element, {
      serialize: false, // not part of the prompt
      hideOnZoom: false,
      getMinHeight: () => MIN_HEIGHT,
    });
    widget.serialize = false; // nor of the workflow
    node.setSize(node.size.map((side, axis) => Math.max(side, START_SIZE[axis])));
    panels.set(node, panel);

    const { onExecuted, onRemoved } = node;
    node.onExecuted = function (output) {
      onExecuted?.call(this, output);
      if (output?.[OUTPUT]?.length) panel.show(output[OUTPUT]);
    };
    node.onRemoved = function () {
      onRemoved?.call(this);
      panel.dispose();
      panels.delete(node);
    };
  },
  /** Nodes are made anew where something is undone, and the outputs stay. */
  loadedGraphNode(node) {
    if (node.comfyClass === NODE_ID) showOutputs(node, app.nodeOutputs);
  },
  /** The outputs of an earlier run are back: a workflow's tab or a past run was opened. */
  onNodeOutputsUpdated(outputs) {
    for (const node of panels.keys()) showOutputs(node, outputs);
  },
});
