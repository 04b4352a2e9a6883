"""The heads' loss: nothing for what is right, and more for what is worse in the way that a user would see."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from einops import rearrange

from delit_models.color import linear_to_srgb
from delit_models.env_codec import encode_env
from delit_models.heads import HeadsOutput
from delit_models.lat_long import direction_grid
from tests.unit.patch_means import PatchMeans
from training.augment.variants import AugmentConfig
from training.data.pairs import PairDataset
from training.data.sphere_pairs import write_sphere_pairs
from training.heads.batches import LatentPair, StepsAhead
from training.heads.drawn import DrawnBatches
from training.heads.linear_code import LinearCode, fit_linear_code
from training.heads.losses import LOBE_POWERS, HeadsLoss, LossWeights, lobe_kernel

CELLS = 6


@pytest.fixture(scope="module")
def code() -> LinearCode:
    """A code that keeps 192 numbers of a cell, so that pixels are what the latent says."""
    picture = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return LinearCode.fit(picture, rearrange(picture, "n c p q -> n (c p q) 1 1"))


def latent(code: LinearCode, coded: torch.Tensor) -> torch.Tensor:
    return code.encode(coded[None] * 2 - 1)


def env_with_lamp(azimuth: float, strength: float = 40.0, width: float = 8.0) -> torch.Tensor:
    directions = direction_grid(128, 256)
    centre = torch.tensor([torch.tensor(azimuth).deg2rad().sin(), 0.3, torch.tensor(azimuth).deg2rad().cos()])
    angle = torch.rad2deg((directions @ (centre / centre.norm())).clamp(-1, 1).acos())
    lamp = strength * (-0.5 * (angle / width) ** 2).exp()
    return (0.1 + lamp).expand(1, 3, -1, -1).contiguous()


def example(code: LinearCode, relit: torch.Tensor, flat: torch.Tensor, env: torch.Tensor) -> LatentPair:
    mask = torch.ones(1, 1, relit.shape[-2] // 8, relit.shape[-1] // 8)
    return LatentPair(latent(code, relit), latent(code, flat), mask, encode_env(env))


@pytest.fixture(scope="module")
def shadowed() -> tuple[torch.Tensor, torch.Tensor]:
    """A grey wall, half in shadow, and without the shadow; coded."""
    flat = torch.full((3, 8 * CELLS, 8 * CELLS), 0.4)
    relit = flat.clone()
    relit[..., 8 * CELLS // 2 :] *= 0.25
    return linear_to_srgb(relit), linear_to_srgb(flat)


def parts_of(
    code: LinearCode, made: torch.Tensor, env_code: torch.Tensor, batch: LatentPair
) -> dict[str, float]:
    loss = HeadsLoss(code, torch.ones(192), use_mask=True)
    output = HeadsOutput(latent(code, made), env_code, batch.mask.clone())
    return {name: value.item() for name, value in loss(output, batch).items()}


def test_what_is_right_costs_nothing(code, shadowed):
    relit, flat = shadowed
    batch = example(code, relit, flat, env_with_lamp(30))
    parts = parts_of(code, flat, batch.env_code, batch)
    assert sum(parts.values()) == pytest.approx(0, abs=1e-3)


def test_a_shadow_left_costs_shading_and_edges_and_a_gain_costs_exposure_alone(code, shadowed):
    relit, flat = shadowed
    batch = example(code, relit, flat, env_with_lamp(30))
    untouched, half = (parts_of(code, x, batch.env_code, batch) for x in (relit, (relit + flat) / 2))
    for name in ("picture", "shading", "edges", "latent"):
        assert untouched[name] > 1.5 * half[name] > 0, name
    brighter = parts_of(code, flat * 0.8, batch.env_code, batch)
    assert brighter["exposure"] > 0.05
    assert brighter["shading"] < 0.02 and brighter["edges"] < 0.02


def test_no_lamp_costs_more_than_one_that_is_a_little_off_and_a_glow_lies_between(code, shadowed):
    """The code's error alone says the opposite: its best answer under doubt is no lamp at all."""
    relit, flat = shadowed
    truth = env_with_lamp(40)
    batch = example(code, relit, flat, truth)
    energy = truth.sum()
    glow = env_with_lamp(40, width=40.0)
    costs = {}
    for name, env in {
        "6° off": env_with_lamp(46),
        "glow": glow * energy / glow.sum(),
        "opposite": env_with_lamp(-120),
        "none": torch.full_like(truth, 0.1),
    }.items():
        parts = parts_of(code, flat, encode_env(env), batch)
        costs[name] = sum(parts[part] for part in ("energy", "total", "lobes"))
    assert costs["6° off"] < costs["glow"] < costs["opposite"] and costs["glow"] < costs["none"]


