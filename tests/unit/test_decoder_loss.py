"""The part of the loss that goes through the VAE's decoder: its windows, and what it sees in them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.checkpoint import load_wan_vae
from delit_models.pipeline import EMBEDDED_VAE
from training.augment.clutter import clutter
from training.heads.batches import LatentPair, as_bytes
from training.heads.decoder_loss import JUDGED, MARGIN, DecoderLoss, Span
from training.heads.lora import LoraDecoder

CELLS = 20


class Repeats:
    """A decoder that shows the first three channels of a cell in all of its pixels, and notes what it was given."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.seen = z.shape
        return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)


def example(mask: torch.Tensor) -> LatentPair:
    z_flat = torch.rand(2, 16, CELLS, CELLS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target = as_bytes(Repeats().decode(z_flat) / 2 + 0.5)
    return LatentPair(z_flat, z_flat, mask, torch.zeros(2, 4, 128, 256), target)


def everywhere() -> torch.Tensor:
    return torch.ones(2, 1, CELLS, CELLS)


@given(cells=st.integers(1, 64), seed=st.integers(0, 1000))
def test_a_window_lies_in_the_picture_with_a_margin_where_there_is_more(cells, seed):
    span = Span.drawn(cells, torch.Generator().manual_seed(seed))
    assert 0 <= span.start <= span.first and span.first + span.count <= span.end <= cells
    assert span.count == min(JUDGED, cells)
    assert span.start == 0 or span.first - span.start == MARGIN
    assert span.end == cells or span.end - span.first - span.count == MARGIN


def test_the_right_picture_costs_nothing_and_an_error_what_it_is():
    decoder, batch = Repeats(), example(everywhere())
    loss = DecoderLoss(decoder, use_mask=False, seed=0)
    for step in range(8):
        assert loss(batch.z_flat, batch, step)["decoded"] < 1e-3
        assert max(decoder.seen[-2:]) <= JUDGED + 2 * MARGIN
    # A fifth of the range everywhere: four times a Charbonnier error of 0.1 in the picture.
    off = loss(batch.z_flat + 0.2, batch, 0)["decoded"]
    assert off.item() == pytest.approx(4 * (0.1**2 + 0.01**2) ** 0.5 - 4 * 0.01, rel=0.02)


def test_a_step_has_one_window_and_steps_have_many():
    batch = example(everywhere())
    windows = [DecoderLoss(Repeats(), False, 7)._window(step, batch.z.shape[-2:]) for step in range(12)]
    again = [DecoderLoss(Repeats(), False, 7)._window(step, batch.z.shape[-2:]) for step in range(12)]
    others = [DecoderLoss(Repeats(), False, 8)._window(step, batch.z.shape[-2:]) for step in range(12)]
    assert windows == again != others and len(set(windows)) > 8


def test_windows_together_are_the_masked_mean_of_the_picture():
    """A window without the subject counts for nothing, one with more of it than others for more."""
    mask = torch.zeros(2, 1, CELLS, CELLS)
    mask[:, :, 4:16, 4:16] = 1
    batch = example(mask)
    loss = DecoderLoss(Repeats(), use_mask=True, seed=0)
    made = batch.z_flat + 0.2
    parts = [loss(made, batch, step)["decoded"].item() for step in range(300)]
    assert min(parts) < 0.6 * max(parts)
    # The subject lies in the middle, where windows fall more often than at the edges.
    assert 0.36 < sum(parts) / len(parts) < 0.8
    elsewhere = torch.where(mask.bool(), batch.z_flat, batch.z_flat + 1)
    inner = [loss(elsewhere, batch, step)["decoded"].item() for step in range(20)]
    assert max(inner) < 0.3


def test_a_lora_learns_towards_the_picture_itself():
    """Not towards what the VAE makes of the picture: the frozen decoder stays that far away."""
    vae = load_wan_vae(EMBEDDED_VAE)
    pictures = torch.stack([clutter(64, 64, torch.Generator().manual_seed(n)) for n in range(2)]).clamp(0, 1)
    z = vae.encode(pictures * 2 - 1)
    batch = LatentPair(z, z, torch.ones(2, 1, 8, 8), torch.zeros(2, 4, 128, 256), as_bytes(0.7 * pictures))
    decoder = LoraDecoder(vae, rank=4, seed=0)
    loss = DecoderLoss(decoder, use_mask=False, seed=0)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    errors = []
    for step in range(16):
        optimizer.zero_grad()
        errors.append(loss(z, batch, step)["decoded"])
        errors[-1].backward()
        optimizer.step()
    assert errors[0].item() == pytest.approx(DecoderLoss(vae, False, 0)(z, batch, 0)["decoded"].item())
    assert errors[-1] < 0.5 * errors[0], [round(error.item(), 3) for error in errors]
