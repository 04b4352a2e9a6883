"""LoRA on the VAE's decoder: that WanVAE sees it, that nothing else changes, and how it travels."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from delit_models import heads_file
from delit_models.checkpoint import save_wan_vae
from delit_models.decoder_lora import DecoderLora, with_lora
from delit_models.errors import CheckpointError, DelitError
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, load_heads, save_heads
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.heads.lora import LoraDecoder, changed_convolutions

RANK = 3
INFO = HeadsInfo("Test heads", "narrow.safetensors", "Apache-2.0")


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(WanVAEConfig(dim=8)).eval().requires_grad_(False)


@pytest.fixture
def decoder(vae) -> LoraDecoder:
    return LoraDecoder(vae, RANK, seed=0)


def randomised(decoder: LoraDecoder) -> LoraDecoder:
    generator = torch.Generator().manual_seed(1)
    for name, factor in decoder.state_dict().items():
        if "lora_B" in name:
            factor.copy_(0.3 * torch.randn(factor.shape, generator=generator))
    return decoder


def latent(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_a_lora_that_has_learned_nothing_changes_no_bit(vae, decoder):
    for z in (latent(2, 16, 6, 5), latent(1, 16, 3, 4, 4)):
        assert torch.equal(decoder.decode(z), vae.decode(z))


@torch.no_grad()
def test_every_changed_convolution_is_seen(vae):
    """peft's own layers would be ignored: WanVAE never calls their forward."""
    z = latent(1, 16, 4, 4)
    plain = vae.decode(z)
    names = changed_convolutions(vae)
    assert len(names) == 36 and {"decoder.conv1", "decoder.middle.1.to_qkv", "decoder.head.2"} <= set(names)
    for name in names:
        decoder = LoraDecoder(vae, 1, seed=0)
        decoder.state_dict()[f"{name}.lora_B.weight"].fill_(0.2)
        assert not torch.equal(decoder.decode(z), plain), name


def test_gradients_reach_the_lora_and_the_latent_and_no_other_weight(vae, decoder):
    randomised(decoder)
    z = latent(1, 16, 4, 4).requires_grad_()
    decoder.decode(z).square().mean().backward()
    assert z.grad.abs().sum() > 0
    factors = decoder.parameters()
    assert len(factors) == 2 * len(changed_convolutions(vae))
    assert all(factor.grad.abs().sum() > 0 for factor in factors)
    others = {id(weight) for weight in decoder._vae.parameters()} - {id(factor) for factor in factors}
    assert others == {id(weight) for weight in vae.parameters()}
    assert all(weight.grad is None and not weight.requires_grad for weight in vae.parameters())


def test_training_leaves_what_stills_never_use_at_nothing(decoder):
    randomised(decoder)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        decoder.decode(latent(1, 16, 4, 4)).square().mean().backward()
        optimizer.step()
    for name, factor in decoder.state_dict().items():
        if "lora_A" in name and factor.ndim == 5:
            assert not factor[:, :, :-1].any() and factor[:, :, -1].any(), name


