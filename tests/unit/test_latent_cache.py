"""What a training pair becomes before it is encoded, and the cache of what it is then: whole, and never lost."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from delit_models.color import linear_to_srgb
from delit_models.env_codec import encode_env
from delit_models.errors import DelitError
from tests.unit.disk_limits import full_disk_after, names_in
from tests.unit.filled_cache import contents, fill_slowly, filled_cache
from tests.unit.patch_means import PatchMeans
from training.augment.photography import PhotographyConfig
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig, target_picture
from training.data.index import PAIR_FILES
from training.data.pairs import Pair, PairDataset, PairRecord, Pairs
from training.data.sphere_pairs import write_sphere_pairs
from training.heads import latent_cache
from training.heads.encoding import encode_missing
from training.heads.latent_cache import (
    MIXED_CHUNKS,
    CachedBatches,
    LatentCache,
    open_latent_cache,
    unused_caches,
)
from training.heads.latent_chunks import ChunkLayout, chunk_file, write_chunk

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
    cache = filled_cache(PatchMeans(), data_set, 3, ALWAYS, 0, tmp_path)
    for index in range(len(data_set)):
        first = cache[3 * index]
        expected = PatchMeans().encode(data_set[index].relit[None] * 2 - 1)[0]
        torch.testing.assert_close(first.z, expected, atol=1e-3, rtol=1e-3)
        assert not torch.allclose(cache[3 * index + 1].z, expected, atol=1e-3)


def test_targets_are_kept_as_pictures_where_they_are_asked_for(data_set, tmp_path):
    plain = filled_cache(PatchMeans(), data_set, 2, ALWAYS, 0, tmp_path)
    assert plain[0].target is None
    batch = filled_cache(PatchMeans(), data_set, 2, ALWAYS, 0, tmp_path, with_target=True).batch(range(4))
    assert torch.equal(batch.z, plain.batch(range(4)).z) and batch.target.dtype == torch.uint8
    again = PatchMeans().encode(batch.target.float() / 255 * 2 - 1)
    torch.testing.assert_close(again, batch.z_flat, atol=0.01, rtol=0)


def test_a_row_has_the_light_of_its_variant(data_set, tmp_path, monkeypatch):
    """Mixed, tinted and mirrored as drawn, though a chunk holds only the maps that shine in it."""
    for number, pair in enumerate(data_set.pairs):
        across = torch.linspace(0.5, 4, 256) * (number + 1)
        data_set.pairs[number] = replace(pair, env=across.expand(3, 128, -1).contiguous())
    monkeypatch.setattr(latent_cache, "CHUNK_ROWS", 4)
    cache = filled_cache(PatchMeans(), data_set, 4, NEVER, 0, tmp_path)
    rows = VariantRows(data_set, 4, NEVER, 0)
    assert cache.layout.chunks == 6
    for row in range(len(rows)):
        expected = encode_env(rows[row].env(data_set)[None])[0]
        torch.testing.assert_close(cache[row].env_code, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("part", PAIR_FILES)
@pytest.mark.parametrize("keeps_time", [False, True])
def test_latents_are_made_anew_when_any_file_of_a_pair_is_another(tmp_path, part, keeps_time):
    """Whether it was written later, or (copied with its time) is of another length."""
    write_sphere_pairs(tmp_path / "data", train_subjects=1)

    def folder() -> Path:
        pairs = PairDataset(tmp_path / "data", "train")
        return filled_cache(PatchMeans(), pairs, 1, NEVER, 0, tmp_path / "cache").folder

    before = folder()
    assert folder() == before
    file = getattr(PairDataset(tmp_path / "data", "train").records[0], part)
    status = file.stat()
    if keeps_time:
        # Readers of pictures take no notice of what follows them.
        file.write_bytes(file.read_bytes() + bytes(8))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert folder() != before and before.is_dir()


class BrighterMeans(PatchMeans):
    """Another VAE."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return 1.1 * super().encode(pictures)


