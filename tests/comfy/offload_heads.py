"""Run under ComfyUI's own modules: are the heads offloaded when another model needs the room, and reloaded? And may the
VAE, the heads and what lies between the nodes be on different devices?

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
from collections.abc import Iterator, Sequence

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
from watched_card import on_card, watched  # noqa: E402

import nodes  # noqa: E402


class Pack:
    """The modules of the pack, by the ends of their names."""

    def __init__(self) -> None:
        before = set(sys.modules)
        assert asyncio.run(nodes.load_custom_node(pack_folder)), "the pack does not load"
        self.modules = {name: sys.modules[name] for name in set(sys.modules) - before}

    def __getitem__(self, end: str) -> object:
        return next(module for name, module in self.modules.items() if name.endswith(f".{end}"))


def main() -> dict[str, object]:
    pack = Pack()
    return offloaded(pack["nodes.delit_model"]) | {"devices": [] if HAS_GPU else list(on_devices(pack))}


def offloaded(pack: object) -> dict[str, object]:
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


# Where the VAE, the heads and what nodes give are: --cpu, --cpu-vae, a VAE alone on the card, --gpu-only.
PLACES = (
    (OFFLOADED, OFFLOADED, OFFLOADED),
    (OFFLOADED, CARD, OFFLOADED),
    (CARD, OFFLOADED, CARD),
    (CARD, CARD, CARD),
)


def on_devices(pack: Pack) -> Iterator[dict[str, object]]:
    """Delit Portrait and the stages' nodes, with VAE, heads and what nodes give on (watched_card's) card and CPU."""
    image = torch.rand(2, 64, 72, 3, generator=torch.Generator().manual_seed(1))
    reference = None
    for vae, heads, between in PLACES:
        management.vae_device = lambda vae=vae: vae
        management.get_torch_device = lambda heads=heads: heads
        management.intermediate_device = lambda between=between: between
        models = pack["nodes.delit_model"]
        models._embedded_vae.cache_clear()
        models._embedded_model.cache_clear()
        # As ComfyUI runs all nodes.
        with torch.inference_mode(), watched():
            results = [*portrait(pack, image), *staged(pack, image), *clip(pack, image)]
            used = {
                "vae": str(next(models.embedded_vae().first_stage_model.parameters()).device),
                "heads": str(next(models.embedded_model().loaded.heads.parameters()).device),
            }
            results = [result.cpu().clone() for result in results]
        reference = reference or results
        yield {
            "asked": {"vae": str(vae), "heads": str(heads)},
            "used": used,
            "between": str(between),
            "difference": largest_difference(results, reference),
        }


def portrait(pack: Pack, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    output = pack["nodes.portrait"].DelitPortrait.execute(image, 0, "stills", True, "source", area="subject")
    assert not any(map(on_card, output.args)), "pictures come out where they went in"
    return output.args


def staged(pack: Pack, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    models, stages, maps = pack["nodes.delit_model"], pack["nodes.stages"], pack["nodes.env_maps"]
    vae, model = models.embedded_vae(), models.embedded_model()
    (latent,) = stages.DelitEncode.execute(vae, image, 0, "stills", delit_model=model).args
    flat_latent, code, _ = stages.DelitApply.execute(model, latent).args
    mask = torch.ones(1, *image.shape[1:3])
    flat = stages.DelitDecode.execute(vae, flat_latent, True, "black", source=image, mask=mask).args[0]
    return flat, maps.DelitDecodeEnv.execute(code, "shot", 0.0).args[0]


def clip(pack: Pack, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return pack["nodes.portrait"].DelitPortrait.execute(image, 0, "clip", False, "source").args


def largest_difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    print("REPORT " + json.dumps(main()))
