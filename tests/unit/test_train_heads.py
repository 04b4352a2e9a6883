"""training.train_delit_wan from pairs to heads that the pipeline loads, and its promises about never losing work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from delit_models import heads_file
from delit_models.checkpoint import save_wan_vae
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, load_heads, save_heads
from delit_models.pipeline import EMBEDDED_VAE, DelitPipeline
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training import train_delit_wan
from training.data.sphere_pairs import write_sphere_pairs
from training.data.splits import split_subjects
from training.heads.batches import LatentPair
from training.heads.drawn import DrawnBatches
from training.loop.checkpoints import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
SIZE = 64


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spheres")
    write_sphere_pairs(folder, train_subjects=2, test_subjects=1, size=SIZE)
    return folder


def arguments(data: Path, output: Path, *more: object) -> list[str]:
    return [
        str(x)
        for x in (
            "--wan_vae_checkpoint", EMBEDDED_VAE, "--data_root", data, "--output_dir", output, "--batch_size", 4,
            "--workers", 0, "--device", "cpu", *more,
        )
    ]  # fmt: skip


def train(data: Path, output: Path, *more: object) -> None:
    train_delit_wan.train(train_delit_wan.parse_arguments(arguments(data, output, *more)))


def forget(run: Path) -> None:
    """Of a run, keep its cached latents alone."""
    for file in run.glob("*.*"):
        if file.is_file():
            file.unlink()


def test_heads_learn_and_what_was_trained_is_what_is_used(data_set, tmp_path, capsys):
    train(data_set, tmp_path, "--num_epochs", 2)
    assert "Fewer than twenty people" in capsys.readouterr().out
    loaded = load_heads(tmp_path / "delit_heads.safetensors")
    assert loaded.info.training["steps"] == 2 and loaded.config.working_size == SIZE
    # The nodes and the other commands run the same forward on the same file.
    pipe = DelitPipeline.load(EMBEDDED_VAE, tmp_path / "delit_heads.safetensors")
    z = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(pipe.heads(z).z_flat, loaded.heads(z).z_flat)
    events = EventAccumulator(str(tmp_path / "log"), size_guidance={IMAGES: 0})
    events.Reload()
    assert {"loss/all"} <= {*events.Tags()["scalars"]}
    assert "training/sphere0_left" in events.Tags()["images"]


@pytest.mark.parametrize("lora", [(), ("--lora_rank", 2, "--decoder_every", 3)], ids=["heads", "lora"])
def test_a_resumed_run_gives_the_numbers_of_the_unbroken_one(data_set, tmp_path, capsys, monkeypatch, lora):
    """Weights and their average, bit for bit. The first part is stopped as by Ctrl-C."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(data_set, whole, "--num_epochs", 8, *lora)
    batch, asked = DrawnBatches.batch, []

    def stopping_batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        if step == 3 and not asked:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return batch(self, step, rank, world)

    monkeypatch.setattr(DrawnBatches, "batch", stopping_batch)
    train(data_set, broken, "--num_epochs", 8, *lora)
    assert "Stopped after step 4" in capsys.readouterr().out
    train(data_set, broken, "--num_epochs", 8, "--resume", *lora)
    assert "Going on from step 4 of 8" in capsys.readouterr().out
    for name in ("delit_heads.safetensors", "delit_heads_last.safetensors"):
        one, other = (load_file(folder / name) for folder in (whole, broken))
        assert all(torch.equal(one[key], other[key]) for key in one)
    states = [
        torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["trainer"]
        for folder in (whole, broken)
    ]
    for part in ("heads", "average", *(("lora", "lora_average") if lora else ())):
        one, other = (state[part].get("weights", state[part]) for state in states)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_changed_settings_and_data_are_refused_by_name(data_set, tmp_path):
    train(data_set, tmp_path / "run", "--num_epochs", 1)
    for changed, told in (
        (("--learning_rate", 0.5), "learning_rate was 0.001, is 0.5"),
        (("--use_mask",), "use_mask was False, is True"),
        (("--seed", 7), "seed was 0, is 7"),
        (("--photographed", 0.1), "photographed was 0.8, is 0.1"),
        (("--lora_rank", 4), "lora_rank was not set, is 4"),
    ):
        with pytest.raises(DelitError, match=told):
            train(data_set, tmp_path / "run", "--num_epochs", 2, "--resume", *changed)
    write_sphere_pairs(tmp_path / "others", train_subjects=2, size=SIZE)
    with pytest.raises(DelitError, match="data was"):
        train(tmp_path / "others", tmp_path / "run", "--num_epochs", 2, "--resume")
    with pytest.raises(DelitError, match="nothing to resume"):
        train(data_set, tmp_path / "empty", "--resume")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        *((name, ("0", "-1", "100000000")) for name in ("--batch_size", "--accumulate", "--latent_variants")),
        *((name, ("0", "-1", "9" * 30)) for name in ("--num_epochs", "--validate_every", "--decoder_every")),
        *((name, ("-1", "9" * 30)) for name in ("--validation_pairs", "--workers", "--seed", "--lora_rank")),
        ("--learning_rate", ("nan", "inf", "0", "-1")),
        ("--photographed", ("nan", "-1", "2")),
        ("--cool_down", ("nan", "-1", "1")),
        ("--minutes", ("nan", "-1")),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_written(tmp_path, option, values):
    for value in values:
        with pytest.raises(DelitError, match=option):
            train(tmp_path / "nowhere", tmp_path / "run", option, value)
    assert not any(tmp_path.iterdir())