class RoundedMeans(PatchMeans):
    """The same VAE on another device."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return super().encode(pictures) * (1 + 1e-6)


def test_whatever_else_they_were_made_of_makes_other_latents_and_the_old_ones_are_told_of(
    data_set, tmp_path, monkeypatch
):
    def opened(vae=None, variants=2, config=ALWAYS, seed=0) -> LatentCache:
        return open_latent_cache(vae or PatchMeans(), VariantRows(data_set, variants, config, seed), tmp_path)

    first = opened()
    assert opened().folder == opened(RoundedMeans()).folder == first.folder
    assert not unused_caches(first)
    changed = [
        (opened(BrighterMeans()), "the VAE"),
        (opened(variants=3), "variants"),
        (opened(config=NEVER), "photography: share"),
        (opened(config=replace(ALWAYS, tinted=0.1)), "tinted"),
        (opened(seed=1), "seed"),
    ]
    monkeypatch.setattr("training.heads.latent_cache.VARIANTS_VERSION", 1_000)
    changed.append((opened(), "version of the augmentation"))
    assert len({cache.folder for cache, _ in changed} | {first.folder}) == 7
    told = unused_caches(first)
    assert len(told) == 6
    for cache, name in changed:
        line = next(line for line in told if str(cache.folder) in line)
        assert name in line and "Remove it" in line


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
        filled_cache(PatchMeans(), data_set, 1, NEVER, 0, tmp_path)


def started(data: Path, folder: Path, rank: int = 0, world: int = 1) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(
        target=fill_slowly, args=(data, 3, folder, rank, world)
    )
    process.start()
    return process


def chunks_in(folder: Path) -> dict[Path, int]:
    """The chunks that are there, with when each was written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("latents-*/chunk-*.safetensors")}


def test_a_killed_encoding_goes_on_where_it_was(tmp_path, monkeypatch):
    """With kill -9; what is there stays as it is, and all together is what an unbroken run makes."""
    write_sphere_pairs(tmp_path / "data", train_subjects=5)
    process = started(tmp_path / "data", tmp_path / "broken")
    deadline = time.monotonic() + 120
    while len(chunks_in(tmp_path / "broken")) < 3:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    kept = chunks_in(tmp_path / "broken")
    assert 3 <= len(kept) < 10
    folder = next(iter(kept)).parent
    # As a kill in the middle of writing leaves one.
    (folder / ".chunk-000007.abcd.safetensors").write_bytes(b"cut sho")
    monkeypatch.setattr(latent_cache, "CHUNK_ROWS", 3)
    pairs = PairDataset(tmp_path / "data", "train")
    broken = filled_cache(PatchMeans(), pairs, 3, AugmentConfig(), 0, tmp_path / "broken")
    whole = filled_cache(PatchMeans(), pairs, 3, AugmentConfig(), 0, tmp_path / "whole")
    assert broken.folder == folder and not broken.missing()
    assert kept.items() <= chunks_in(tmp_path / "broken").items(), "a chunk was made again"
    assert names_in(folder) == names_in(whole.folder)
    for one, other in zip(contents(broken), contents(whole), strict=True):
        assert torch.equal(one, other)


