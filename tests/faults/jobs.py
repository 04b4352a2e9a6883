"""What is killed: every command that writes, on data so small that a run takes a second or two; and what is promised of
what a kill leaves behind.

A job works in a folder of its own for each round; `inputs` is made once, and only read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch

from delit_models.checkpoint import load_wan_vae
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, save_heads, test_card
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import EMBEDDED_VAE
from delit_models.video.files import write_video
from training.batch.index import INDEX_FILE as DONE_FILE
from training.batch.report import REPORT_FILE
from training.data.index import INDEX_FILE, index_lines
from training.data.shards import open_pairs
from training.data.sphere_pairs import write_sphere_pairs
from training.loop.checkpoints import PREVIOUS, find_checkpoints

from .victims import Command
from .whole_files import damaged_files, differences, hidden_files, mean_difference

SIZE = 64
VIDEO = "clip_flat.mp4"
TINY_HEADS = DelitConfig(
    feature_channels=8,
    extractor_widths=(8, 8),
    flat_width=8,
    env_token_width=8,
    env_query_blocks=1,
    env_context_grid=4,
    env_decoder_widths=(8, 8),
    attention_heads=2,
    working_size=SIZE,
)


class Job:
    """A command, and its promises.

    Attributes:
        module: what is run, `python -m module`. needs: what else it imports when it runs.
        not_compared: files, and folders of files, that may differ from an unbroken run's and are not looked into.
        cleans_up: whether a second start removes what the first had begun to write.
    """

    module = ""
    needs: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    cleans_up = False

    def prepare(self, inputs: Path) -> None:
        """Make what is only read, where there is any."""

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        """Those of a start in that folder, the first or a later one."""
        raise NotImplementedError

    def command(self, inputs: Path, folder: Path) -> Command:
        return Command(self.module, self.arguments(inputs, folder))

    def finished(self, inputs: Path, folder: Path) -> list[Path]:
        """Files that later starts must leave as they are: that work is done."""
        return []

    def word_of_going_on(self, folder: Path) -> str:
        """What the next start prints, as there is something to go on from; nothing for a job that does not say."""
        return ""

    def is_done(self, folder: Path) -> bool:
        """Whether no further start is needed, as one would be refused."""
        return False

    def broken_promises(self, inputs: Path, folder: Path) -> Iterator[str]:
        """What is wrong with what a kill has left in the folder."""
        yield from damaged_files(folder, self.not_compared)

    def not_as_unbroken(self, inputs: Path, folder: Path, unbroken: Path) -> Iterator[str]:
        """What is wrong with the results once a later start has ended."""
        yield from differences(folder, unbroken, self.not_compared)
        if self.cleans_up:
            yield from (f"{name} was left behind" for name in hidden_files(folder))


class Generator(Job):
    """training.generate_toy_dataset, as it is: two people are rendered in two lights."""

    module = "training.generate_toy_dataset"
    needs = ("training.synth.dataset.samples",)
    more: tuple[str, ...] = ("--workers", "1")
    cleans_up = True

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        size = ("--image_size", str(SIZE), "--samples_per_pixel", "1", "--no_denoise")
        count = ("--num_subjects", "2", "--num_envs", "2")
        return ["--output_dir", str(folder / "data"), *count, *size, *self.more]

    def broken_promises(self, inputs: Path, folder: Path) -> Iterator[str]:
        # The index is appended to: its last line may be cut short, and the next start takes it out.
        yield from (told for told in damaged_files(folder) if INDEX_FILE not in told)
        if (folder / "data" / INDEX_FILE).is_file():
            yield from self._index_faults(folder / "data")

    def finished(self, inputs: Path, folder: Path) -> list[Path]:
        if not (folder / "data" / INDEX_FILE).is_file():
            return []
        lines = [line.entry for line in index_lines(folder / "data") if not line.problem]
        return [
            folder / "data" / line[part] for line in lines for part in ("relit", "relit_linear", "env_map")
        ]

    def not_as_unbroken(self, inputs: Path, folder: Path, unbroken: Path) -> Iterator[str]:
        yield from super().not_as_unbroken(inputs, folder, unbroken)
        yield from self._index_faults(folder / "data")

    @staticmethod
    def _index_faults(data: Path) -> Iterator[str]:
        lines = [line.entry for line in index_lines(data) if not line.problem]
        for name, count in Counter((line["subject"], line["env"]) for line in lines).items():
            if count > 1:
                yield f"{name} is counted {count} times"
        for line in lines:
            for part in ("relit", "relit_linear", "flat", "mask", "env_map"):
                if not (data / line[part]).is_file():
                    yield f"{line['subject']}/{line['env']} is counted, its {part} is not there"


class Writing(Generator):
    """The generator with discs in place of rendered people: eight subjects in three lights, then packed into shards."""

    module = "tests.faults.generate_discs"

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        start = ["--output_dir", str(folder / "data"), "--num_subjects", "8", "--num_envs", "3"]
        return [
            *start,
            "--image_size",
            str(SIZE),
            "--no_denoise",
            *self.more,
            "--shards",
            str(folder / "shards"),
        ]


class TwoProcesses(Writing):
    """The same by two processes, which must not outlive the one that started them."""

    more = ("--workers", "2")


class Shards(Job):
    """training.make_shards."""

    module = "training.make_shards"
    cleans_up = True

    def prepare(self, inputs: Path) -> None:
        write_sphere_pairs(inputs / "data", train_subjects=6, test_subjects=2, size=SIZE)

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        return [str(inputs / "data"), "--output", str(folder / "shards"), "--shard_size", "2"]

    def is_done(self, folder: Path) -> bool:
        # What is there is never written over.
        return (folder / "shards").is_dir() and any((folder / "shards").iterdir())

    def broken_promises(self, inputs: Path, folder: Path) -> Iterator[str]:
        yield from super().broken_promises(inputs, folder)
        if any((folder / "shards").glob("*")):
            for split, count in (("train", 12), ("test", 4)):
                found = len(open_pairs(folder / "shards", split))
                if found != count:
                    yield f"the folder of shards has its name, and {found} of {count} pairs"


class OnPairs(Job):
    """A job that reads a data set of spheres."""

    train_subjects = 3

    def prepare(self, inputs: Path) -> None:
        write_sphere_pairs(inputs / "data", train_subjects=self.train_subjects, test_subjects=1, size=SIZE)


class Cache(OnPairs):
    """The latent cache of the heads' training."""

    module = "tests.faults.encode_latents"
    cleans_up = True

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        return [str(inputs / "data"), str(folder)]

    def finished(self, inputs: Path, folder: Path) -> list[Path]:
        return list(folder.glob("latents-*/[!.]*"))


