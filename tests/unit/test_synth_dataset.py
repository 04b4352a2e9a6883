"""The data set folder: what a killed run leaves, what a second run does, and that pictures depend on the seed alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from delit_models.color import luminance
from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, read_image, write_env_map
from delit_models.lat_long import direction_grid
from training.heads.losses import NORMALS_HEIGHT, irradiance
from training.synth.dataset.folder import (
    DatasetConfig,
    append_index,
    missing_work,
    prepare_folder,
    read_index,
    repair_index,
    subject_split,
)
from training.synth.light.lights import (
    SHIPPED_HDRI_DIR,
    TEST_HDRIS,
    camera_rotation,
    hdri_names,
    sample_light,
)
from training.synth.light.studios import STUDIOS, studio
from training.synth.render.photograph import choose_exposure, photograph

HAS_RENDERER = all(importlib.util.find_spec(name) for name in ("mitsuba", "anny"))


def _config(folder: Path, **changes: object) -> DatasetConfig:
    return DatasetConfig(**{"output_dir": folder, "num_subjects": 3, "num_envs": 2, **changes})


def _fake_sample(config: DatasetConfig, subject: str, env: str) -> dict:
    """A finished sample's record, with (empty) files where the record says."""
    folder = f"subjects/{subject}"
    record = {
        "subject": subject,
        "env": env,
        "split": "train",
        "relit": f"{folder}/relit/{env}.png",
        "flat": f"{folder}/flat.png",
        "mask": f"{folder}/mask.png",
        "env_map": f"{folder}/env/{env}.exr",
    }
    for key in ("relit", "flat", "mask", "env_map"):
        path = config.output_dir / record[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return record


def test_resume_counts_only_whole_samples(tmp_path: Path) -> None:
    config = _config(tmp_path)
    prepare_folder(config)
    records = [_fake_sample(config, "s00000", "e000"), _fake_sample(config, "s00000", "e001")]
    records.append(_fake_sample(config, "s00001", "e000"))
    append_index(tmp_path, records)
    (tmp_path / records[1]["relit"]).unlink()
    with open(tmp_path / "index.jsonl", "a") as index:
        index.write('{"subject": "s00002", "env": "e0')
    done = repair_index(tmp_path)
    assert done == {("s00000", "e000"), ("s00001", "e000")}
    assert missing_work(config, done) == [(0, [1]), (1, [1]), (2, [0, 1])]
    append_index(tmp_path, [_fake_sample(config, "s00000", "e001")])
    assert len(read_index(tmp_path)) == 3
    for line in (tmp_path / "index.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_folder_of_other_settings_is_refused_and_more_subjects_are_not(tmp_path: Path) -> None:
    prepare_folder(_config(tmp_path))
    prepare_folder(_config(tmp_path, num_subjects=9))
    with pytest.raises(DelitError, match="seed is 0, asked for 4"):
        prepare_folder(_config(tmp_path, seed=4))


def test_work_that_nobody_has_begun_takes_no_memory(tmp_path: Path) -> None:
    work = missing_work(_config(tmp_path, num_subjects=1000, num_envs=1000), {("s00001", "e000")})
    assert [len(envs) for _, envs in work[:3]] == [1000, 999, 1000]
    assert len({id(envs) for _, envs in work}) == 2


def test_a_data_set_that_the_generator_did_not_make_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text('{"of": "somebody"}\n')
    with pytest.raises(DelitError, match="index.jsonl and no dataset.json"):
        prepare_folder(_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["index.jsonl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "another data set"),
        ('{"settings": 3}', "another data set"),
        ("no sources", "does not list the files"),
        ("odd sources", "does not list the files"),
    ],
)
def test_a_damaged_description_is_refused_and_kept(tmp_path: Path, content: str, message: str) -> None:
    config = _config(tmp_path)
    odd = {"no sources": None, "odd sources": {"hdris": {"train": 3, "test": {}}, "captures": []}}
    if content in odd:
        content = json.dumps({"settings": config.identity, "sources": odd[content]})
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DelitError, match=message):
        prepare_folder(config)
    assert (tmp_path / "dataset.json").read_text() == content


def test_an_index_line_whose_further_files_are_no_names_is_made_again(tmp_path: Path) -> None:
    config = _config(tmp_path)
    prepare_folder(config)
    odd = _fake_sample(config, "s00001", "e000") | {"albedo": 3}
    append_index(tmp_path, [_fake_sample(config, "s00000", "e000"), odd])
    assert repair_index(tmp_path) == {("s00000", "e000")}


def _hdri(path: Path, brightness: float) -> None:
    write_env_map(path, torch.full((4, 8, 3), brightness))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: _hdri(folder / "a2.exr", 1.0), "a2.exr is new"),
        (lambda folder: (folder / "c.exr").unlink(), "c.exr is gone"),
        (
            lambda folder: write_env_map(folder / "c.exr", torch.ones(8, 16, 3)),
            "c.exr was of .* bytes .train.",
        ),
    ],
    ids=["added", "removed", "changed"],
)
def test_other_hdris_than_the_folder_was_begun_with_are_refused(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    """They would move HDRIs from one split to the other, and lights from one pair to another."""
    hdris = tmp_path / "hdris"
    hdris.mkdir()
    for name in "abcde":
        _hdri(hdris / f"{name}.exr", 1.0)
    config = _config(tmp_path / "data", hdri_dir=hdris)
    prepare_folder(config)
    prepare_folder(config)
    change(hdris)
    with pytest.raises(DelitError, match=message):
        prepare_folder(config)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 100},
        {"image_size": 56},
        {"num_envs": 0},
        {"test_fraction": 1.5},
        {"samples_per_pixel": 0},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, change: dict) -> None:
    with pytest.raises(DelitError, match=next(iter(change))):
        _config(tmp_path, **change)


