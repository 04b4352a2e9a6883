"""That ComfyUI's stop button reaches every node (tests/comfy/test_interrupt.py presses it)."""

from __future__ import annotations

import ast
from pathlib import Path

NODES = Path(__file__).parents[2] / "nodes"
# They read one file; core's own loaders cannot be stopped either.
LOADERS = {"DelitLoadWanVAE", "DelitLoadModel", "DelitExamplePortrait"}


def test_every_node_but_loaders_looks_at_the_stop_button():
    looking, blind = set(), set()
    for file in sorted(NODES.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.ClassDef) and any("ComfyNode" in ast.unparse(b) for b in node.bases)
            ):
                continue
            (execute,) = (x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "execute")
            stoppable = "interruptible" in map(ast.unparse, execute.decorator_list)
            (looking if stoppable else blind).add(node.name)
    assert blind == LOADERS
    assert {"DelitPortrait", "DelitVideo", "DelitSavePlate"} < looking