class Training(OnPairs):
    """What both trainers promise: to go on from the last checkpoint as if nothing had happened."""

    needs = ("torch.utils.tensorboard",)
    not_compared = ("log",)
    cleans_up = True
    train_subjects = 1
    steps = 6

    def checkpoints(self, folder: Path) -> Path:
        """Where they are."""
        return folder

    def word_of_going_on(self, folder: Path) -> str:
        return "Going on from step" if find_checkpoints(self.checkpoints(folder)) else ""

    def not_as_unbroken(self, inputs: Path, folder: Path, unbroken: Path) -> Iterator[str]:
        # Which one came before the last depends on where a run was killed.
        told = super().not_as_unbroken(inputs, folder, unbroken)
        yield from (line for line in told if PREVIOUS not in line)


class HeadsTraining(Training):
    """training.train_delit_wan: some steps of tiny heads, with a checkpoint after each."""

    module = "tests.faults.train_heads"

    def prepare(self, inputs: Path) -> None:
        super().prepare(inputs)
        torch.manual_seed(0)
        with torch.inference_mode():
            probe = load_wan_vae(EMBEDDED_VAE, "cpu", torch.float32).encode(test_card())
        info = HeadsInfo("Tiny", EMBEDDED_VAE.name, "Apache-2.0", {})
        save_heads(inputs / "tiny.safetensors", DelitHeads(TINY_HEADS), probe, info)

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        files = ["--wan_vae_checkpoint", str(EMBEDDED_VAE), "--data_root", str(inputs / "data")]
        files += ["--output_dir", str(folder), "--start_from", str(inputs / "tiny.safetensors")]
        run = ["--batch_size", "2", "--num_epochs", str(self.steps), "--workers", "0", "--device", "cpu"]
        return [*files, *run, *(["--resume"] if find_checkpoints(folder) else [])]