def test_splits_share_no_hdri_and_are_interleaved() -> None:
    train, test = (hdri_names(SHIPPED_HDRI_DIR, split) for split in ("train", "test"))
    assert not set(train) & set(test)
    assert {path.stem for path in test} == set(TEST_HDRIS)
    assert len(train) + len(test) == 18
    for start in range(0, 400, 50):
        tests = sum(subject_split(index, 0.12) == "test" for index in range(start, start + 50))
        assert tests == 6


@pytest.mark.parametrize("split", ["train", "test"])
def test_lights_come_from_their_split_and_repeat_with_the_seed(split: str) -> None:
    allowed = {path.stem for path in hdri_names(SHIPPED_HDRI_DIR, split)} | {"procedural"}
    for seed in range(12):
        light, again = (
            sample_light(np.random.default_rng(seed), split, SHIPPED_HDRI_DIR, camera_rotation(5, 1))
            for _ in range(2)
        )
        assert light.source in allowed
        assert np.array_equal(light.radiance, again.radiance)
        assert np.isfinite(light.radiance).all() and light.radiance.min() >= 0


@pytest.mark.parametrize("kind", list(STUDIOS))
def test_studios_are_light(kind: str) -> None:
    radiance = studio(kind, np.random.default_rng(2))
    assert radiance.shape == (128, 256, 3)
    assert np.isfinite(radiance).all() and radiance.min() >= 0 and radiance.max() > 0


def test_difficult_light_is_no_rarity() -> None:
    """Of what falls on a face that looks into the camera: hard contrast, light from behind, and two colours."""
    rng = np.random.default_rng(0)
    normals = direction_grid(NORMALS_HEIGHT, 2 * NORMALS_HEIGHT).reshape(-1, 3)
    facing, away = normals[:, 2] > 0.3, normals[:, 2] < -0.8
    low_key, back_lit, two_coloured = [], [], []
    for _ in range(100):
        light = sample_light(rng, "train", SHIPPED_HDRI_DIR, np.eye(3)).radiance
        arriving = irradiance(rearrange(torch.from_numpy(light.copy()), "h w c -> 1 c h w"))[0].T
        brightness = luminance(arriving, dim=-1)
        low_key.append(brightness[facing].max() > 8 * brightness[facing].min())
        back_lit.append(brightness[away].mean() > 2 * brightness[normals[:, 2] > 0.8].mean())
        colours = torch.nn.functional.normalize(arriving[facing], dim=-1)
        two_coloured.append((colours @ colours.T).min() < np.cos(np.radians(25)))
    shares = [float(np.mean(kind)) for kind in (low_key, back_lit, two_coloured)]
    print("low-key, back-lit, two-coloured:", shares)
    assert min(shares) > 0.2


