"""Tooltips, translations and help pages say what the nodes are: all of it, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.comfy import node_words
from tests.comfy.comfyui import REPOSITORY, ComfyServer
from tests.comfy.conftest import CHECKOUTS

NODES = node_words.ids_of_nodes(REPOSITORY)


@pytest.fixture(scope="session")
def words(running_server: ComfyServer) -> node_words.Words:
    info = running_server.get("/object_info")
    module = f"custom_nodes.{running_server.pack_name}"
    return node_words.read_words(
        REPOSITORY, {name: node for name, node in info.items() if node["python_module"] == module}
    )


def test_all_nodes_are_compared(words: node_words.Words) -> None:
    assert sorted(words.info) == NODES
    for language in node_words.LANGUAGES:
        assert sorted(words.translated[language]) == NODES, f"locales/{language} names other nodes"
    pages = {path.stem for path in (REPOSITORY / "web" / "docs").glob("*.md")}
    assert sorted(pages) == NODES, "web/docs has pages of other nodes"


@pytest.mark.parametrize("language", node_words.LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_translations(words: node_words.Words, node: str, language: str) -> None:
    assert not node_words.troubles_of_translation(words, node, language)


@pytest.mark.parametrize("language", node_words.LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_pages(words: node_words.Words, node: str, language: str) -> None:
    assert not node_words.troubles_of_page(words, node, language)


def test_nodes_of_core_are_called_so(server: ComfyServer) -> None:
    """In the newest version: not all of them are in older ones."""
    if server.checkout != CHECKOUTS[-1]:
        pytest.skip("of the newest ComfyUI only")
    names = {node["display_name"] for node in server.get("/object_info").values()}
    assert node_words.CORE_NODES["en"] <= names


def test_environment_maps_of_subfolders_are_listed(server: ComfyServer) -> None:
    below = server.input / "skies" / "clear"
    hidden, elsewhere = server.input / ".cache", server.base / "elsewhere"
    for folder in (below, hidden, elsewhere):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "noon.hdr").write_bytes(b"#?RADIANCE\n")
    link = server.input / "linked"
    if not link.exists():
        link.symlink_to(elsewhere, target_is_directory=True)
    node = json.loads(server.get_bytes("/object_info/DelitLoadEnvMap"))["DelitLoadEnvMap"]
    choices = node["input"]["required"]["file"][1]["options"]
    assert "skies/clear/noon.hdr" in choices
    assert not {".cache/noon.hdr", "linked/noon.hdr"} & set(choices), "hidden, or led out of the input folder"
