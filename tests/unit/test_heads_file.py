"""Heads files: the round trip, the VAE probe, and every refusal with its remedy."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from delit_models import heads_file
from delit_models.checkpoint import save_wan_vae
from delit_models.errors import CheckpointError, DelitError
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, load_heads, save_heads, verify_vae_probe
from delit_models.wan_vae import WanVAE, WanVAEConfig

INFO = HeadsInfo("Test heads", "narrow.safetensors", "Apache-2.0", {"steps": 3}, {"flat_psnr": 20.5})


def make_vae(seed: int = 0) -> WanVAE:
    torch.manual_seed(seed)
    return WanVAE(WanVAEConfig(dim=8)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "heads.safetensors"
    torch.manual_seed(1)
    heads = DelitHeads(DelitConfig(working_size=320))
    torch.nn.init.normal_(heads.flat_projection.out.weight)
    save_heads(path, heads, make_vae().encode(heads_file.test_card()), INFO)
    return path, heads


def test_round_trip(saved):
    path, heads = saved
    loaded = load_heads(path)
    assert loaded.info == INFO and loaded.config == heads.config and len(loaded.sha256) == 64
    z = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        for given, expected in zip(loaded.heads(z), heads(z), strict=True):
            torch.testing.assert_close(given, expected)


def test_the_vae_they_were_trained_with_is_accepted_even_in_bf16(saved):
    loaded = load_heads(saved[0])
    vae = make_vae().to(torch.bfloat16)
    verify_vae_probe(lambda card: vae.encode(card.to(torch.bfloat16)), loaded, "narrow, bf16")


def test_another_vae_is_refused_and_both_are_named(saved):
    loaded = load_heads(saved[0])
    with pytest.raises(DelitError) as refusal:
        verify_vae_probe(make_vae(seed=5).encode, loaded, "other.safetensors")
    for name in ("Test heads", "narrow.safetensors", "other.safetensors"):
        assert name in str(refusal.value)


def test_a_vae_with_other_latents_is_refused(saved):
    loaded = load_heads(saved[0])
    with pytest.raises(DelitError, match="shape"):
        verify_vae_probe(lambda card: torch.zeros(1, 4, 8, 8), loaded, "sd")


def test_test_card_is_a_picture():
    card = heads_file.test_card()
    assert card.shape == (1, 3, 64, 64) and card.min() >= -1 and card.max() <= 1 and card.std() > 0.3


def rewrite(saved, tmp_path, tensors=None, **changes):
    """The saved file with some of its description or tensors changed."""
    from safetensors import safe_open

    with safe_open(saved[0], framework="pt") as file:
        description = json.loads(file.metadata()["delit"]) | changes
    path = tmp_path / "changed.safetensors"
    save_file(tensors or load_file(saved[0]), path, metadata={"delit": json.dumps(description)})
    return path


def test_newer_format_is_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match="update the pack"):
        load_heads(rewrite(saved, tmp_path, format_version=99))


def test_unknown_settings_are_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match="shininess"):
        load_heads(rewrite(saved, tmp_path, config={"shininess": 1}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": 3}, "“name” is '3', which is no text"),
        ({"vae_name": None}, "“vae_name” is 'None', which is no text"),
        ({"training": [1]}, "“training” is .* no object"),
        ({"config": [1]}, "no JSON object"),
        ({"format_version": float("inf")}, "damaged description"),
        ({"format_version": "two"}, "damaged description"),
    ],
)
def test_descriptions_with_odd_values_are_refused(saved, tmp_path, changes, told):
    with pytest.raises(CheckpointError, match=told):
        load_heads(rewrite(saved, tmp_path, **changes))


def test_a_description_without_an_end_is_refused(tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"delit": "[" * 100_000})
    with pytest.raises(CheckpointError, match="nested too deeply"):
        load_heads(path)


def test_larger_heads_than_the_file_holds_are_refused_before_they_are_built(saved, tmp_path, monkeypatch):
    built = []

    def noted(config, operations=torch.nn):
        built.append(torch.get_default_device().type)
        return DelitHeads(config, operations)

    monkeypatch.setattr(heads_file, "DelitHeads", noted)
    config = saved[1].config.to_dict() | {"feature_channels": 4096, "flat_width": 4096}
    with pytest.raises(CheckpointError, match="does not hold the heads that it describes"):
        load_heads(rewrite(saved, tmp_path, config=config))
    assert built == ["meta"]


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape", "nan", "probe"])
def test_wrong_tensors_are_named(saved, tmp_path, damage):
    tensors = load_file(saved[0])
    name = "extractor.stem.weight"
    expected = name
    if damage == "missing":
        del tensors[name]
    elif damage == "unexpected":
        tensors["sun"] = torch.zeros(1)
        expected = "sun"
    elif damage == "shape":
        tensors[name] = tensors[name][:, :3].clone()
    elif damage == "nan":
        tensors[name][0] = float("nan")
    else:
        del tensors["vae_probe"]
        expected = "probe"
    with pytest.raises(CheckpointError, match=expected):
        load_heads(rewrite(saved, tmp_path, tensors))


def test_missing_truncated_and_text_files_are_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match="no heads file"):
        load_heads(tmp_path / "nothing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved[0].read_bytes()[:5000])
    text = tmp_path / "text.safetensors"
    text.write_text("not found")
    for path in (cut, text):
        with pytest.raises(CheckpointError, match="not a readable"):
            load_heads(path)


def test_files_of_another_kind_are_told_what_they_are(tmp_path):
    vae, model, other = (tmp_path / f"{name}.safetensors" for name in ("vae", "model", "other"))
    save_wan_vae(vae, make_vae(), torch.float32, {})
    save_file({"blocks.0.self_attn.q.weight": torch.zeros(2)}, model)
    save_file({"weight": torch.zeros(2)}, other)
    for path, told in (
        (vae, "looks like a VAE"),
        (model, "diffusion model"),
        (other, "first tensors: weight"),
    ):
        with pytest.raises(CheckpointError, match=told):
            load_heads(path)


def test_nothing_half_written(saved, tmp_path):
    target = tmp_path / "folder" / "heads.safetensors"
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(DelitError, match="Cannot write"):
        save_heads(target, saved[1], torch.zeros(1, 16, 8, 8), INFO)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
