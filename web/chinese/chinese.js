// Where ComfyUI is set to Chinese: what its translations (locales/zh) do not reach. The notes and titles of the shipped
// workflows, and what an error message says first. Texts that a user has changed stay as they are.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const TEXTS = new URL("./texts.json", import.meta.url);

/** The texts, or null where ComfyUI is set to another language. */
let texts = null;

const isChinese = () => String(app.ui.settings.getSettingValue("Comfy.Locale") ?? "").startsWith("zh");

/** A note's or title's Chinese, where it is one of ours and unchanged. */
function translate(node) {
  const note = node.widgets?.find(({ value }) => typeof value === "string" && texts.notes.has(value));
  if (note) note.value = texts.notes.get(note.value);
  if (texts.titles.has(node.title)) node.title = texts.titles.get(node.title);
}

function isOurs(graph) {
  return graph.nodes.some(({ type }) => type?.startsWith("Delit"));
}

/** The line that says in Chinese what went wrong; null for errors of other packs. */
function firstLine({ exception_type: type = "", exception_message: message = "" }) {
  const kind = type.split(".").at(-1);
  if (!(kind in texts.otherErrors)) return null;
  const known = texts.errors.find(([pattern]) => pattern.test(message.trim()));
  return known ? known[1] : texts.otherErrors[kind];
}

app.registerExtension({
  name: "Delit.Chinese",
  async init() {
    if (!isChinese()) return;
    const { notes, titles, errors, otherErrors } = await (await fetch(TEXTS)).json();
    texts = {
      notes: new Map(notes.map(({ en, zh }) => [en, zh])),
      titles: new Map(Object.entries(titles)),
      errors: errors.map(([pattern, line]) => [new RegExp(pattern, "m"), line]),
      otherErrors,
    };
    // Beside what the front end itself shows of the error: its listeners come first and cannot be told otherwise.
    api.addEventListener("execution_error", ({ detail }) => {
      const summary = firstLine(detail);
      if (summary) app.extensionManager.toast.add({ severity: "error", summary, detail: detail.exception_message });
    });
  },
  afterConfigureGraph() {
    if (!texts || !isOurs(app.graph)) return;
    app.graph.nodes.forEach(translate);
    for (const group of app.graph.groups) if (texts.titles.has(group.title)) group.title = texts.titles.get(group.title);
  },
});
