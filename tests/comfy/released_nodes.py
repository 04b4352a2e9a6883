"""What saved workflows and posted prompts rely on, as the last release had it (released_nodes.json), and what breaks.

A saved workflow holds the values of a node's widgets in their order, without names; a posted prompt holds inputs by
name, without those that came later; links name outputs by their position.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.comfy.node_words import choices_of

SNAPSHOT = Path(__file__).with_name("released_nodes.json")
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}

# What has changed since, and why no saved graph and no posted prompt is another for it; empty after a new snapshot.
MIGRATED = {
    # The input is required, so that graphs and prompts say their own; new nodes alone begin with another (0.2.0).
    "DelitPortrait": {"default of mode was 'stills', is 'auto'"},
}

Contract = dict[str, Any]


def read_snapshot() -> dict[str, Any]:
    """`release`: the version; `nodes`: node id → contract."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def contract(info: dict[str, Any]) -> Contract:
    """Of a node's entry in /object_info, all that is promised to stay."""
    choices = choices_of(info)
    inputs = []
    for kind in ("required", "optional"):
        for name, specification in info["input"].get(kind, {}).items():
            # A list in place of a type is how older nodes write a choice.
            type_name = "COMBO" if isinstance(specification[0], list) else specification[0]
            options = specification[1] if len(specification) > 1 else {}
            promised = {"name": name, "type": type_name, "optional": kind == "optional"}
            promised |= {key: options[key] for key in ("default", "min", "max") if key in options}
            if type_name in WIDGET_TYPES and not options.get("forceInput"):
                promised["widget"] = True
            if name in choices:
                promised["choices"] = choices[name]
            inputs.append(promised)
    outputs = [
        {"name": name, "type": type_name}
        for name, type_name in zip(info["output_name"], info["output"], strict=True)
    ]
    return {"inputs": inputs, "outputs": outputs}


def breaks(released: Contract, now: Contract) -> list[str]:
    """What of a released contract a node no longer keeps; additions that leave old graphs as they were are fine."""
    found = []
    today = {entry["name"]: entry for entry in now["inputs"]}
    old_names = [entry["name"] for entry in released["inputs"]]
    for old in released["inputs"]:
        new = today.get(old["name"])
        found += [f"input {old['name']} is gone"] if new is None else _changes(old, new)
    found += [
        f"the new input {entry['name']} is required: prompts of the last release lack it"
        for entry in now["inputs"]
        if entry["name"] not in old_names and not entry["optional"]
    ]
    if [name for name in today if name in old_names] != [name for name in old_names if name in today]:
        found.append("inputs are in another order")
    old_widgets, widgets = (
        [e["name"] for e in side["inputs"] if e.get("widget")] for side in (released, now)
    )
    if widgets[: len(old_widgets)] != old_widgets:
        found.append(f"saved widget values land in other widgets: {old_widgets} were first, now {widgets}")
    old_outputs, outputs = ([(e["name"], e["type"]) for e in s["outputs"]] for s in (released, now))
    if outputs[: len(old_outputs)] != old_outputs:
        found.append(f"links lead to other outputs: {old_outputs} were first, now {outputs}")
    return found


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    name, found = old["name"], []
    for key in ("type", "default"):
        if key in old and old[key] != new.get(key):
            found.append(f"{key} of {name} was {old[key]!r}, is {new.get(key)!r}")
    if old["optional"] and not new["optional"]:
        found.append(f"{name} was optional")
    if old.get("min", 0) < new.get("min", old.get("min", 0)):
        found.append(f"{name} was allowed from {old['min']}, is from {new['min']}")
    if old.get("max", 0) > new.get("max", old.get("max", 0)):
        found.append(f"{name} was allowed to {old['max']}, is to {new['max']}")
    lost = [choice for choice in old.get("choices", []) if choice not in new.get("choices", [])]
    found += [f"{name} has no choice {choice!r} any more" for choice in lost]
    return found
