"""The pack in a real ComfyUI: it loads, every node explains itself, help, translations and templates are served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.comfy.comfyui import REPOSITORY, ComfyServer

NODES = {
    "DelitLoadWanVAE",
    "DelitLoadModel",
    "DelitEncode",
    "DelitApply",
    "DelitDecode",
    "DelitDecodeEnv",
    "DelitPortrait",
    "DelitSaveEnvMap",
    "DelitLoadEnvMap",
    "DelitExamplePortrait",
    "DelitLoadPlate",
    "DelitSavePlate",
    "DelitKeyLight",
    "DelitEnvMapTransform",
    "DelitPreviewEnvMap",
    "DelitRelight",
    "DelitClosure",
    "DelitVideo",
}
WORKFLOWS = sorted(path.stem for path in (REPOSITORY / "workflows").glob("*.json"))
LANGUAGES = ("en", "zh")


def delit_nodes(server: ComfyServer) -> dict[str, Any]:
    module = f"custom_nodes.{server.pack_name}"
    return {
        name: info for name, info in server.get("/object_info").items() if info["python_module"] == module
    }


def test_the_log_shows_no_trouble_with_the_pack(server: ComfyServer) -> None:
    # Until the first prompt: the tests of bad input ask for tracebacks, on the same server.
    start = server.log.split("got prompt")[0]
    assert f"custom_nodes/{server.pack_name}" in start
    assert "IMPORT FAILED" not in start
    assert f"custom_nodes/{server.pack_name}/" not in start, "a traceback through the pack"


def test_every_node_is_there_and_explains_itself(server: ComfyServer) -> None:
    nodes = delit_nodes(server)
    assert set(nodes) == NODES
    silent = []
    for name, info in nodes.items():
        silent += [] if len(info["description"]) > 20 else [f"{name}: description"]
        assert info["category"] == "Delit" and info["display_name"] != name
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        silent += [f"{name}: input {i}" for i, spec in inputs.items() if not spec[1].get("tooltip")]
        tooltips = info["output_tooltips"] or [None] * len(info["output"])
        silent += [
            f"{name}: output {output}"
            for output, tooltip in zip(info["output_name"], tooltips, strict=True)
            if not tooltip
        ]
    assert not silent


def test_the_other_way_of_installing_gives_the_same_nodes(
    server: ComfyServer, other_server: ComfyServer
) -> None:
    assert server.install != other_server.install
    assert "IMPORT FAILED" not in other_server.log
    found, expected = delit_nodes(other_server), delit_nodes(server)
    for nodes in (found, expected):
        for info in nodes.values():
            del info["python_module"]
            info.pop("essentials_category", None)
    # Lists of files differ with what other tests put there.
    assert set(found) == NODES
    assert found["DelitApply"] == expected["DelitApply"]
    assert found["DelitPortrait"] == expected["DelitPortrait"]


@pytest.mark.parametrize("node", sorted(NODES))
def test_every_node_has_help(server: ComfyServer, node: str) -> None:
    folder = REPOSITORY / "web" / "docs"
    if (folder / f"{node}.md").exists():
        pages = [f"{node}.md"]
    else:
        pages = [f"{node}/{language}.md" for language in LANGUAGES]
    for page in pages:
        text = server.get_bytes(f"/extensions/{server.pack_name}/docs/{page}").decode()
        assert len(text) > 200 and text.lstrip().startswith("#")


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_name_the_inputs_that_exist(server: ComfyServer, language: str) -> None:
    translated = server.get("/i18n")[language]["nodeDefs"]
    nodes = delit_nodes(server)
    assert NODES <= set(translated)
    for name in NODES:
        info = nodes[name]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert translated[name]["display_name"] and translated[name]["description"]
        assert set(translated[name].get("inputs", {})) == set(inputs), name
        assert len(translated[name].get("outputs", {})) in (0, len(info["output"])), name


def test_templates_are_listed_and_served_with_their_pictures(server: ComfyServer) -> None:
    assert set(WORKFLOWS) >= {"delit_portrait", "delit_portrait_stages"}
    assert set(server.get("/workflow_templates")[server.pack_name]) == set(WORKFLOWS)
    for name in WORKFLOWS:
        place = f"/api/workflow_templates/{server.pack_name}/{name}"
        on_disk = REPOSITORY / "workflows" / f"{name}.json"
        assert server.get(f"{place}.json") == json.loads(on_disk.read_text(encoding="utf-8"))
        assert server.get_bytes(f"{place}.jpg")[:3] == b"\xff\xd8\xff"


def test_the_model_folder_lists_weights_only(server: ComfyServer) -> None:
    (server.models / "delit" / "notes.txt").write_text("not weights")
    (server.models / "delit" / "listed.safetensors").write_bytes(b"")
    models = server.get("/object_info/DelitLoadModel")["DelitLoadModel"]["input"]["required"]["model_name"]
    options = models[1]["options"]
    assert "listed.safetensors" in options and "notes.txt" not in options
