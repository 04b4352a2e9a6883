"""Find a Wan VAE's tensors among the names in a weights file, or say what the file holds instead.

Two layouts of names are in use: the original one (also ComfyUI's) and that of diffusers' AutoencoderKLWan.
Both may sit under a prefix in a larger checkpoint.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

BLOCKS_PER_DECODER_LEVEL = 4  # three residual blocks and an upsampling
LEAST_SHARE = 0.25  # of the norm weights: fewer than this are no Wan VAE

_RESIDUAL_PARTS = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_TOP_LEVEL = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
_ENDS = {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


@dataclass(frozen=True)
class FoundVAE:
    """Where a Wan VAE's tensors are in a file.

    Attributes:
        layout: "original" or "diffusers".
        prefix: what stands before the names of that layout, "" or ending in a dot.
        names: original name -> name in the file, for every expected tensor (there or not).
        unexpected: names in the file that belong to the VAE's modules but not to a Wan 2.1 VAE.
    """

    layout: str
    prefix: str
    names: Mapping[str, str]
    unexpected: tuple[str, ...]


def diffusers_name(original: str) -> str:
    """The name that diffusers' AutoencoderKLWan gives to a tensor of the original layout."""
    module, _, parameter = original.rpartition(".")
    if module in _TOP_LEVEL:
        return f"{_TOP_LEVEL[module]}.{parameter}"
    side, _, inner = module.partition(".")
    if inner in _ENDS:
        return f"{side}.{_ENDS[inner]}.{parameter}"
    group, index, *rest = inner.split(".")
    part = ".".join(rest)
    part = _RESIDUAL_PARTS.get(part, part)
    if group == "middle":
        return f"{side}.mid_block.{_MIDDLE[index]}.{part}.{parameter}"
    if group == "downsamples":
        return f"{side}.down_blocks.{index}.{part}.{parameter}"
    level, place = divmod(int(index), BLOCKS_PER_DECODER_LEVEL)
    block = "upsamplers.0" if place == BLOCKS_PER_DECODER_LEVEL - 1 else f"resnets.{place}"
    return f"{side}.up_blocks.{level}.{block}.{part}.{parameter}"


def find_wan_vae(shapes: Shapes, original_names: Iterable[str]) -> FoundVAE | None:
    """Find the layout and the prefix under which most of a Wan VAE's tensors are; None if there is none.

    Args:
        shapes: every tensor in the file.
        original_names: the names of a Wan VAE's tensors in the original layout.
    """
    layouts = {"original": {name: name for name in original_names}}
    layouts["diffusers"] = {name: diffusers_name(name) for name in layouts["original"]}
    # Other VAEs share some names with either layout, but none of them has norms with a gamma in these places.
    marks = {
        name: layout
        for layout, names in layouts.items()
        for name in names.values()
        if name.endswith(".gamma")
    }
    votes: Counter[tuple[str, str]] = Counter()
    for name in shapes:
        if name.endswith(".gamma"):
            starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
            votes.update((marks[name[s:]], name[:s]) for s in starts if name[s:] in marks)
    # Of equals, the shortest prefix: the plain weights, not an average kept beside them.
    best = max(votes, key=lambda key: (votes[key], -len(key[1])), default=None)
    if best is None or votes[best] < LEAST_SHARE * sum(layout == best[0] for layout in marks.values()):
        return None
    layout, prefix = best
    names = {original: prefix + name for original, name in layouts[layout].items()}
    roots = tuple({prefix + name.split(".")[0] + "." for name in layouts[layout].values()})
    expected = set(names.values())
    unexpected = sorted(name for name in shapes if name.startswith(roots) and name not in expected)
    return FoundVAE(layout, prefix, names, tuple(unexpected))


def refuse_other_kinds(shapes: Shapes, metadata: Mapping[str, str]) -> str | None:
    """Why a file that may look like a Wan 2.1 VAE is not one, and what to use instead; None if unknown.

    To be asked before `find_wan_vae`: a Wan 2.2-5B VAE shares many names with the 2.1 VAE.
    """
    if _any(
        shapes, r"(encoder|decoder)\.(downsamples|upsamples)\.\d+\.(downsamples|upsamples)\.\d+\."
    ) or _any(shapes, r"encoder\.down_blocks\.\d+\.resnets\.\d+\.norm1\.gamma$"):
        return (
            "it is the VAE of Wan 2.2-5B (48 latent channels). Delit works on the Wan 2.1 VAE, which "
            "Wan 2.2-A14B uses as well: get wan_2.1_vae.safetensors"
        )
    if "delit" in metadata and "vae_probe" in shapes:
        return "it is a Delit heads file. Load it as heads, and give a Wan 2.1 VAE here"
    return None


def describe_other_file(shapes: Shapes) -> str:
    """What a file without a Wan VAE looks like, and what to use instead; ends without a full stop."""
    remedy = "Use the Wan 2.1 VAE, wan_2.1_vae.safetensors"
    if not shapes:
        return f"it holds no tensors. {remedy}"
    if _any(shapes, r"(^|\.)(taesd_)?(encoder|decoder)\.(layers\.)?\d+\."):
        return f"it looks like a tiny preview VAE (TAEHV, TAESD), which only approximates a VAE. {remedy}"
    has_diffusion = _any(
        shapes,
        r"diffusion_model\.|(^|\.)(blocks\.\d+\.(self_attn|cross_attn|attn)|double_blocks\.|single_blocks\."
        r"|joint_blocks\.|transformer_blocks\.|input_blocks\.)",
    )
    channels = _image_vae_channels(shapes)
    if channels is not None:
        what = f"an image VAE with {channels} latent channels ({_image_vae_kind(channels)})"
        if has_diffusion:
            return f"it looks like a diffusion model bundled with {what}. {remedy}"
        return f"it looks like {what}. {remedy}"
    if _any(shapes, r"\.lora_(up|down|a|b)\.|lora_unet_|\.lora_[AB]\."):
        return f"it looks like a LoRA. {remedy}"
    if has_diffusion:
        return f"it looks like a diffusion model without a VAE. {remedy}; the diffusion model is not needed"
    if _any(shapes, r"(^|\.)(token_embedding|shared|embed_tokens)\.weight$|text_model\."):
        return f"it looks like a text or vision encoder. {remedy}"
    if _any(shapes, r"(^|\.)(encoder|decoder)\."):
        return f"it looks like another kind of VAE (tensors like {_examples(shapes)}). {remedy}"
    return f"its tensors are of no known kind ({_examples(shapes)}). {remedy}"


def _image_vae_channels(shapes: Shapes) -> int | None:
    """Latent channels of a Stable Diffusion-like VAE in the CompVis or the diffusers layout."""
    if not _any(shapes, r"encoder\.(down\.\d+\.block\.|down_blocks\.\d+\.resnets\.\d+\.norm1\.weight$)"):
        return None
    for name, shape in shapes.items():
        if name.endswith("decoder.conv_in.weight") and len(shape) == 4:
            return shape[1]
    return None


def _image_vae_kind(channels: int) -> str:
    return {4: "Stable Diffusion 1.x, 2.x or SDXL", 16: "Stable Diffusion 3 or FLUX"}.get(
        channels, "not a video VAE"
    )


def _any(shapes: Shapes, pattern: str) -> bool:
    return any(re.search(pattern, name) for name in shapes)


def _examples(shapes: Shapes) -> str:
    return ", ".join(list(shapes)[:3])