def test_another_run_does_not_take_the_place_of_one(data_set, tmp_path):
    train(data_set, tmp_path, "--num_epochs", 1)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if path.is_file()}
    with pytest.raises(DelitError, match="holds a run already.*--resume"):
        train(data_set, tmp_path, "--num_epochs", 1)
    with pytest.raises(DelitError, match="give --resume as well"):
        train(data_set, tmp_path, "--num_epochs", 1, "--finish")
    assert kept == {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if path.is_file()}


def test_a_checkpoint_can_be_finished_early(data_set, tmp_path, capsys):
    train(data_set, tmp_path, "--num_epochs", 40, "--minutes", 0)
    steps = load_heads(tmp_path / "delit_heads_last.safetensors").info.training["steps"]
    assert steps < 40
    train(data_set, tmp_path / "on", "--num_epochs", 4)
    train(data_set, tmp_path / "on", "--num_epochs", 400, "--resume", "--finish")
    assert load_heads(tmp_path / "on" / "delit_heads_last.safetensors").info.training["steps"] == 5


def test_training_goes_on_from_trained_heads_and_joined_data(data_set, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(data_set, first, "--num_epochs", 2)
    joined = arguments(data_set, second, "--num_epochs", 1, "--learning_rate", 1e-7, "--start_from",
                       first / "delit_heads.safetensors")  # fmt: skip
    joined.insert(joined.index("--output_dir"), str(data_set))
    train_delit_wan.train(train_delit_wan.parse_arguments(joined))
    before, after = (load_heads(folder / "delit_heads.safetensors") for folder in (first, second))
    assert after.info.training["started_from"] == "delit_heads.safetensors"
    assert after.info.training["pairs"] == 2 * before.info.training["pairs"] == 8
    z = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(after.heads(z).z_flat, before.heads(z).z_flat, atol=1e-2, rtol=1e-2)


def test_a_lora_is_learned_kept_and_gone_on_from(data_set, tmp_path):
    lora = ("--lora_rank", 2, "--decoder_every", 1)
    first, second = tmp_path / "first", tmp_path / "second"
    train(data_set, first, "--num_epochs", 4, *lora)
    loaded = load_heads(first / "delit_heads.safetensors")
    assert loaded.lora.rank == loaded.info.training["lora_rank"] == 2
    assert all(up.any() for _, up in loaded.lora.factors.values())
    pipe = DelitPipeline.load(EMBEDDED_VAE, first / "delit_heads.safetensors")
    z = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        assert not torch.equal(pipe.flat_vae.decode(z), pipe.vae.decode(z))
    start = ("--start_from", first / "delit_heads.safetensors", "--num_epochs", 1, "--learning_rate", 1e-7)
    for other in ((), ("--lora_rank", 3)):
        with pytest.raises(DelitError, match="a LoRA of rank 2: give --lora_rank 2"):
            train(data_set, second, *start, *other)
    train(data_set, second, *start, *lora)
    for name, factor in load_heads(second / "delit_heads.safetensors").lora.tensors().items():
        torch.testing.assert_close(factor, loaded.lora.tensors()[name], atol=1e-5, rtol=1e-4)
    for refused in (("--lora_rank", -1), (*lora[:2], "--decoder_every", 0)):
        with pytest.raises(DelitError, match="1 step or more"):
            train(data_set, tmp_path / "no", *refused)
    with pytest.raises(SystemExit):
        train(data_set, tmp_path / "no", "--freeze_vae", *lora)


def test_heads_of_another_vae_are_no_start(data_set, tmp_path):
    others = tmp_path / "heads.safetensors"
    info = HeadsInfo(name="Others", vae_name="another VAE", licence="")
    save_heads(others, DelitHeads(DelitConfig()), torch.ones(1, 16, 8, 8), info)
    with pytest.raises(DelitError, match="trained with the VAE “another VAE”"):
        train(data_set, tmp_path / "run", "--start_from", others)


@pytest.fixture(scope="module")
def curved_vae(tmp_path_factory) -> Path:
    """A VAE whose encoder is not linear."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_wan_vae(file, WanVAE(WanVAEConfig(dim=8)), torch.float32, {})
    return file


def test_a_vae_whose_encoder_is_not_linear_is_trained_for_from_a_cache(
    data_set, curved_vae, tmp_path, capsys
):
    more = ("--num_epochs", 1, "--latent_variants", 2, "--wan_vae_checkpoint", curved_vae)
    train(data_set, tmp_path / "run", *more)
    loaded = load_heads(tmp_path / "run" / "delit_heads.safetensors")
    # Another seed draws other variants: the latents of the first are told of.
    forget(tmp_path / "run")
    train(data_set, tmp_path / "run", *more, "--seed", 1)
    assert "another state of things (seed)" in capsys.readouterr().out
    assert loaded.info.training["steps"] == 2
    assert loaded.vae_probe.shape == heads_file.test_card().shape[:1] + (16, 8, 8)
    forget(tmp_path / "run")
    train(data_set, tmp_path / "run", *more, "--lora_rank", 2, "--decoder_every", 1)
    assert load_heads(tmp_path / "run" / "delit_heads.safetensors").lora.factors


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(data_set, tmp_path, monkeypatch):
    train(data_set, tmp_path, "--num_epochs", 2)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    batch = DrawnBatches.batch

    def broken_batch(self, step: int, rank: int = 0, world: int = 1) -> LatentPair:
        drawn = batch(self, step, rank, world)
        if step == 3:
            drawn.z[0] = torch.nan
        return drawn

    monkeypatch.setattr(DrawnBatches, "batch", broken_batch)
    with pytest.raises(DelitError, match=r"step 3 is no finite number. Its pairs were sphere\d/"):
        train(data_set, tmp_path, "--num_epochs", 6, "--resume")
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def start(data: Path, output: Path, *more: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "training.train_delit_wan", *arguments(data, output, *more)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(file: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not file.is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.05)


def test_sigterm_leaves_a_checkpoint_and_kill_the_last_one(data_set, tmp_path):
    process = start(data_set, tmp_path, "--num_epochs", 100_000, "--validate_every", 2)
    wait_for(tmp_path / "checkpoint.pt", process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "--resume goes on" in said
    process = start(
        data_set, tmp_path, "--num_epochs", 100_000, "--validate_every", 1, "--resume", "--workers", 1
    )
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    deadline = time.monotonic() + 120
    while (tmp_path / "checkpoint.previous.pt").stat().st_mtime_ns < written:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    identity = next(
        torch.load(tmp_path / name, weights_only=True)["identity"]
        for name in ("checkpoint.pt", "checkpoint.previous.pt")
        if (tmp_path / name).is_file()
    )
    assert load_checkpoint(tmp_path, identity)["trainer"]["step"] > 0
    load_heads(tmp_path / "delit_heads.safetensors")


@pytest.mark.parametrize(
    ("cached", "lora"),
    [(False, ()), (True, ("--lora_rank", 2, "--decoder_every", 2))],
    ids=["heads-drawn", "lora-cached"],
)
def test_two_processes_are_one_with_their_batch(data_set, curved_vae, tmp_path, cached, lora):
    """Started as accelerate's launcher does, over gloo; what differs is the order of additions. With variants that are
    drawn anew, and with a cache that both fill."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    more = ("--num_epochs", 3, *lora, *(("--wan_vae_checkpoint", curved_vae) if cached else ()))
    train(data_set, alone, *more)
    port, processes = 29000 + os.getpid() % 2000, []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "training.train_delit_wan"]
        command += arguments(data_set, together, *more)
        processes.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in processes:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    one, other = (load_file(folder / "delit_heads.safetensors") for folder in (alone, together))
    assert one.keys() == other.keys() and bool(lora) == any("lora_" in key for key in one)
    for key, tensor in one.items():
        torch.testing.assert_close(other[key].float(), tensor.float(), atol=2e-3, rtol=2e-2)


class Named:
    """As much of a data set as a split looks at."""

    def __init__(self, people: int, pairs: int) -> None:
        self.records = [type("Record", (), {"subject": f"s{n // pairs}"}) for n in range(people * pairs)]


@pytest.mark.parametrize("people", [1, 2, 19, 20, 100, 1000])
def test_validation_keeps_whole_people_and_never_the_last_one(people):
    data = Named(people, 3)
    split = split_subjects(data)
    assert sorted(split.learned + split.validated) == list(range(3 * people))
    subjects = [{data.records[n].subject for n in numbers} for numbers in (split.learned, split.validated)]
    assert not subjects[0] & subjects[1] and subjects[0]
    assert bool(subjects[1]) == (people >= 20) and len(subjects[1]) <= 0.12 * people + 1
