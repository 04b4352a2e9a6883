"""Run under ComfyUI's own modules: are the heads offloaded when another model needs the room, and reloaded?

    python offload_heads.py COMFYUI_FOLDER BASE_FOLDER PACK_FOLDER

Without a GPU a second device stands for it: `cpu:0`, which core tells apart from `cpu`, where models are
offloaded to. Core's own load_models_gpu and free_memory decide; only how much memory is free on that device is
told to them, from what core itself has loaded there. With a GPU the weights really move.
Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys

comfyui_folder, base_folder, pack_folder = sys.argv[1:4]
sys.path.insert(0, comfyui_folder)

import torch  # noqa: E402

HAS_GPU = torch.cuda.is_available()
sys.argv = ["main.py", "--base-directory", base_folder] + ([] if HAS_GPU else ["--cpu"])

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management as management  # noqa: E402

CARD = torch.device("cuda", 0) if HAS_GPU else torch.device("cpu", 0)
OFFLOADED = torch.device("cpu")
GIGABYTE = 1024**3
CARD_MEMORY = 4 * GIGABYTE


def loaded_on_card() -> int:
    return sum(
        model.model_loaded_memory() for model in management.current_loaded_models if model.device == CARD
    )


def free_memory_of_card(device: torch.device | None = None, torch_free_too: bool = False):
    free = CARD_MEMORY - loaded_on_card()
    return (free, 0) if torch_free_too else free


management.get_free_memory = free_memory_of_card
management.get_torch_device = lambda: CARD
management.unet_offload_device = lambda: OFFLOADED

import comfy.model_patcher  # noqa: E402

import nodes  # noqa: E402


def load_pack() -> object:
    before = set(sys.modules)
    assert asyncio.run(nodes.load_custom_node(pack_folder)), "the pack does not load"
    new = [name for name in sys.modules if name not in before and name.endswith(".nodes.delit_model")]
    return sys.modules[new[0]]


def main() -> dict[str, object]:
    pack = load_pack()
    model = pack.embedded_model()
    patcher = model.patcher
    latent = torch.randn(2, 16, 12, 8, generator=torch.Generator().manual_seed(0))

    def state() -> dict[str, object]:
        return {
            "loaded": any(one is patcher for one in management.loaded_models()),
            "bytes": int(patcher.loaded_size()),
            "device": str(patcher.current_loaded_device()),
            "weights_on": sorted({str(weight.device) for weight in patcher.model.parameters()}),
        }

    report: dict[str, object] = {"card": str(CARD), "bytes": int(patcher.model_size()), "before": state()}
    first = model.apply(latent)
    report["applied"] = state()
    # 2.5 GB of weights; with the heads and room to work in they do not fit into 4 GB.
    other = torch.nn.Linear(1, 1)
    large = comfy.model_patcher.ModelPatcher(
        other, load_device=CARD, offload_device=OFFLOADED, size=5 * GIGABYTE // 2
    )
    management.load_models_gpu([large], memory_required=2 * GIGABYTE)
    report["other_loaded"] = any(one is large for one in management.loaded_models())
    report["evicted"] = state()
    second = model.apply(latent)
    report["applied_again"] = state()
    report["difference_after_reload"] = largest_difference(first, second)
    # A card with too little room keeps some weights offloaded and brings them over layer by layer.
    patcher.partially_unload(OFFLOADED, patcher.model_size() // 2)
    report["partly"] = state()
    third = model._forward(latent)
    report["difference_when_partly_offloaded"] = largest_difference(first, third)
    report["not_offloadable"] = [
        name
        for name, module in patcher.model.named_modules()
        if list(module.parameters(recurse=False)) and not hasattr(module, "comfy_cast_weights")
    ]
    return report


def largest_difference(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    print("REPORT " + json.dumps(main()))
