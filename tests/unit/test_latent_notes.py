"""What a LATENT carries between the nodes: there and back, and not believed once another node has changed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from delit_models.errors import DelitError
from delit_models.images import Framing
from delit_models.latent_notes import LatentNotes, decoded_framing, fit_source, make_latent, open_latent

FRAMING = Framing((101, 131), (101, 131))  # padded to 104 × 136
STILLS = torch.arange(2 * 16 * 13 * 17, dtype=torch.float32).reshape(2, 16, 13, 17)
CLIP = torch.zeros(1, 16, 3, 13, 17)


def test_stills_come_back_as_stills_with_their_notes() -> None:
    notes = LatentNotes(FRAMING, relit=STILLS[:, :, None] + 1, vae_probe=torch.ones(1))
    latent = make_latent(STILLS, notes)
    assert latent["samples"].shape == (2, 16, 1, 13, 17)
    z, found = open_latent(latent)
    assert torch.equal(z, STILLS)
    assert torch.equal(found.needed_relit(), STILLS + 1)
    assert decoded_framing(z, found) == FRAMING


def test_a_latent_without_notes_is_at_its_own_size() -> None:
    z, notes = open_latent({"samples": CLIP})
    assert z.shape == CLIP.shape and notes == LatentNotes()
    assert decoded_framing(z, notes).source_size == (104, 136)
    with pytest.raises(DelitError, match="Delit Apply"):
        notes.needed_relit()


@pytest.mark.parametrize(("frames", "kept"), [(5, None), (6, 6), (9, 9), (10, None)])
def test_the_number_of_frames_is_dropped_when_it_cannot_be(frames: int, kept: int | None) -> None:
    assert open_latent(make_latent(CLIP, LatentNotes(frames=frames)))[1].frames == kept


def test_notes_of_a_resized_latent_are_dropped() -> None:
    latent = make_latent(STILLS, LatentNotes(FRAMING, relit=STILLS[:, :, None]))
    latent["samples"] = torch.zeros(2, 16, 1, 20, 20)
    notes = open_latent(latent)[1]
    assert notes == replace(notes, framing=None, relit=None)


@pytest.mark.parametrize(
    "shape", [(1, 4, 8, 8), (1, 16, 8, 8), (1, 48, 1, 8, 8), (0, 16, 1, 8, 8), (2, 16, 2, 8, 8)]
)
def test_other_latents_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DelitError, match="LATENT"):
        open_latent({"samples": torch.zeros(shape)})


def test_a_source_is_cut_as_core_cut_it() -> None:
    source = torch.arange(101 * 131, dtype=torch.float32).reshape(1, 101, 131, 1)
    core = decoded_framing(torch.zeros(1, 16, 12, 16), LatentNotes())
    cut, mask = fit_source(source, source[..., 0], core, noted=False)
    # 101 = 96 + 5 and 131 = 128 + 3: core leaves out 2 rows at the top and 1 column on the left.
    assert torch.equal(cut, source[:, 2:98, 1:129])
    assert torch.equal(mask, cut[..., 0])
    assert fit_source(source, None, FRAMING, noted=True)[0] is source


def test_a_source_of_other_proportions_is_refused() -> None:
    with pytest.raises(DelitError, match="proportions"):
        fit_source(torch.zeros(1, 100, 100, 3), None, FRAMING, noted=True)
