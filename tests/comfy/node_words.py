"""What a node's words are compared by: its schema, its translations and its help pages.

Words are true when every input, output and choice of a schema is named where users read about it, and nothing is named
there that does not exist.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")
# Choices of these inputs are the files that a user has; of them only what Delit adds by itself is fixed.
LISTS_OF_FILES = {"file", "vae_name", "model_name"}
ADDED_TO_LISTS = re.compile(r"^(embedded|as stored)")
# Nodes of ComfyUI's core that our words name, by the names that its front end shows in each language.
CORE_NODES = {
    "en": {
        "Compare Images",
        "Load Image",
        "Load VAE",
        "Load Video",
        "Create Video",
        "Get Video Components",
        "Preview as Text",
        "Save Image",
        "Save Image (Advanced)",
        "Save Video",
        "VAE Decode",
        "VAE Encode",
    },
    "zh": {
        "加载VAE",
        "加载图像",
        "加载视频",
        "保存图像",
        "保存视频",
        "VAE编码",
        "VAE解码",
        "保存图像（高级）",
        "创建视频",
        "获取视频元素",
        "图像对比",
        "预览任意",
    },
}
TABLE_HEADS = {"en": {"Input": "inputs", "Output": "outputs"}, "zh": {"输入": "inputs", "输出": "outputs"}}


@dataclass(frozen=True)
class Words:
    """All words about all nodes.

    Attributes:
        info: /object_info of the pack's nodes.
        translated: language → node id → display_name, description, inputs, outputs (locales/…/nodeDefs.json).
        pages: language → node id → the help page, in Markdown.
    """

    info: dict[str, Any]
    translated: dict[str, dict[str, Any]]
    pages: dict[str, dict[str, str]]

    def known(self, language: str) -> set[str]:
        """Every name that words may quote in a language."""
        names = set(CORE_NODES[language])
        for node, info in self.info.items():
            words = self.translated[language].get(node, {})
            # ComfyUI's lists of choices are in English in every language.
            names |= {words.get("display_name"), *inputs_of(info), *info["output_name"]}
            names |= {choice for choices in choices_of(info).values() for choice in choices}
            for part in (*words.get("inputs", {}).values(), *words.get("outputs", {}).values()):
                names.add(part.get("name"))
        return {name for name in names if name}


def ids_of_nodes(repository: Path) -> list[str]:
    """The nodes that nodes/extension.py lists; new ones are found by themselves."""
    listed = (repository / "nodes" / "extension.py").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"^\s+(Delit\w+),$", listed, re.MULTILINE)))


def read_words(repository: Path, info: dict[str, Any]) -> Words:
    docs = repository / "web" / "docs"
    translated, pages = {}, {}
    for language in LANGUAGES:
        file = repository / "locales" / language / "nodeDefs.json"
        translated[language] = json.loads(file.read_text(encoding="utf-8"))
        pages[language] = {}
        for node in info:
            page = docs / (f"{node}.md" if language == "en" else f"{node}/{language}.md")
            if page.exists():
                pages[language][node] = page.read_text(encoding="utf-8")
    return Words(info, translated, pages)


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def choices_of(info: dict[str, Any]) -> dict[str, list[str]]:
    """Input → its fixed choices."""
    found = {}
    for name, specification in inputs_of(info).items():
        is_list = isinstance(specification[0], list)
        choices = specification[0] if is_list else specification[1].get("options", [])
        if choices and name in LISTS_OF_FILES:
            choices = [choice for choice in choices if ADDED_TO_LISTS.match(choice)]
        if choices:
            found[name] = [str(choice) for choice in choices]
    return found


def troubles_of_translation(words: Words, node: str, language: str) -> list[str]:
    """What a node's entry in locales/<language>/nodeDefs.json says wrong, or leaves out."""
    info, entry = words.info[node], words.translated[language].get(node)
    if entry is None:
        return [f"no entry in locales/{language}/nodeDefs.json"]
    found = _compare_names("inputs", set(entry.get("inputs", {})), set(inputs_of(info)))
    slots = {str(slot) for slot in range(len(info["output_name"]))}
    found += _compare_names("outputs", set(entry.get("outputs", {})), slots)
    tooltips = {name: part.get("tooltip", "") for name, part in entry.get("inputs", {}).items()}
    texts = [entry.get("display_name", ""), entry.get("description", ""), *tooltips.values()]
    texts += [part.get("tooltip", "") for part in entry.get("outputs", {}).values()]
    found += [f"an empty text of {node}"] if not all(texts) else []
    if language == "en":
        found += _compare_with_schema(info, entry)
    else:
        found += [f"not Chinese: {text}" for text in texts[1:] if text and not re.search("[一-鿿]", text)]
    for name, choices in choices_of(info).items():
        found += [
            f"{name}: its tooltip does not name the choice {c}"
            for c in choices
            if c not in tooltips.get(name, "")
        ]
    return found + _unknown_quotes(" ".join(texts), words.known(language))


