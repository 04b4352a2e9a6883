"""Training from end to end on a handful of tiny pairs: the code, the cache, the losses, and learning itself."""

from __future__ import annotations

import copy
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from delit_models import heads_file
from delit_models.checkpoint import load_wan_vae, save_wan_vae
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.env_map_files import write_env_map
from delit_models.errors import DelitError
from delit_models.image_files import write_image
from delit_models.lat_long import direction_grid
from delit_models.wan_vae import WanVAE, WanVAEConfig
from tests.unit.filled_cache import contents, filled_cache
from training import train_wan_vae
from training.augment.variants import AugmentConfig
from training.data.pairs import PairDataset, read_index
from training.data.shards import open_pairs
from training.evaluation.metrics import direction_error, psnr
from training.heads.losses import irradiance
from training.synth.light.lights import SHIPPED_HDRI_DIR, hdri_names
from training.vae.clips import ClipTrainer, encode_clips
from training.vae.decoder import DecoderConfig, DecoderTrainer
from training.vae.patch_code import (
    PatchCode,
    fade_between_frames,
    looks_back,
    prepare_decoder,
    set_linear_encoder,
)
from training.vae.run import load_pictures
from training.vae.sharp_pictures import TILE, picture_files, sharp_pictures

SIZE = 64


@pytest.fixture(scope="session")
def data_set(tmp_path_factory) -> Path:
    """Smooth coloured pictures, darkened by one light each; two subjects in two lights, and one of them for tests."""
    root = tmp_path_factory.mktemp("pairs")
    lines = []
    generator = torch.Generator().manual_seed(4)
    for subject in ("a", "b", "held_out"):
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        flat = (
            torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
            .clamp(0.05, 0.95)[0]
            .permute(1, 2, 0)
        )
        folder = root / "subjects" / subject
        write_image(folder / "flat.png", flat)
        write_image(folder / "mask.png", torch.ones(SIZE, SIZE, 3))
        for light in ("left", "right"):
            falloff = torch.linspace(1, 0.3, SIZE)
            falloff = falloff if light == "left" else falloff.flip(0)
            relit = linear_to_srgb(srgb_to_linear(flat) * falloff[None, :, None])
            write_image(folder / "relit" / f"{light}.png", relit)
            side = direction_grid(128, 256)[..., :1] * (-1 if light == "left" else 1)
            write_env_map(folder / "env" / f"{light}.exr", 0.1 + 3 * side.clamp(min=0).expand(-1, -1, 3))
            files = {
                "relit": f"subjects/{subject}/relit/{light}.png",
                "flat": f"subjects/{subject}/flat.png",
                "mask": f"subjects/{subject}/mask.png",
                "env_map": f"subjects/{subject}/env/{light}.exr",
            }
            split = "test" if subject == "held_out" else "train"
            lines.append(json.dumps({"subject": subject, "env": light, "split": split, **files}))
    (root / "index.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session")
def pictures(data_set) -> torch.Tensor:
    return load_pictures(open_pairs(data_set, "train")).float() / 127.5 - 1


@pytest.fixture(scope="session")
def linear_vae(pictures) -> WanVAE:
    torch.manual_seed(0)
    vae = WanVAE(WanVAEConfig(dim=16))
    set_linear_encoder(vae, PatchCode.fit(pictures))
    prepare_decoder(vae)
    return vae.eval().requires_grad_(False)


def test_the_encoder_holds_the_patch_code(linear_vae, pictures):
    code = PatchCode.fit(pictures)
    expected = code.encode(pictures)
    assert (linear_vae.encode(pictures) - expected).norm() / expected.norm() < 0.003
    torch.testing.assert_close(expected.mean(dim=(0, 2, 3)), torch.zeros(16), atol=0.02, rtol=0)


def test_the_patch_code_is_the_best_linear_one(pictures):
    """16 components of patches that lie in a 16-dimensional space lose nothing."""
    basis = torch.randn(16, 3 * 64)
    patches = torch.einsum("nhwk,kp->nhwp", torch.randn(4, 6, 6, 16), basis)
    images = patches.reshape(4, 6, 6, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, 48, 48)
    code = PatchCode.fit(images)
    torch.testing.assert_close(code.decode(code.encode(images)), images, atol=1e-3, rtol=1e-3)