def test_processes_share_the_work_and_take_over_from_one_that_died(tmp_path, monkeypatch):
    write_sphere_pairs(tmp_path / "data", train_subjects=6)
    monkeypatch.setattr(latent_cache, "CHUNK_ROWS", 3)
    pairs = PairDataset(tmp_path / "data", "train")
    # The first process begins the cache; a third one never comes.
    open_latent_cache(PatchMeans(), VariantRows(pairs, 3, AugmentConfig(), 0), tmp_path / "shared")
    processes = [started(tmp_path / "data", tmp_path / "shared", rank, 3) for rank in (0, 2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(chunks_in(tmp_path / "shared")) == 12
    whole = filled_cache(PatchMeans(), pairs, 3, AugmentConfig(), 0, tmp_path / "whole")
    shared = filled_cache(Unusable(), pairs, 3, AugmentConfig(), 0, tmp_path / "shared")
    for one, other in zip(contents(shared), contents(whole), strict=True):
        assert torch.equal(one, other)


class Unusable(PatchMeans):
    """A VAE that encodes nothing but the test card, to show that nothing is encoded again."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        assert len(pictures) == 1, "encoded again"
        return super().encode(pictures)


def test_a_full_disk_leaves_whole_chunks(data_set, tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "CHUNK_ROWS", 3)
    rows = VariantRows(data_set, 3, NEVER, 0)
    cache = open_latent_cache(PatchMeans(), rows, tmp_path)
    written = []

    def writing(file, encoded, envs) -> None:
        with full_disk_after(2000 if len(written) == 2 else 10_000_000):
            write_chunk(file, encoded, envs)
        written.append(file)

    monkeypatch.setattr("training.heads.encoding.write_chunk", writing)
    with pytest.raises(DelitError, match="chunk-000002"):
        encode_missing(cache, PatchMeans(), rows)
    assert names_in(cache.folder) == ["cache.json", "chunk-000000.safetensors", "chunk-000001.safetensors"]
    monkeypatch.undo()
    monkeypatch.setattr(latent_cache, "CHUNK_ROWS", 3)
    encode_missing(cache, PatchMeans(), rows)
    whole = filled_cache(PatchMeans(), data_set, 3, NEVER, 0, tmp_path / "whole")
    for one, other in zip(contents(cache), contents(whole), strict=True):
        assert torch.equal(one, other)


def test_a_damaged_chunk_is_named(data_set, tmp_path):
    cache = filled_cache(PatchMeans(), data_set, 2, NEVER, 0, tmp_path)
    file = chunk_file(cache.folder, 0)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DelitError, match=r"chunk-000000\.safetensors cannot be read .* Remove it"):
        LatentCache(cache.folder, cache.layout)[0]


# Chunks of rows with little in them but a number.
LAYOUT = ChunkLayout(pairs=3 * 21 + 1, variants=2, chunk_pairs=3)


def numbered_batches(batch_size: int, seed: int = 0) -> CachedBatches:
    return CachedBatches(LatentCache(Path(), LAYOUT), None, batch_size, seed)


@given(batch_size=st.integers(1, 40), seed=st.integers(0, 1000))
def test_every_pass_has_every_row_once_in_another_order(batch_size, seed):
    batches = numbered_batches(batch_size, seed)
    steps = -(-2 * LAYOUT.rows // batch_size)
    rows = [row for step in range(steps) for row in batches.rows(step)]
    first, second = rows[: LAYOUT.rows], rows[LAYOUT.rows : 2 * LAYOUT.rows]
    assert sorted(first) == sorted(second) == list(range(LAYOUT.rows)) and first != second


def test_a_step_has_the_same_rows_whoever_asks_and_whenever():
    batches = numbered_batches(16, seed=3)
    forwards = [batches.rows(step) for step in range(30)]
    assert [numbered_batches(16, seed=3).rows(step) for step in reversed(range(30))] == forwards[::-1]
    assert pickle.loads(pickle.dumps(batches)).rows(7) == forwards[7]
    assert numbered_batches(16, seed=4).rows(7) != forwards[7]


def test_rows_are_shuffled_within_and_across_chunks_of_which_few_are_open():
    batches = numbered_batches(1)
    chunks = [batches.rows(step)[0] // 6 for step in range(LAYOUT.rows)]
    latest = [set(chunks[start : start + 6 * MIXED_CHUNKS]) for start in range(0, LAYOUT.rows, 6)]
    assert max(map(len, latest)) <= 2 * MIXED_CHUNKS
    # A batch of sixteen comes from most of the chunks that are open.
    batch = set(chunks[:16])
    assert len(batch) >= MIXED_CHUNKS // 2
    assert batch != set(range(len(batch)))


def memory(kind: str) -> int:
    """Kilobytes of this process' memory: RssAnon is its own, RssFile the files' that it looks into."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def test_training_holds_no_data_set_in_memory(tmp_path):
    layout = ChunkLayout(pairs=40 * 16, variants=1, chunk_pairs=16)
    row = {
        "z": torch.ones(16, 64, 64).half(),
        "z_flat": torch.ones(16, 64, 64).half(),
        "mask": torch.ones(1, 64, 64).half(),
        "lights": torch.zeros(4, dtype=torch.long),
        "gains": torch.tensor([[1.0], [0.0], [0.0], [0.0]]).expand(4, 3).contiguous(),
        "mirrored": torch.tensor(False),
    }
    for number in range(layout.chunks):
        write_chunk(chunk_file(tmp_path, number), [row] * 16, {0: torch.ones(3, 128, 256)})
    megabytes = sum(file.stat().st_size for file in tmp_path.iterdir()) >> 20
    assert megabytes > 150
    batches = CachedBatches(LatentCache(tmp_path, layout), None, 4, 0)
    batches.batch(0)
    before = {kind: memory(kind) for kind in ("RssAnon", "RssFile")}
    most = dict.fromkeys(before, 0)
    for step in range(1, 160):
        assert batches.batch(step).z.shape == (4, 16, 64, 64)
        most = {kind: max(most[kind], memory(kind) - before[kind]) for kind in before}
    assert most["RssAnon"] < 48 << 10, most
    assert most["RssFile"] < (megabytes * 2 * MIXED_CHUNKS // layout.chunks + 24) << 10, most