def troubles_of_page(words: Words, node: str, language: str) -> list[str]:
    """What a node's help page says wrong, or leaves out."""
    info, page = words.info[node], words.pages[language].get(node)
    if page is None:
        return [f"no help page in {language}"]
    title = words.translated[language][node]["display_name"]
    found = [] if page.startswith(f"# {title}\n") else [f"its title is not “{title}”: {page.splitlines()[0]}"]
    named = _tables(page, language)
    found += _compare_names("inputs", named["inputs"], set(inputs_of(info)))
    found += _compare_names("outputs", named["outputs"], set(info["output_name"]))
    for name, choices in choices_of(info).items():
        found += [
            f"{name}: the choice `{choice}` is not named" for choice in choices if f"`{choice}`" not in page
        ]
    bold = set(re.findall(r"\*\*([^*\n]+)\*\*", page))
    nodes = {words.translated[language][other]["display_name"] for other in words.info}
    # What is bold and sounds like a node has to be one; other bold words are just loud.
    sounds_like = re.compile(r"Delit|VAE|^(Load|Save|Preview) |^(加载|保存|预览)")
    found += [
        f"no node is called “{name}”"
        for name in sorted(bold)
        if sounds_like.search(name) and name not in nodes | CORE_NODES[language]
    ]
    return found + _unknown_quotes(page, words.known(language))


def _compare_names(kind: str, named: set[str], real: set[str]) -> list[str]:
    return [f"{kind}: “{name}” is not named" for name in sorted(real - named)] + [
        f"{kind}: there is no “{name}”" for name in sorted(named - real)
    ]


def _compare_with_schema(info: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """The English translation is the schema itself, word for word."""
    said = {"display_name": entry.get("display_name"), "description": entry.get("description")}
    found = [f"{key} differs from the schema's: {text}" for key, text in said.items() if text != info[key]]
    for name, specification in inputs_of(info).items():
        tooltip = entry.get("inputs", {}).get(name, {}).get("tooltip")
        if tooltip != specification[1].get("tooltip"):
            found.append(f"{name}: the tooltip differs from the schema's: {specification[1].get('tooltip')}")
    tooltips = info["output_tooltips"] or []
    for slot, (name, tooltip) in enumerate(zip(info["output_name"], tooltips, strict=True)):
        part = entry.get("outputs", {}).get(str(slot), {})
        if (part.get("name"), part.get("tooltip")) != (name, tooltip):
            found.append(f"output {name} differs from the schema's: {tooltip}")
    return found


def _tables(page: str, language: str) -> dict[str, set[str]]:
    """The names in the first column of the page's tables of inputs and outputs."""
    named: dict[str, set[str]] = {"inputs": set(), "outputs": set()}
    kind = None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            kind = None
        elif cells[0] in TABLE_HEADS[language]:
            kind = TABLE_HEADS[language][cells[0]]
        elif kind:
            named[kind] |= set(re.findall(r"`([^`]+)`", cells[0]))
    return named


def _unknown_quotes(text: str, known: set[str]) -> list[str]:
    return [
        f"“{name}” is quoted, but nothing is called so"
        for name in dict.fromkeys(re.findall("“([^”]+)”", text))
        if name not in known
    ]