@pytest.mark.parametrize("power", [1.0, *LOBE_POWERS])
def test_every_lobe_of_an_even_light_is_that_light(power):
    assert torch.allclose(lobe_kernel(power, 8, 32).sum(dim=1), torch.ones(128), atol=0.03)


def test_gradients_reach_all_outputs_and_weights_scale_their_part(code, shadowed):
    relit, flat = shadowed
    batch = example(code, relit, flat, env_with_lamp(30))
    z_flat, env_code = batch.z.clone().requires_grad_(), (0.5 * batch.env_code).requires_grad_()
    matte = torch.full_like(batch.mask, 0.5).requires_grad_()
    once = HeadsLoss(code, torch.ones(192))(HeadsOutput(z_flat, env_code, matte), batch)
    sum(once.values()).backward()
    for tensor in (z_flat, env_code, matte):
        assert bool(torch.isfinite(tensor.grad).all()) and tensor.grad.abs().max() > 0
    twice = HeadsLoss(code, torch.ones(192), weights=LossWeights(edges=2.0))(
        HeadsOutput(z_flat, env_code, matte), batch
    )
    assert twice["edges"].item() == pytest.approx(2 * once["edges"].item(), rel=1e-5)


def test_the_line_finds_a_linear_encoder_and_judges_it_by_pictures_that_it_was_not_fitted_to():
    pictures = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = PatchMeans()
    line = fit_linear_code(vae, pictures)
    assert line.encodes
    new = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    torch.testing.assert_close(line.encode(new), vae.encode(new), atol=2e-3, rtol=0)
    noise = torch.randn(24, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    assert not LinearCode.fit(pictures, noise).encodes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> DrawnBatches:
    folder = tmp_path_factory.mktemp("drawn")
    write_sphere_pairs(folder, train_subjects=2)
    pairs = PairDataset(folder, "train")
    pictures = torch.stack([pairs[index].relit for index in range(len(pairs))]) * 2 - 1
    line = fit_linear_code(PatchMeans(), pictures)
    return DrawnBatches(pairs, range(len(pairs)), line, AugmentConfig(), batch_size=4, seed=3)


def test_a_step_is_drawn_the_same_again_and_another_one_is_another(drawn):
    first, again, other = drawn.batch(5), drawn.batch(5), drawn.batch(6)
    assert torch.equal(first.z, again.z) and torch.equal(first.env_code, again.env_code)
    assert not torch.equal(first.z, other.z)


def test_two_processes_together_see_what_one_sees(drawn):
    whole = drawn.batch(2)
    parts = [drawn.batch(2, rank, 2) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.z, whole.z[rank::2]) and torch.equal(part.mask, whole.mask[rank::2])


def test_the_target_comes_as_a_picture_where_it_is_asked_for(drawn):
    assert drawn.batch(2).target is None
    batch = replace(drawn, with_target=True).batch(2)
    assert torch.equal(batch.z_flat, drawn.batch(2).z_flat) and batch.target.dtype == torch.uint8
    again = drawn.code.encode(batch.target.float() / 255 * 2 - 1)
    torch.testing.assert_close(again, batch.z_flat, atol=0.01, rtol=0)
    first = batch.rows(0, 1)
    assert torch.equal(first.target, batch.target[:1]) and len(first.z) == 1


def test_batches_drawn_ahead_are_those_of_their_steps(drawn):
    for workers in (0, 1):
        batches = list(StepsAhead(drawn, 3, 6).stream(workers))
        assert len(batches) == 3
        for step, batch in enumerate(batches, start=3):
            assert torch.equal(batch.z, drawn.batch(step).z)


def test_a_process_that_draws_ahead_inherits_no_lock(drawn, monkeypatch):
    """OpenImageIO's threads hold locks now and then: with forked processes a run of hours waited for ever."""
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a worker process is forked"))
    (batch,) = StepsAhead(drawn, 3, 4).stream(1)
    assert torch.equal(batch.z, drawn.batch(3).z)
