"""Write down what the nodes promise, for the tests of the next release: tests/comfy/released_nodes.json.

    .venv/bin/python scripts/snapshot_nodes.py

Run it when a version is released, not before: until then the tests compare with the release before. Needs a ComfyUI
checkout (see tests/comfy/comfyui.py).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.comfy.comfyui import HOW_TO_PROVIDE, ComfyServer, find_checkouts  # noqa: E402
from tests.comfy.node_words import ids_of_nodes  # noqa: E402
from tests.comfy.released_nodes import SNAPSHOT, contract  # noqa: E402


def version() -> str:
    lines = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version"))


def main() -> None:
    checkouts = find_checkouts()
    if not checkouts:
        sys.exit(HOW_TO_PROVIDE)
    with (
        tempfile.TemporaryDirectory() as folder,
        # The oldest: what it has, newer ones have too.
        ComfyServer(checkouts[0], Path(folder), "symlink") as server,
    ):
        info = server.get("/object_info")
        nodes = {node: contract(info[node]) for node in ids_of_nodes(REPOSITORY)}
    snapshot = {"release": version(), "nodes": nodes}
    SNAPSHOT.write_text(json.dumps(snapshot, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{SNAPSHOT.relative_to(REPOSITORY)}: {len(nodes)} nodes of {snapshot['release']}")


if __name__ == "__main__":
    main()