def test_camera_rotation_is_a_rotation_and_tilting_up_lowers_the_horizon() -> None:
    rotation = camera_rotation(pitch=20.0, roll=7.0)
    assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) > 0
    horizon = camera_rotation(pitch=20.0, roll=0.0) @ [0.0, 0.0, -1.0]
    assert horizon[1] < 0


def test_exposure_is_photographic_and_fits_half_floats() -> None:
    flat = np.ones((8, 8, 4), np.float32) * [0.3, 0.2, 0.15, 1.0]
    radiance = np.full((4, 8, 3), 1e4, np.float32)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        image = flat * rng.uniform(1e-3, 1e3)
        exposure = choose_exposure(image, flat, radiance, rng)
        assert 0.01 < (image[..., :3] * exposure).mean() < 0.6
        assert (radiance * exposure).max() <= 65504


@pytest.mark.parametrize("brightness", [0.05, 1.0, 40.0])
def test_exposure_leaves_the_subject_opaque_and_the_background_unlit(brightness: float) -> None:
    """Whatever the exposure, the subject's pixels are exposed light, and all others are what is behind it."""
    flat = np.zeros((16, 16, 4), np.float32)
    flat[4:12, 4:12] = [0.4, 0.3, 0.2, 1.0]
    image = flat * np.array([brightness, brightness, brightness, 1.0], np.float32)
    radiance = np.full((128, 256, 3), brightness, np.float32)
    kinds = set()
    for seed in range(12):
        taken = photograph(image, flat, radiance, 30.0, np.random.default_rng(seed))
        np.testing.assert_allclose(taken.radiance, brightness * taken.exposure, rtol=1e-5)
        np.testing.assert_allclose(taken.relit[4:12, 4:12], image[4:12, 4:12, :3] * taken.exposure, rtol=1e-4)
        if taken.background == "environment":
            np.testing.assert_allclose(taken.relit[:4], brightness * taken.exposure, rtol=1e-4)
        kinds.add(taken.background)
    assert kinds == {"environment", "backdrop"}


@pytest.mark.skipif(not HAS_RENDERER, reason="mitsuba or anny is not installed (pip install mitsuba anny)")
def test_a_sample_depends_on_its_seed_alone(tmp_path: Path) -> None:
    """Two runs, one of which renders the second env only, write the same picture and light."""
    from training.synth.dataset.samples import render_subject
    from training.synth.render.mitsuba_runtime import start_mitsuba

    renderer = start_mitsuba()
    first, second = (
        _config(tmp_path / name, image_size=64, samples_per_pixel=4, seed=5) for name in ("a", "b")
    )
    records = list(render_subject(renderer, first, 1, [0, 1]))
    again = list(render_subject(renderer, second, 1, [1]))
    assert records[1] == again[0]
    for key in ("relit", "flat", "mask"):
        one, other = (read_image(config.output_dir / again[0][key]) for config in (first, second))
        # Sums run in another order on another number of threads: one 8-bit step at the most, rarely.
        assert (one - other).abs().max() <= 1.01 / 255
        assert (one - other).abs().mean() < 1e-3
    one, other = (
        read_env_map(config.output_dir / again[0]["env_map"]).radiance for config in (first, second)
    )
    assert torch.equal(one, other) or torch.allclose(one, other, rtol=2e-3)
    mask = read_image(first.output_dir / records[0]["mask"])
    flat = read_image(first.output_dir / records[0]["flat"])
    assert 0.05 < mask.mean() < 0.95
    assert flat[(mask == 0).expand(-1, -1, 3)].abs().max() == 0
    assert (
        read_image(first.output_dir / records[0]["relit"])
        - read_image(first.output_dir / records[1]["relit"])
    ).abs().mean() > 0.01
