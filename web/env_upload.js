// “Load Environment Map (Delit)” gets a button that uploads a file, and takes one dropped on it.
// ComfyUI's own upload button is for PNG, JPEG and WebP; it filters .exr and .hdr out.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE_ID = "DelitLoadEnvMap";
const SUFFIXES = [".exr", ".hdr"];
const WORDS = {
  en: { choose: "choose file to upload", failed: "could not be uploaded" },
  zh: { choose: "选择文件上传", failed: "上传失败" },
};

/** Words in the language that ComfyUI is set to. */
function words() {
  const locale = String(app.ui.settings.getSettingValue("Comfy.Locale") ?? "en");
  return locale.startsWith("zh") ? WORDS.zh : WORDS.en;
}

const isEnvMap = (file) => SUFFIXES.some((suffix) => file.name.toLowerCase().endsWith(suffix));

/** Puts a file into ComfyUI's input folder and returns the name it has there. */
async function upload(file) {
  const body = new FormData();
  body.append("image", file); // the field's name in ComfyUI's route, whatever the file is
  body.append("type", "input");
  const response = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  const { name, subfolder } = await response.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

/** Uploads a file and selects it in the node's list. */
async function choose(node, file) {
  const widget = node.widgets.find(({ name }) => name === "file");
  try {
    const name = await upload(file);
    if (!widget.options.values.includes(name)) widget.options.values.push(name);
    widget.value = name;
    widget.callback?.(name);
  } catch (error) {
    const detail = `${file.name} ${words().failed}: ${error.message}`;
    app.extensionManager.toast.add({ severity: "error", summary: "Delit", detail });
  }
}

function openFileDialog(node) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = SUFFIXES.join(",");
  input.onchange = () => input.files.length && choose(node, input.files[0]);
  input.click();
}

app.registerExtension({
  name: "Delit.EnvMapUpload",
  nodeCreated(node) {
    if (node.comfyClass !== NODE_ID) return;
    const button = node.addWidget("button", "upload", null, () => openFileDialog(node), { serialize: false });
    button.label = words().choose;
    node.onDragOver = (event) => [...(event?.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
    node.onDragDrop = (event) => {
      const file = [...event.dataTransfer.files].find(isEnvMap);
      if (file) choose(node, file);
      return Boolean(file);
    };
  },
});
