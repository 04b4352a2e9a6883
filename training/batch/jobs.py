"""What a command line asks for: which files are delit, with which mask, to which names. All is checked before work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from delit_models.atomic_write import is_hidden
from delit_models.errors import DelitError
from delit_models.free_names import first_two_alike
from delit_models.plate_files import frame_number, frames_of, sequence_name

from .places import names_in

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
PLATES = {".exr"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True)
class Job:
    """One picture, plate, sequence of frames, or video.

    Attributes:
        files: the file, or the frames of a sequence in order.
        name: what its results are called, before `_flat` and the like; a frame's number comes after that.
        masks: none, one for all files, or one for each.
        numbered: whether it is a sequence, or a frame of one.
        clip: whether a sequence is a clip: steadied in time, its light that of the shot.
        metered_on: the frame whose exposure all of its sequence share; None meters each by itself.
    """

    files: tuple[Path, ...]
    name: str
    masks: tuple[Path, ...] = ()
    numbered: bool = False
    clip: bool = False
    metered_on: Path | None = None

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() in VIDEOS

    @property
    def is_plate(self) -> bool:
        return self.files[0].suffix.lower() in PLATES

    def pieces(self) -> list[Job]:
        """What is done at one go: a clip or a video as it is, of other sequences each frame."""
        if self.clip or len(self.files) == 1:
            return [self]
        masks = self.masks if len(self.masks) == len(self.files) else self.masks[:1] * len(self.files)
        return [
            replace(self, files=(file,), masks=masks[index : index + 1], metered_on=self.files[0])
            for index, file in enumerate(self.files)
        ]


def find_jobs(source: Path, mask: Path | None = None, clips: bool = False) -> list[Job]:
    """The jobs of a file, a sequence `name.####.exr`, or a folder; in the order of their names.

    Args:
        source: what to delit.
        mask: a mask picture for one file, a sequence of masks for one sequence, or a folder of masks named as the files
            are.
        clips: whether sequences are clips; numbered pictures of a folder then are sequences as well as plates.

    Raises:
        DelitError: where nothing is there, a kind of file is not read, two results would have one name, or a mask is
            missing or has no use.
    """
    jobs = [_job(place, clips) for place in _places(source, clips)]
    # portrait.jpg and portrait.png must not overwrite each other's results; nor Portrait.png, where capitals are alike.
    counts = Counter(job.name.casefold() for job in jobs)
    jobs = [job if counts[job.name.casefold()] == 1 else _with_suffix(job) for job in jobs]
    alike = first_two_alike(job.name for job in jobs)
    if alike:
        one, other = (jobs[place] for place in alike)
        raise DelitError(
            f"{one.files[0].name} and {other.files[0].name} would both be written as {other.name}. Rename one of them."
        )
    return jobs if mask is None else [_with_mask(job, mask, len(jobs)) for job in jobs]


def _places(source: Path, clips: bool) -> list[Path]:
    if "#" in source.name or not source.is_dir():
        return [source]
    known = PICTURES | PLATES | VIDEOS
    names = [name for name in names_in(source) if Path(name).suffix.lower() in known and not is_hidden(name)]
    if not names:
        raise DelitError(f"There is no picture, plate or video in {source}.")
    framed = PICTURES | PLATES if clips else PLATES
    counts = Counter(sequence_name(name) for name in names if Path(name).suffix.lower() in framed)
    sequences = {name for name, count in counts.items() if count > 1 and "#" in name}
    singles = {name for name in names if sequence_name(name) not in sequences}
    return [source / name for name in sorted(sequences | singles)]


def _job(place: Path, clips: bool) -> Job:
    numbered = "#" in place.name
    if not numbered and not place.is_file():
        raise DelitError(
            f"{place} is not there. Give a picture, a plate, a sequence (shot.####.exr), a video or a folder of them."
        )
    if place.suffix.lower() not in PICTURES | PLATES | VIDEOS:
        known = ", ".join(sorted(PICTURES | PLATES | VIDEOS))
        raise DelitError(f"{place} is no picture, plate or video that Delit reads; it reads {known}.")
    name = place.name.split("#")[0].rstrip("._-") if numbered else place.stem
    files = tuple(frames_of(place)) if numbered else (place,)
    return Job(files, name or "frame", numbered=numbered, clip=numbered and clips)


def _with_suffix(job: Job) -> Job:
    return replace(job, name=f"{job.name}_{job.files[0].suffix.lower().lstrip('.')}")


def _with_mask(job: Job, mask: Path, jobs: int) -> Job:
    if "#" in mask.name and job.numbered and jobs == 1:
        return replace(job, masks=_mask_frames(job, mask))
    if job.is_video or job.numbered:
        raise DelitError(
            f"{job.files[0].name} moves, and a mask picture stands still. Leave --mask out: the heads find the subject "
            "in every frame. Or give a sequence its own masks: mask.####.png."
        )
    if mask.is_dir():
        found = [name for name in sorted(names_in(mask)) if Path(name).stem == job.files[0].stem]
        if not found:
            raise DelitError(
                f"There is no mask for {job.files[0].name} in {mask}: name it {job.files[0].stem}.png."
            )
        return replace(job, masks=(mask / found[0],))
    if not mask.is_file():
        raise DelitError(f"The mask {mask} is not there.")
    if jobs > 1:
        raise DelitError(
            f"{mask} is one mask for {jobs} files. Give a folder of masks named as the files are."
        )
    return replace(job, masks=(mask,))


def _mask_frames(job: Job, mask: Path) -> tuple[Path, ...]:
    """The masks with the numbers of a sequence's frames."""
    numbered = {frame_number(file): file for file in frames_of(mask)}
    lacking = [frame_number(file) for file in job.files if frame_number(file) not in numbered]
    if lacking:
        raise DelitError(
            f"{mask} has no mask for frame {lacking[0]} of {job.name}"
            + (f" and {len(lacking) - 1} others." if len(lacking) > 1 else ".")
        )
    return tuple(numbered[frame_number(file)] for file in job.files)


def frame_range(job: Job, first: int, last: int) -> Job:
    """The frames of a sequence from one number to another; 0 is the first, or the last, that is there.

    Raises:
        DelitError: for what is no sequence, or has no such frames.
    """
    if not first and not last:
        return job
    if not job.numbered:
        raise DelitError(f"{job.files[0].name} is no sequence of frames: leave first and last out.")
    numbers = [frame_number(file) for file in job.files]
    kept = [i for i, number in enumerate(numbers) if first <= number and (not last or number <= last)]
    if not kept:
        raise DelitError(
            f"{job.name} has the frames {numbers[0]} to {numbers[-1]}; none from {first} to {last}."
        )
    masks = tuple(job.masks[i] for i in kept) if len(job.masks) == len(numbers) else job.masks
    return replace(job, files=tuple(job.files[i] for i in kept), masks=masks)
