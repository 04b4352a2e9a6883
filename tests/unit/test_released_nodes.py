"""That a break with the last release is seen (tests/comfy/released_nodes.py), and an addition is none."""

from __future__ import annotations

import copy

import pytest

from tests.comfy.released_nodes import breaks, contract, read_snapshot

INFO = {
    "input": {
        "required": {
            "image": ["IMAGE", {}],
            "size": ["INT", {"default": 8, "min": 0, "max": 64}],
            "side": ["COMBO", {"options": ["left", "right"], "default": "left"}],
        },
        "optional": {"mask": ["MASK", {}]},
    },
    "output": ["IMAGE", "MASK"],
    "output_name": ["flat", "matte"],
}


def changed(**inputs) -> dict:
    info = copy.deepcopy(INFO)
    for name, specification in inputs.items():
        info["input"]["required"][name] = specification
    return info


def test_the_same_node_and_additions_break_nothing():
    more = copy.deepcopy(INFO)
    more["input"]["optional"]["strength"] = ["FLOAT", {"default": 1.0}]
    more["input"]["required"]["side"][1]["options"].append("behind")
    more["input"]["required"]["size"][1].update(min=-8, max=128)
    more["output"].append("FLOAT")
    more["output_name"].append("error")
    assert breaks(contract(INFO), contract(INFO)) == []
    assert breaks(contract(INFO), contract(more)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": ["INT", {"default": 16, "min": 0, "max": 64}]}, "default of size"),
        ({"size": ["FLOAT", {"default": 8, "min": 0, "max": 64}]}, "type of size"),
        ({"size": ["INT", {"default": 8, "min": 4, "max": 64}]}, "allowed from 0"),
        ({"size": ["INT", {"default": 8, "min": 0, "max": 32}]}, "allowed to 64"),
        ({"side": ["COMBO", {"options": ["left"], "default": "left"}]}, "no choice 'right'"),
        ({"more": ["INT", {"default": 0}]}, "more is required"),
        ({"mask": ["MASK", {}]}, "was optional"),
    ],
)
def test_changed_inputs_are_found(changes, told):
    info = changed(**changes)
    if "mask" in changes:
        info["input"]["optional"] = {}
    assert told in " ".join(breaks(contract(INFO), contract(info)))


def test_lost_and_reordered_parts_are_found():
    lost = copy.deepcopy(INFO)
    del lost["input"]["optional"]["mask"]
    assert breaks(contract(INFO), contract(lost)) == ["input mask is gone"]
    turned = copy.deepcopy(INFO)
    turned["input"]["required"] = dict(reversed(turned["input"]["required"].items()))
    told = " ".join(breaks(contract(INFO), contract(turned)))
    assert "another order" in told and "other widgets" in told
    early = copy.deepcopy(INFO)
    early["input"]["optional"] = {"first": ["FLOAT", {"default": 1.0}], **early["input"]["optional"]}
    assert breaks(contract(INFO), contract(early)) == [], "after the last widget, so no value moves"
    swapped = copy.deepcopy(INFO) | {"output": ["MASK", "IMAGE"], "output_name": ["matte", "flat"]}
    assert "other outputs" in " ".join(breaks(contract(INFO), contract(swapped)))


def test_the_snapshot_is_of_a_release_and_not_empty():
    snapshot = read_snapshot()
    assert snapshot["release"].count(".") == 2
    assert snapshot["nodes"]["DelitPortrait"]["outputs"][0] == {"name": "flat", "type": "IMAGE"}
