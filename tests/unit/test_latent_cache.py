"""What a training pair becomes before it is encoded: its photograph, and what the heads should make of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.color import linear_to_srgb
from delit_models.errors import DelitError
from tests.unit.patch_means import PatchMeans
from training.augment.photography import PhotographyConfig
from training.augment.variants import AugmentConfig, target_picture
from training.data.pairs import PAIR_FILES, Pair, PairDataset, PairRecord, Pairs
from training.data.sphere_pairs import write_sphere_pairs
from training.heads.latent_cache import build_latent_cache

SIZE = 64
ALWAYS = AugmentConfig(photography=PhotographyConfig(share=1.0))
NEVER = AugmentConfig(photography=PhotographyConfig(share=0.0))


class PairsInMemory(Pairs):
    """A data set of pairs that are in no file."""

    def __init__(self, pairs: list[Pair], subjects: str) -> None:
        self.pairs = pairs
        self.records = [PairRecord(subject, str(n), *[None] * 4) for n, subject in enumerate(subjects)]

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]

    def light(self, index: int) -> torch.Tensor:
        return self.pairs[index].env

    def stamp(self, index: int) -> str:
        return str(index)


def soft_mask(radius: float) -> torch.Tensor:
    steps = torch.linspace(-1, 1, SIZE)
    return ((radius - torch.hypot(steps[:, None], steps[None, :])) * 8).clamp(0, 1)[None]


def colour(seed: int) -> torch.Tensor:
    return torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(seed)).expand(3, SIZE, SIZE)


def pair_of(seed: int, radius: float = 0.6) -> Pair:
    """A disc-shaped subject in front of an even wall, both as a renderer gives them."""
    mask = soft_mask(radius)
    relit = linear_to_srgb(mask * colour(seed) + (1 - mask) * colour(seed + 1))
    flat = linear_to_srgb(mask * colour(seed + 2))
    return Pair(relit, flat, mask, torch.ones(3, 128, 256))


@pytest.fixture
def data_set() -> PairsInMemory:
    return PairsInMemory([pair_of(3 * n) for n in range(6)], "aabbcc")


@given(seed=st.integers(0, 2**20), radius=st.floats(0.2, 1.0))
def test_the_target_is_the_flat_lit_subject_before_the_old_background(seed, radius):
    pair = pair_of(seed, radius)
    expected = linear_to_srgb(pair.mask * colour(seed + 2) + (1 - pair.mask) * colour(seed + 1))
    torch.testing.assert_close(target_picture(pair), expected, atol=0.01, rtol=0)


def test_what_a_flat_picture_shows_outside_the_mask_does_not_count():
    pair = pair_of(0)
    elsewhere = torch.where(pair.mask > 0, pair.flat, torch.ones_like(pair.flat))
    torch.testing.assert_close(target_picture(replace(pair, flat=elsewhere)), target_picture(pair))


def test_the_first_variant_is_the_pair_as_it_is(data_set, tmp_path):
    cache = build_latent_cache(PatchMeans(), data_set, 3, ALWAYS, 0, tmp_path)
    for index in range(len(data_set)):
        first = cache[3 * index]
        expected = PatchMeans().encode(data_set[index].relit[None] * 2 - 1)[0]
        torch.testing.assert_close(first.z, expected, atol=1e-3, rtol=1e-3)
        assert not torch.allclose(cache[3 * index + 1].z, expected, atol=1e-3)


def test_targets_are_kept_as_pictures_where_they_are_asked_for(data_set, tmp_path):
    plain = build_latent_cache(PatchMeans(), data_set, 2, ALWAYS, 0, tmp_path)
    assert plain[0].target is None
    batch = build_latent_cache(PatchMeans(), data_set, 2, ALWAYS, 0, tmp_path, with_target=True).batch(
        torch.arange(4)
    )
    assert torch.equal(batch.z, plain.batch(torch.arange(4)).z) and batch.target.dtype == torch.uint8
    again = PatchMeans().encode(batch.target.float() / 255 * 2 - 1)
    torch.testing.assert_close(again, batch.z_flat, atol=0.01, rtol=0)


@pytest.mark.parametrize("part", PAIR_FILES)
@pytest.mark.parametrize("keeps_time", [False, True])
def test_latents_are_made_anew_when_any_file_of_a_pair_is_another(tmp_path, part, keeps_time):
    """Whether it was written later, or (copied with its time) is of another length."""
    write_sphere_pairs(tmp_path / "data", train_subjects=1)

    def latents() -> set[Path]:
        build_latent_cache(
            PatchMeans(), PairDataset(tmp_path / "data", "train"), 1, NEVER, 0, tmp_path / "cache"
        )
        return set((tmp_path / "cache").iterdir())

    before = latents()
    assert len(before) == 1 and latents() == before
    file = getattr(PairDataset(tmp_path / "data", "train").records[0], part)
    status = file.stat()
    if keeps_time:
        # Readers of pictures take no notice of what follows them.
        file.write_bytes(file.read_bytes() + bytes(8))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert len(latents() - before) == 1


def test_a_file_that_is_gone_is_named(tmp_path):
    write_sphere_pairs(tmp_path)
    pairs = PairDataset(tmp_path, "train")
    pairs.records[0].env_map.unlink()
    with pytest.raises(DelitError, match=r"There is no file .*sphere0/env/left\.exr"):
        pairs.stamp(0)


def test_pairs_of_different_sizes_are_refused_by_name(data_set, tmp_path):
    small = [getattr(data_set.pairs[3], name)[:, :-8] for name in ("relit", "flat", "mask")]
    data_set.pairs[3] = Pair(*small, data_set.pairs[3].env)
    with pytest.raises(DelitError, match="b/3 are 64 × 56, the first pair's 64 × 64"):
        build_latent_cache(PatchMeans(), data_set, 1, NEVER, 0, tmp_path)
