"""The heads' shapes, their contract with latents of any size, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads, grown_heads


@pytest.fixture(scope="module")
def heads() -> DelitHeads:
    torch.manual_seed(0)
    return DelitHeads(DelitConfig()).eval().requires_grad_(False)


@given(height=st.integers(8, 21), width=st.integers(8, 21), batch=st.integers(1, 2))
@settings(max_examples=8, deadline=None)
def test_any_size_gives_a_flat_latent_of_that_size_and_a_full_env(heads, height, width, batch):
    z = torch.randn(batch, 16, height, width)
    z_flat, env_code, matte = heads(z)
    assert z_flat.shape == z.shape
    assert env_code.shape == (batch, 4, 128, 256)
    assert env_code.min() >= 0 and env_code.max() <= 1
    assert matte.shape == (batch, 1, height, width) and 0 <= matte.min() and matte.max() <= 1


def test_untrained_heads_leave_the_picture_as_it_is(heads):
    z = torch.randn(1, 16, 8, 8)
    assert torch.equal(heads(z)[0], z)


def test_a_clip_is_treated_frame_by_frame(heads):
    clip = torch.randn(2, 16, 3, 8, 8)
    z_flat, env_code, matte = heads(clip)
    assert z_flat.shape == clip.shape and env_code.shape == (2, 3, 4, 128, 256)
    assert matte.shape == (2, 1, 3, 8, 8)
    alone = heads(clip[1, :, 2][None])
    torch.testing.assert_close(z_flat[1, :, 2], alone[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(env_code[1, 2], alone[1][0], rtol=1e-4, atol=1e-5)


def test_nothing_changes_where_the_matte_sees_no_subject():
    torch.manual_seed(3)
    heads = DelitHeads(DelitConfig())
    torch.nn.init.normal_(heads.flat_projection.out.weight)
    torch.nn.init.constant_(heads.matte_projection.out.bias, -200)
    z = torch.randn(1, 16, 8, 8)
    assert torch.equal(heads(z).z_flat, z)


def test_heads_without_a_matte_are_built_from_what_their_files_say_and_grow_without_a_change():
    """A configuration of format 1 names neither the matte nor the middle."""
    before = {
        name: value
        for name, value in DelitConfig().to_dict().items()
        if name not in ("matte", "env_sees_middle")
    }
    torch.manual_seed(4)
    old = DelitHeads(DelitConfig.from_dict(before)).eval()
    torch.nn.init.normal_(old.flat_projection.out.weight, std=0.1)
    assert not any(name.startswith("matte") for name in old.state_dict())
    z = torch.randn(2, 16, 12, 9)
    with torch.no_grad():
        was, grown = old(z), grown_heads(old)(z)
    assert torch.equal(was.matte, torch.ones(2, 1, 12, 9))
    torch.testing.assert_close(grown.env_code, was.env_code)
    torch.testing.assert_close(grown.z_flat, z + 0.982014 * (was.z_flat - z), rtol=1e-4, atol=1e-4)


def test_a_change_in_one_corner_reaches_the_whole_env(heads):
    """Light is global: every direction of the map must be able to see every part of the picture."""
    z = torch.randn(1, 16, 16, 16)
    changed = z.clone()
    changed[..., :3, :3] += 3
    difference = (heads(z)[1] - heads(changed)[1]).abs().amax(dim=1)
    assert (difference > 0).float().mean() > 0.99


def test_parameters_are_about_five_million(heads):
    count = sum(parameter.numel() for parameter in heads.parameters())
    assert 3e6 < count < 10e6


def test_no_parameter_sits_on_a_module_with_children(heads):
    """ComfyUI offloads module by module and would skip such a parameter."""
    for name, module in heads.named_modules():
        if list(module.children()):
            assert not list(module.parameters(recurse=False)), name


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (16, 8, 8), (1, 48, 8, 8), (1, 4, 1, 8, 8)])
def test_latents_of_another_vae_are_refused(heads, shape):
    with pytest.raises(DelitError, match="Wan 2.1"):
        heads(torch.zeros(shape))


def test_config_survives_json():
    import json

    config = DelitConfig(working_size=256, extractor_widths=(32, 64, 96))
    assert DelitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_refuses_what_it_does_not_know():
    with pytest.raises(DelitError, match="shininess"):
        DelitConfig.from_dict({"shininess": 3})
    with pytest.raises(DelitError, match="15 standard"):
        DelitConfig(latent_std=(1.0,) * 15)
    with pytest.raises(DelitError, match="not positive"):
        DelitConfig(latent_std=(0.0,) * 16)
