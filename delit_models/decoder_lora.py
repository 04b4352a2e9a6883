"""LoRA on a Wan VAE's decoder: low-rank changes of its convolutions, which heads may bring along for the flat-lit
picture.

A change is B · A, each flattened to a matrix (Hu et al., LoRA, 2021; alpha = rank, so that nothing else scales it).
Names and shapes are those that the library peft writes and ComfyUI's LoRA loader knows: for the convolution
`decoder.conv1` they are `decoder.conv1.lora_A.weight`, [R, inputs, kernel …], and `decoder.conv1.lora_B.weight`,
[outputs, R, 1 …]. Of a causal kernel all time slices are there; those that stills never use are 0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import CheckpointError, DelitError
from .wan_vae import WanVAE

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class DecoderLora:
    """Changes of a decoder's convolutions.

    Attributes:
        factors: name of a convolution in the original Wan layout → its A [R, inputs, kernel …] and B [outputs, R, 1 …].
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> DecoderLora:
        """From tensors by name, as `tensors` gives them.

        Raises:
            CheckpointError: tensors of other names, a factor without its other one, or ranks that differ.
        """
        names = {name.removesuffix(end) for name in tensors for end in (_DOWN, _UP) if name.endswith(end)}
        strange = sorted(tensors.keys() - {name + end for name in names for end in (_DOWN, _UP)})
        lacking = sorted({name + end for name in names for end in (_DOWN, _UP)} - tensors.keys())
        if strange or lacking or not names:
            told = f"missing: {', '.join(lacking[:4])}; unexpected: {', '.join(strange[:4])}"
            raise CheckpointError(f"The LoRA of these heads is incomplete ({told}). Export the heads again.")
        factors = {name: (tensors[name + _DOWN], tensors[name + _UP]) for name in sorted(names)}
        ranks = {_rank(name, *pair) for name, pair in factors.items()}
        if len(ranks) != 1:
            raise CheckpointError(
                f"The LoRA of these heads has ranks {sorted(ranks)}, not one. Export the heads again."
            )
        return DecoderLora(factors)

    def tensors(self) -> dict[str, Tensor]:
        """All factors by the names that a heads file has for them."""
        return {
            name + end: factor
            for name, pair in self.factors.items()
            for end, factor in zip((_DOWN, _UP), pair, strict=True)
        }

    @property
    def rank(self) -> int:
        return next(iter(self.factors.values()))[0].shape[0]


def _rank(name: str, down: Tensor, up: Tensor) -> int:
    """Of one convolution's factors. Raises CheckpointError for shapes that make no kernel together."""
    fits = down.ndim == up.ndim in (4, 5) and up.shape[1] == down.shape[0] and max(up.shape[2:]) == 1
    if not fits:
        raise CheckpointError(
            f"The LoRA of these heads has an A of {list(down.shape)} and a B of {list(up.shape)} for {name}; they are "
            "to be [R, inputs, kernel …] and [outputs, R, 1 …]. Export the heads again."
        )
    return down.shape[0]


def weight_change(down: Tensor, up: Tensor) -> Tensor:
    """A [R, inputs, kernel …] and B [outputs, R, 1 …] → what is added to a kernel, [outputs, inputs, kernel …]."""
    return (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])


def sharing_copy(vae: WanVAE) -> WanVAE:
    """A VAE of modules of its own around the same parameters: what is put in their place leaves `vae` as it is."""
    return copy.deepcopy(vae, {id(parameter): parameter for parameter in vae.parameters()})


@torch.no_grad()
def with_lora(vae: WanVAE, lora: DecoderLora) -> WanVAE:
    """The VAE with a changed decoder. `vae` itself stays as it is, and shares all that is not changed.

    Raises:
        DelitError: if the LoRA is of a VAE with other convolutions.
    """
    changed = sharing_copy(vae)
    modules = dict(changed.named_modules())
    check_fits(lora, {name: conv.weight for name in lora.factors if (conv := modules.get(name)) is not None})
    for name, (down, up) in lora.factors.items():
        conv = modules[name]
        # A copy keeps the kernel's layout in memory, which the sum of two layouts might not.
        weight = conv.weight.detach().clone()
        weight += weight_change(down.float(), up.float()).to(weight)
        conv.weight = nn.Parameter(weight, requires_grad=False)
    return changed


def check_fits(lora: DecoderLora, weights: Mapping[str, Tensor]) -> None:
    """Raise DelitError unless each convolution of the LoRA is there, by name, with a kernel of the same shape."""
    for name, (down, up) in lora.factors.items():
        changed = (up.shape[0], *down.shape[1:])
        found = tuple(weights[name].shape) if name in weights else None
        if found != changed:
            told = "is not in it" if found is None else f"has shape {list(found)}"
            raise DelitError(
                f"The heads' LoRA does not fit this VAE's decoder: it changes {name}, of shape {list(changed)}, which "
                f"{told}. Load the VAE that the heads name."
            )