class VAETraining(Training):
    """training.train_wan_vae: some steps of a narrow decoder, with a checkpoint after every second one."""

    module = "training.train_wan_vae"

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        size = f"--width 12 --crop 32 --batch_size 1 --steps {self.steps} --sharp 8".split()
        files = ["--data_root", str(inputs / "data"), "--output", str(folder / "vae.safetensors")]
        return [*files, *size, "--save_every", "2", "--test_every", "2", "--device", "cpu"]

    def checkpoints(self, folder: Path) -> Path:
        return folder / "vae.training"


class Evaluation(OnPairs):
    """training.evaluate on a pair, with the embedded weights."""

    module = "training.evaluate"

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        data = ["--data_root", str(inputs / "data"), "--report", str(folder / "report")]
        return [*data, "--limit", "1", "--pictures", "1", "--device", "cpu"]


class Folder(Job):
    """training.delit on a folder of two pictures and a video."""

    module = "training.delit"
    # It says when it was written, and what was done before.
    not_compared = ("report.json",)

    def prepare(self, inputs: Path) -> None:
        write_sphere_pairs(inputs / "data", train_subjects=1, test_subjects=1, size=SIZE)
        pictures = [read_image(path) for path in sorted((inputs / "data").rglob("relit/*.png"))][:2]
        for number, picture in enumerate(pictures):
            write_image(inputs / "source" / f"picture{number}.png", picture)
        frames = [pictures[0].roll(shift, 1) for shift in range(3)]
        write_video(inputs / "source" / "clip.mp4", frames, rate=Fraction(24))

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        return [str(inputs / "source"), "--output", str(folder), "--device", "cpu"]

    def broken_promises(self, inputs: Path, folder: Path) -> Iterator[str]:
        # The index is appended to: its last line may be cut short, and the next start takes it out.
        yield from (told for told in damaged_files(folder) if not told.startswith(DONE_FILE))

    def not_as_unbroken(self, inputs: Path, folder: Path, unbroken: Path) -> Iterator[str]:
        # They also tell how long each took, and what was done already.
        left_out = (f"{DONE_FILE} differs", f"{REPORT_FILE} differs", f"{VIDEO} differs")
        told = super().not_as_unbroken(inputs, folder, unbroken)
        yield from (line for line in told if not line.startswith(left_out))
        # A last bit that rounds otherwise makes H.264 write other blocks: equal files are not promised.
        if (folder / VIDEO).is_file() and mean_difference(folder / VIDEO, unbroken / VIDEO) > 1:
            yield f"{VIDEO} shows something else than the unbroken run's"
        names = [json.loads(line)["name"] for line in (folder / DONE_FILE).read_text().splitlines()]
        known = [json.loads(line)["name"] for line in (unbroken / DONE_FILE).read_text().splitlines()]
        if sorted(names) != sorted(known):
            yield f"{DONE_FILE} lists {sorted(names)} in place of {sorted(known)}"


class Careless(Job):
    """A job whose promises are broken: the harness must see it."""

    module = "tests.faults.careless"

    def arguments(self, inputs: Path, folder: Path) -> list[str]:
        return [str(folder / "results")]


JOBS: dict[str, Job] = {
    "generator": Generator(),
    "writing": Writing(),
    "two processes": TwoProcesses(),
    "shards": Shards(),
    "cache": Cache(),
    "heads": HeadsTraining(),
    "vae": VAETraining(),
    "evaluation": Evaluation(),
    "folder": Folder(),
}
