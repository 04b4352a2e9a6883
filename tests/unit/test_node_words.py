"""That the comparison of words with schemas (tests/comfy/node_words.py) sees what is wrong."""

from __future__ import annotations

import copy

import pytest

from tests.comfy.node_words import Words, ids_of_nodes, troubles_of_page, troubles_of_translation

PAGE = """# Turn Map

Like **Load Image**.

| Input | What it is |
|---|---|
| `env` | A map. |
| `side` | `left` or `right`. |

| Output | What it is |
|---|---|
| `turned` | The map. |
"""
ENTRY = {
    "display_name": "Turn Map",
    "description": "Turns a map; see “side”.",
    "inputs": {
        "env": {"name": "env", "tooltip": "A map."},
        "side": {"name": "side", "tooltip": "Where to: left or right."},
    },
    "outputs": {"0": {"name": "turned", "tooltip": "The map."}},
}
INFO = {
    "display_name": "Turn Map",
    "description": "Turns a map; see “side”.",
    "input": {
        "required": {
            "env": ["IMAGE", {"tooltip": "A map."}],
            "side": ["COMBO", {"options": ["left", "right"], "tooltip": "Where to: left or right."}],
        }
    },
    "output_name": ["turned"],
    "output_tooltips": ["The map."],
}


def words(page: str = PAGE, entry: dict | None = None, info: dict | None = None) -> Words:
    translated = {language: {"DelitTurn": entry or ENTRY} for language in ("en", "zh")}
    return Words({"DelitTurn": info or INFO}, translated, {"en": {"DelitTurn": page}, "zh": {}})


def test_true_words_pass():
    assert troubles_of_page(words(), "DelitTurn", "en") == []
    assert troubles_of_translation(words(), "DelitTurn", "en") == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("# Turn Map", "# Turn Maps", "title"),
        ("| `env` | A map. |\n", "", "“env” is not named"),
        ("| `env` |", "| `env`, `up` |", "there is no “up”"),
        ("`left` or `right`", "`left`", "`right` is not named"),
        ("| `turned` | The map. |\n", "", "“turned” is not named"),
        ("**Load Image**", "**Load Delit Image**", "no node is called “Load Delit Image”"),
        ("Like", "“as is”, like", "“as is” is quoted"),
    ],
)
def test_false_pages_are_found(before, after, told):
    assert before in PAGE
    assert told in " ".join(troubles_of_page(words(PAGE.replace(before, after, 1)), "DelitTurn", "en"))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("display_name",), "Turn", "display_name differs"),
        (("description",), "Turns it.", "description differs"),
        (("inputs", "env", "tooltip"), "Two maps.", "env: the tooltip differs"),
        (("inputs", "side", "tooltip"), "left", "the choice right"),
        (("inputs", "up"), {"name": "up", "tooltip": "x"}, "there is no “up”"),
        (("outputs", "0", "name"), "map", "output turned differs"),
        (("outputs", "1"), {"name": "x", "tooltip": "x"}, "there is no “1”"),
        (("description",), "", "empty text"),
    ],
)
def test_false_translations_are_found(place, value, told):
    entry = copy.deepcopy(ENTRY)
    part = entry
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert told in " ".join(troubles_of_translation(words(entry=entry), "DelitTurn", "en"))


def test_untranslated_texts_are_found():
    assert "not Chinese" in " ".join(troubles_of_translation(words(), "DelitTurn", "zh"))


def test_missing_words_are_found():
    assert troubles_of_page(words(), "DelitTurn", "zh") == ["no help page in zh"]
    nothing = Words({"DelitTurn": INFO}, {"en": {}}, {"en": {}})
    assert troubles_of_translation(nothing, "DelitTurn", "en") == ["no entry in locales/en/nodeDefs.json"]


def test_new_nodes_are_compared_by_themselves(tmp_path):
    (tmp_path / "nodes").mkdir()
    listed = "        return [\n            DelitOne,\n            DelitTwo,\n        ]\n"
    (tmp_path / "nodes" / "extension.py").write_text(f"from .a import DelitOne, DelitTwo\n{listed}")
    assert ids_of_nodes(tmp_path) == ["DelitOne", "DelitTwo"]
