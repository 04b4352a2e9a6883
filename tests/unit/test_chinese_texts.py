"""What the front end shows in Chinese beyond ComfyUI's own translations (web/chinese) is whole and up to date."""

from __future__ import annotations

import ast
import json
import re
from functools import lru_cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXTS = json.loads((REPOSITORY / "web" / "chinese" / "texts.json").read_text(encoding="utf-8"))
WORKFLOWS = sorted((REPOSITORY / "workflows").glob("*.json"))
ERRORS = {"DelitError", "CheckpointError"}


def is_chinese(text: str) -> bool:
    return bool(re.search("[一-鿿]", text))


@lru_cache(maxsize=1)
def messages() -> list[str]:
    """Every error message of the pack, with a number in the place of each value."""
    found = []
    for file in [*(REPOSITORY / "nodes").glob("*.py"), *(REPOSITORY / "delit_models").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.JoinedStr, ast.Constant)):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [p.value if isinstance(p, ast.Constant) else "7" for p in parts]
                found.append("".join(text for text in texts if isinstance(text, str)))
    return found


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_notes_and_titles_of_shipped_workflows_are_there(workflow: Path) -> None:
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    notes = {note["en"] for note in TEXTS["notes"]}
    own = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert [note for note in own if note not in notes] == []
    titles = {node["title"] for node in graph["nodes"] if node.get("title")}
    titles |= {group["title"] for group in graph["groups"]}
    # A title of nothing but names is the same in both languages.
    named = {
        title for title in titles if not re.fullmatch(r"[\W\d]*(Delit|Wan|VAE|HDRI|Blender)?[\W\d]*", title)
    }
    assert named - set(TEXTS["titles"]) == set()


def test_both_readmes_lead_to_the_same_pages() -> None:
    pages = [
        set(re.findall(r"\]\(([\w/]+\.md)\)", (REPOSITORY / name).read_text(encoding="utf-8")))
        for name in ("README.md", "README.zh.md")
    ]
    assert (
        pages[0] - pages[1] <= {"README.zh.md", "CHANGELOG.md", "portraits/README.md"} and len(pages[1]) > 10
    )


def test_all_texts_are_chinese_and_used() -> None:
    graphs = "".join(
        json.dumps(json.loads(w.read_text(encoding="utf-8")), ensure_ascii=False) for w in WORKFLOWS
    )
    for note in TEXTS["notes"]:
        assert is_chinese(note["zh"])
        assert json.dumps(note["en"], ensure_ascii=False) in graphs, (
            f"no workflow has this note: {note['en']}"
        )
    for title, chinese in TEXTS["titles"].items():
        assert is_chinese(chinese) and json.dumps(title, ensure_ascii=False) in graphs, title


@pytest.mark.parametrize(("pattern", "line"), TEXTS["errors"])
def test_an_errors_pattern_fits_a_message_of_the_pack(pattern: str, line: str) -> None:
    assert is_chinese(line) and "\n" not in line
    assert any(re.search(pattern, message, re.MULTILINE) for message in messages())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("The image is 32×32 pixels; Delit needs at least 64 on each side.", "图像太小"),
        ("The image's values run from 0 to 9, but sRGB-coded pictures lie in [0, 1].", "超出"),
        ("The heads “Delit heads” were trained with the VAE “a” and do not fit the VAE “b”", "不匹配"),
        ("x.safetensors does not hold a Wan 2.1 VAE: it looks like a LoRA.", "不是 Wan 2.1 VAE"),
        ("“../secret.exr” lies outside ComfyUI's input folder. Copy the file into it.", "输入文件夹之外"),
    ],
)
def test_the_first_pattern_that_fits_is_the_right_one(message: str, expected: str) -> None:
    line = next(line for pattern, line in TEXTS["errors"] if re.search(pattern, message, re.MULTILINE))
    assert expected in line


def test_every_kind_of_error_has_a_line() -> None:
    assert set(TEXTS["otherErrors"]) == ERRORS