@torch.no_grad()
def test_the_merged_decoder_is_the_trained_one_and_the_vae_stays(vae, decoder):
    stills, clip = latent(2, 16, 6, 5), latent(1, 16, 3, 4, 4)
    before = vae.decode(stills)
    merged = with_lora(vae, DecoderLora.from_tensors(randomised(decoder).state_dict()))
    for z in (stills, clip):
        torch.testing.assert_close(merged.decode(z), decoder.decode(z), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(merged.decode(stills), before, atol=1e-2)
    assert torch.equal(vae.decode(stills), before)
    shared = {id(weight) for weight in vae.parameters()} & {id(weight) for weight in merged.parameters()}
    assert len(shared) == len(list(vae.parameters())) - len(changed_convolutions(vae))


def saved(path, vae: WanVAE, lora: DecoderLora | None):
    torch.manual_seed(3)
    heads = DelitHeads(DelitConfig())
    torch.nn.init.normal_(heads.flat_projection.out.weight)
    save_heads(path, heads, vae.encode(heads_file.test_card()), INFO, torch.float16, lora)
    return path


def description_of(path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["delit"])


def test_the_lora_travels_in_the_heads_file(vae, decoder, tmp_path):
    lora = DecoderLora.from_tensors(randomised(decoder).state_dict())
    path = saved(tmp_path / "heads.safetensors", vae, lora)
    assert "decoder_lora.decoder.conv1.lora_A.weight" in load_file(path)
    loaded = load_heads(path)
    assert loaded.lora.rank == RANK and loaded.lora.factors.keys() == set(changed_convolutions(vae))
    for name, factor in loaded.lora.tensors().items():
        assert torch.equal(factor, decoder.state_dict()[name])


def test_older_readers_refuse_a_lora_and_read_heads_without_one(vae, decoder, tmp_path, monkeypatch):
    lora = DecoderLora.from_tensors(decoder.state_dict())
    with_one = saved(tmp_path / "lora.safetensors", vae, lora)
    without = saved(tmp_path / "plain.safetensors", vae, None)
    assert description_of(with_one)["format_version"] == 3 and description_of(without)["format_version"] == 2
    monkeypatch.setattr(heads_file, "FORMAT_VERSION", 2)
    assert load_heads(without).lora is None
    with pytest.raises(CheckpointError, match="format 3, newer than the 2 .* update the pack"):
        load_heads(with_one)


@pytest.mark.parametrize("damage", ["missing", "strange", "rank", "scalar", "ranks", "nan"])
def test_a_damaged_lora_is_named(vae, decoder, tmp_path, damage):
    path = saved(tmp_path / "heads.safetensors", vae, DecoderLora.from_tensors(decoder.state_dict()))
    tensors = load_file(path)
    name = "decoder_lora.decoder.conv1.lora_B.weight"
    told = "decoder.conv1.lora_B.weight"
    if damage == "missing":
        del tensors[name]
    elif damage == "strange":
        told = "decoder.conv1.alpha"
        tensors["decoder_lora.decoder.conv1.alpha"] = torch.ones(1)
    elif damage == "rank":
        told = "a B of .* for decoder.conv1"
        tensors[name] = tensors[name][:, :1].clone()
    elif damage == "scalar":
        told = r"a B of \[\] for decoder.conv1"
        tensors[name] = torch.ones(())
    elif damage == "ranks":
        told = r"has ranks \[1, 3\]"
        tensors[name] = tensors[name][:, :1].clone()
        down = name.replace("lora_B", "lora_A")
        tensors[down] = tensors[down][:1].clone()
    else:
        tensors[name][0] = torch.nan
    save_file(tensors, path, metadata={"delit": json.dumps(description_of(path))})
    with pytest.raises(CheckpointError, match=f"heads.safetensors.*{told}"):
        load_heads(path)


def test_a_lora_of_another_decoder_is_refused(vae):
    wider = WanVAE(WanVAEConfig(dim=16)).requires_grad_(False)
    lora = DecoderLora.from_tensors(LoraDecoder(vae, RANK, seed=0).state_dict())
    with pytest.raises(
        DelitError, match=r"changes decoder.conv1, of shape \[32, 16, 3, 3, 3\], which has shape \[64"
    ):
        with_lora(wider, lora)
    factors = {"decoder.conv9": lora.factors["decoder.conv1"]}
    with pytest.raises(DelitError, match="decoder.conv9.*is not in it"):
        with_lora(vae, DecoderLora(factors))
    with pytest.raises(DelitError, match="does not fit"):
        LoraDecoder(wider, RANK, seed=0).load_state_dict(lora.tensors())


def test_the_pipeline_decodes_the_flat_picture_by_it_and_the_source_without(vae, decoder, tmp_path):
    save_wan_vae(tmp_path / "vae.safetensors", vae, torch.float32)
    lora = DecoderLora.from_tensors(randomised(decoder).state_dict())
    paths = [
        saved(tmp_path / f"{name}.safetensors", vae, own) for name, own in (("lora", lora), ("plain", None))
    ]
    tuned, plain = (DelitPipeline.load(tmp_path / "vae.safetensors", path) for path in paths)
    assert plain.flat_vae is plain.vae
    picture = torch.rand(1, 64, 72, 3, generator=torch.Generator().manual_seed(4))
    whole = DelitOptions(area="picture", detail_transfer=False)
    result, without = tuned(picture, options=whole), plain(picture, options=whole)
    assert torch.equal(result.z_flat, without.z_flat)
    expected = (with_lora(vae, lora).decode(result.z_flat).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(result.flat[0].movedim(-1, 0), expected[0, :, :64, :72], atol=1e-5, rtol=0)
    assert (result.flat - without.flat).abs().max() > 0.01
    streamed = list(
        tuned.stream([picture[0]] * 5, options=DelitOptions(area="picture", detail_transfer=False))
    )
    at_once = tuned(
        picture.expand(5, -1, -1, -1), options=DelitOptions(area="picture", detail_transfer=False, clip=True)
    )
    torch.testing.assert_close(streamed[3].flat, at_once.flat[3], atol=1e-5, rtol=0)