def test_a_still_scene_is_the_same_clip_and_picture(linear_vae, pictures):
    still = linear_vae.encode(pictures[:1])
    clip = linear_vae.encode(pictures[:1, :, None].expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(clip, still[:, :, None].expand_as(clip), atol=1e-4, rtol=1e-4)
    decoded = linear_vae.decode(clip)
    torch.testing.assert_close(
        decoded, linear_vae.decode(still)[:, :, None].expand_as(decoded), atol=1e-4, rtol=1e-3
    )


def test_a_vae_too_narrow_for_the_code_is_refused(pictures):
    with pytest.raises(DelitError, match="of width 8"):
        set_linear_encoder(WanVAE(WanVAEConfig(dim=8)), PatchCode.fit(pictures))


def test_splits_are_read_and_a_broken_index_is_located(data_set, tmp_path):
    assert len(read_index(data_set, "train")) == 4 and len(read_index(data_set, "test")) == 2
    with pytest.raises(DelitError, match="no index.jsonl"):
        read_index(tmp_path, "train")
    (tmp_path / "index.jsonl").write_text('{"split": "train"}\n')
    with pytest.raises(DelitError, match="Line 1"):
        read_index(tmp_path, "train")


def test_irradiance_of_a_uniform_env_is_its_radiance():
    torch.testing.assert_close(irradiance(torch.full((1, 3, 128, 256), 2.5)), torch.full((1, 3, 128), 2.5),
                               rtol=0.01, atol=0)  # fmt: skip


def test_psnr_and_direction_error_have_known_values():
    truth = torch.full((1, 3, 8, 8), 0.5)
    assert psnr(truth + 0.1, truth).item() == pytest.approx(20, abs=1e-3)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    half_wrong = truth.clone()
    half_wrong[..., 4:] += 0.3
    assert psnr(half_wrong, truth, mask).item() > 100
    right, up = (direction_grid(128, 256)[..., axis].clamp(min=0).expand(1, 3, -1, -1) for axis in (0, 1))
    assert direction_error(right, up).item() == pytest.approx(90, abs=0.5)


def test_the_cache_is_made_once(linear_vae, data_set, tmp_path):
    pairs = PairDataset(data_set, "train")
    first = filled_cache(linear_vae, pairs, 3, AugmentConfig(), 0, tmp_path)
    assert len(first) == 12 and len(list(tmp_path.iterdir())) == 1
    again = filled_cache(OnlyTheTestCard(linear_vae), pairs, 3, AugmentConfig(), 0, tmp_path)
    for one, other in zip(contents(first), contents(again), strict=True):
        assert torch.equal(one, other)
    assert first.batch([0, 5]).env_code.shape == (2, 4, 128, 256)


class OnlyTheTestCard:
    """A VAE that encodes pairs no more, to show that a cached data set is not encoded again."""

    def __init__(self, vae: WanVAE) -> None:
        self.vae = vae
        self.parameters = vae.parameters

    def encode(self, x):
        assert torch.equal(x, heads_file.test_card()), "encoded again"
        return self.vae.encode(x)


def run(module, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.train(module.parse_arguments())


def test_the_decoder_learns_and_goes_on(data_set, tmp_path, monkeypatch, capsys):
    vae_file = tmp_path / "vae.safetensors"
    common = (
        "--data_root",
        data_set,
        "--output",
        vae_file,
        "--crop",
        32,
        "--batch_size",
        4,
        "--sharp",
        0,
        "--device",
        "cpu",
    )
    run(train_wan_vae, monkeypatch, *common, "--steps", 6)
    first = capsys.readouterr().out
    run(train_wan_vae, monkeypatch, *common, "--steps", 40)
    second = capsys.readouterr().out
    assert "Going on from step 6" in second
    before, after = (float(text.split("held-out PSNR ")[1].split()[0]) for text in (first, second))
    assert after > before + 0.5


def test_a_resumed_decoder_is_that_of_the_unbroken_run(data_set, tmp_path, monkeypatch, capsys, one_thread):
    """Bit for bit, the average included; the first part is stopped as by Ctrl-C."""
    common = (
        *("--data_root", data_set, "--crop", 32, "--batch_size", 2, "--device", "cpu", "--steps", 6),
        *("--sharp", 4),
    )
    run(train_wan_vae, monkeypatch, *common, "--output", tmp_path / "whole.safetensors")
    step, asked = DecoderTrainer.train_step, []

    def stopping_step(self):
        if self.step == 2 and not asked:
            asked.append(self.step)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(DecoderTrainer, "train_step", stopping_step)
        run(train_wan_vae, patched, *common, "--output", tmp_path / "broken.safetensors")
    assert "Stopped after step 3" in capsys.readouterr().out
    with pytest.raises(DelitError, match=r"batch_size was 2, is 4"):
        run(
            train_wan_vae,
            monkeypatch,
            *common,
            "--output",
            tmp_path / "broken.safetensors",
            "--batch_size",
            4,
        )
    run(train_wan_vae, monkeypatch, *common, "--output", tmp_path / "broken.safetensors")
    whole, broken = (
        torch.load(tmp_path / f"{name}.training" / "checkpoint.pt", weights_only=True)["state"]
        for name in ("whole", "broken")
    )
    assert whole["step"] == broken["step"] == 6
    for part in (lambda state: state["vae"], lambda state: state["average"]["weights"]):
        assert all(torch.equal(part(broken)[key], tensor) for key, tensor in part(whole).items())


@pytest.mark.parametrize(
    ("option", "values"),
    [
        *(
            (name, ("0", "-1", "9" * 30))
            for name in ("--batch_size", "--steps", "--save_every", "--test_every")
        ),
        ("--width", ("0", "8", "100000000")),
        ("--crop", ("0", "12", "100000000")),
        *((name, ("-1", "9" * 30)) for name in ("--sharp", "--seed")),
        ("--sharp_share", ("nan", "-1", "2")),
        ("--learning_rate", ("nan", "inf", "0", "-1")),
        ("--cool_down", ("nan", "-1", "1")),
        ("--minutes", ("nan", "-1")),
        ("--output", ("person.png",)),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_written(tmp_path, monkeypatch, option, values):
    start = ("--data_root", tmp_path / "nowhere", "--output", tmp_path / "vae.safetensors", "--device", "cpu")
    for value in values:
        with pytest.raises(DelitError, match=option):
            run(train_wan_vae, monkeypatch, *start, option, value)
    assert not any(tmp_path.iterdir())


def test_a_vae_that_no_run_here_has_made_is_not_replaced(linear_vae, data_set, tmp_path, monkeypatch):
    somebodys = tmp_path / "wan_2.1_vae.safetensors"
    save_wan_vae(somebodys, linear_vae, torch.float16)
    kept = somebodys.read_bytes()
    with pytest.raises(DelitError, match="is there already"):
        run(
            train_wan_vae,
            monkeypatch,
            "--data_root",
            data_set,
            "--output",
            somebodys,
            "--start_from",
            somebodys,
        )
    assert somebodys.read_bytes() == kept


def test_a_decoder_is_trained_on_and_its_encoder_kept(linear_vae, data_set, tmp_path, monkeypatch):
    """Bit for bit, so that heads stay valid; with a photograph among the sharp pictures."""
    photographs = tmp_path / "photographs"
    write_image(photographs / "one.png", torch.rand(200, 170, 3))
    start, output = tmp_path / "start.safetensors", tmp_path / "on.safetensors"
    save_wan_vae(start, linear_vae, torch.float16)
    run(
        train_wan_vae,
        monkeypatch,
        *("--data_root", data_set, "--output", output, "--start_from", start, "--photographs", photographs),
        *("--crop", 32, "--batch_size", 4, "--sharp", 4, "--device", "cpu", "--steps", 3),
    )
    before, after = (
        load_wan_vae(path, torch.device("cpu"), torch.float16).state_dict() for path in (start, output)
    )
    kept = [name for name in before if name.startswith(("encoder.", "conv1."))]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(before["decoder.conv1.weight"], after["decoder.conv1.weight"])


def test_clips_teach_the_past_and_leave_stills_alone(linear_vae, data_set, tmp_path, monkeypatch, capsys):
    start, output = tmp_path / "start.safetensors", tmp_path / "clips.safetensors"
    save_wan_vae(start, linear_vae, torch.float16)
    common = ("--data_root", data_set, "--output", output, "--clips", "--sharp", 0, "--crop", 16)
    with pytest.raises(DelitError, match="--start_from"):
        run(train_wan_vae, monkeypatch, *common, "--batch_size", 1, "--steps", 1)
    run(train_wan_vae, monkeypatch, *common, "--start_from", start, "--batch_size", 2, "--steps", 4)
    assert "a clip jerks by" in capsys.readouterr().out
    before, after = (load_wan_vae(path, torch.device("cpu"), torch.float32) for path in (start, output))
    z, clip = torch.randn(1, 16, 3, 4, 4), torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(before.encode(clip[:, :, 0]), after.encode(clip[:, :, 0]))
        assert torch.equal(before.decode(z[:, :, 0]), after.decode(z[:, :, 0]))
        assert torch.equal(before.decode(z)[:, :, 0], after.decode(z)[:, :, 0])
        assert not torch.equal(before.decode(z)[:, :, 1:], after.decode(z)[:, :, 1:])


@pytest.mark.parametrize("knows_clips", [False, True])
def test_a_vae_whose_encoder_averaged_keeps_frames_once_it_learns_clips(linear_vae, pictures, knows_clips):
    averaging = copy.deepcopy(linear_vae)
    if knows_clips:
        fade_between_frames(averaging)
    for part in averaging.encoder.modules():
        if getattr(part, "time_conv", None) is not None:
            with torch.no_grad():
                part.time_conv.weight[:, :, 1:] = part.time_conv.weight[:, :, 2:] / 2
    clip = torch.stack([pictures[number % len(pictures)] for number in range(9)], dim=1)[None]
    kept = torch.stack([linear_vae.encode(pictures[[n % len(pictures)]]) for n in (0, 4, 8)], dim=2)
    assert (averaging.encode(clip) - kept).norm() / kept.norm() > 0.2
    start = (pictures * 127.5 + 127.5).byte()
    config = DecoderConfig(clips=True, crop=16)
    trainer = ClipTrainer(config, start, start[:0], torch.device("cpu"), 1, averaging)
    for vae in (trainer.vae, trainer.averaged_vae()):
        assert (vae.encode(clip) - kept).norm() / kept.norm() < 0.005
        assert looks_back(vae)


def test_clips_begin_as_a_fade_from_frame_to_frame(linear_vae):
    vae = copy.deepcopy(linear_vae)
    fade_between_frames(vae)
    z = torch.randn(1, 16, 3, 4, 4)
    stills = torch.stack([vae.decode(z[:, :, n]) for n in (1, 2)])
    mixed = torch.stack([torch.lerp(*stills, step / 4) for step in range(1, 5)], dim=2)
    fading, repeating = (
        (each.decode(z)[:, :, 5:] - mixed).norm() / mixed.norm() for each in (vae, linear_vae)
    )
    # Of what the last layers are given, which are not linear.
    assert fading < 0.25 and repeating > 2 * fading


def test_the_code_of_a_clip_is_the_encoders(linear_vae, pictures):
    clip = torch.stack([pictures[number % len(pictures)] for number in range(9)], dim=1)[None]
    expected = linear_vae.encode(clip)
    made = encode_clips(PatchCode.fit(pictures).encode, clip)
    assert (made - expected).norm() / expected.norm() < 0.005


def test_only_a_linear_encoder_is_started_from(pictures):
    torch.manual_seed(0)
    other = WanVAE(WanVAEConfig(dim=12)).eval()
    with pytest.raises(DelitError, match="is not linear"):
        DecoderTrainer(
            DecoderConfig(), (pictures * 127.5 + 127.5).byte(), pictures[:0], torch.device("cpu"), 1, other
        )


def test_sharp_pictures_are_sharp_and_the_same_each_time(tmp_path):
    hdris = hdri_names(SHIPPED_HDRI_DIR, "train")[:2]
    write_image(tmp_path / "photograph.png", torch.rand(200, 170, 3))
    first, again = (sharp_pictures(20, hdris, picture_files(tmp_path), seed=3) for _ in range(2))
    assert first.shape == (20, 3, TILE, TILE) and torch.equal(first, again)
    # The mean step between neighbouring pixels, of 255.
    assert all(tile.float().diff(dim=-1).abs().mean() > 1 for tile in first)
    with pytest.raises(DelitError, match="holds no picture"):
        picture_files(tmp_path / "nothing")


def test_data_sets_are_joined(data_set):
    one, both = PairDataset(data_set, "train"), open_pairs([data_set, data_set], "train")
    assert len(both) == 2 * len(one)
    # The same name in two folders is not the same person: their lights are not added up.
    assert len({record.subject for record in both.records}) == 2 * len({r.subject for r in one.records})
    for index in range(len(both)):
        torch.testing.assert_close(both[index].relit, one[index % len(one)].relit)
        torch.testing.assert_close(both.light(index), one.light(index % len(one)))
        assert both.stamp(index) == one.stamp(index % len(one))
    with pytest.raises(IndexError):
        both[len(both)]
