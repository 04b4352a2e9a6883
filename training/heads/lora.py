"""LoRA on the VAE's decoder while it is trained, by the library peft.

WanVAE reads a convolution's `weight` and never calls its `forward`, which is where peft's own layers add the change:
they would be ignored without a word. So the layers here show the changed kernel as their weight.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import layer as peft_layers
from torch import Tensor, nn

from delit_models.decoder_lora import DecoderLora, check_fits, sharing_copy, weight_change
from delit_models.wan_vae import WanVAE

_ADAPTER = "default"


class _ShowsChangedWeight:
    """To be mixed into peft's convolutions: all that WanVAE reads of a convolution, its kernel changed."""

    @property
    def weight(self) -> Tensor:
        down, up = self.lora_A[_ADAPTER].weight, self.lora_B[_ADAPTER].weight
        return self.get_base_layer().weight + weight_change(down, up)

    @property
    def stride(self) -> tuple[int, ...]:
        return self.get_base_layer().stride

    @property
    def padding(self) -> tuple[int, ...]:
        return self.get_base_layer().padding


class _Conv2d(_ShowsChangedWeight, peft_layers.Conv2d):
    pass


class _Conv3d(_ShowsChangedWeight, peft_layers.Conv3d):
    pass


class LoraDecoder:
    """A VAE whose decoder learns a LoRA of the given rank; the VAE that was given stays as it is.

    It starts with no change at all: B is 0, A is random from `seed`.
    """

    def __init__(self, vae: WanVAE, rank: int, seed: int) -> None:
        self._vae = sharing_copy(vae)
        # With alpha = rank nothing scales B · A, so that the factors alone say what the change is.
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=changed_convolutions(vae))
        config._register_custom_module({nn.Conv2d: _Conv2d, nn.Conv3d: _Conv3d})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, self._vae, _ADAPTER)
        self._keep_to_stills()

    def decode(self, z: Tensor) -> Tensor:
        """WanVAE.decode with the change as it is now; gradients reach z and the LoRA, and no other weight."""
        return self._vae.decode(z)

    def parameters(self) -> list[nn.Parameter]:
        """All factors, in a fixed order."""
        return [weight for weight in self._vae.parameters() if weight.requires_grad]

    def state_dict(self) -> dict[str, Tensor]:
        """The factors by the names that DecoderLora has for them; no copies."""
        return get_peft_model_state_dict(self._vae)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over factors. Raises DelitError if they are of other convolutions or of another rank."""
        own = DecoderLora.from_tensors(self.state_dict()).factors
        given = DecoderLora.from_tensors(state)
        check_fits(given, {name: weight_change(*pair) for name, pair in own.items()})
        set_peft_model_state_dict(self._vae, dict(state))

    @torch.no_grad()
    def _keep_to_stills(self) -> None:
        """Stills use a causal kernel's last time slice alone. What is 0 in the others stays so, as no gradient reaches
        it; random numbers would come in as noise when a clip is decoded."""
        for name, factor in self.state_dict().items():
            if name.endswith("lora_A.weight") and factor.ndim == 5:
                factor[:, :, :-1] = 0


def changed_convolutions(vae: WanVAE) -> list[str]:
    """The decoder's convolutions that a still goes through; those over time it does not."""
    return [
        name
        for name, module in vae.named_modules()
        if name.startswith("decoder.")
        and isinstance(module, nn.Conv2d | nn.Conv3d)
        and not name.endswith("time_conv")
    ]
