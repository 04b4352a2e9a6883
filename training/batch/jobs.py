"""What a command line asks for: which files are delit, with which mask, to which names. All is checked before work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from delit_models.errors import DelitError
from delit_models.plate_files import find_plates, frames_of

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
PLATES = {".exr"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True)
class Job:
    """One picture, plate, sequence of plates, or video.

    Attributes:
        files: the file, or the frames of a sequence in order.
        name: what its results are called, before `_flat` and the like; a frame's number comes after that.
        mask: a mask picture for it.
        numbered: whether it is a sequence.
    """

    files: tuple[Path, ...]
    name: str
    mask: Path | None = None
    numbered: bool = False

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() in VIDEOS

    @property
    def is_plate(self) -> bool:
        return self.files[0].suffix.lower() in PLATES


def find_jobs(source: Path, mask: Path | None = None) -> list[Job]:
    """The jobs of a file, a sequence `name.####.exr`, or a folder; in the order of their names.

    Args:
        source: what to delit.
        mask: a mask picture for one file, or a folder of masks named as the files are.

    Raises:
        DelitError: where nothing is there, a kind of file is not read, or a mask is missing or has no use.
    """
    jobs = [_job(place) for place in _places(source)]
    counts = Counter(job.name for job in jobs)
    # portrait.jpg and portrait.png must not overwrite each other's results.
    jobs = [job if counts[job.name] == 1 else _with_suffix(job) for job in jobs]
    return jobs if mask is None else [_with_mask(job, mask, len(jobs)) for job in jobs]


def _places(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    plates = [source / name for name in find_plates(source) if "/" not in name]
    sequences = [place for place in plates if "#" in place.name and place.suffix.lower() in PLATES]
    framed = {file for place in sequences for file in frames_of(place)}
    known = PICTURES | PLATES | VIDEOS
    singles = [file for file in source.iterdir() if file.suffix.lower() in known and file not in framed]
    if not singles and not sequences:
        raise DelitError(f"There is no picture, plate or video in {source}.")
    return sorted(singles + sequences)


def _job(place: Path) -> Job:
    numbered = "#" in place.name
    if not numbered and not place.is_file():
        raise DelitError(
            f"{place} is not there. Give a picture, a plate, a sequence (shot.####.exr), a video or a folder of them."
        )
    if place.suffix.lower() not in PICTURES | PLATES | VIDEOS:
        known = ", ".join(sorted(PICTURES | PLATES | VIDEOS))
        raise DelitError(f"{place} is no picture, plate or video that Delit reads; it reads {known}.")
    name = place.name.split("#")[0].rstrip("._-") if numbered else place.stem
    return Job(tuple(frames_of(place)), name or "frame", numbered=numbered)


def _with_suffix(job: Job) -> Job:
    suffix = job.files[0].suffix.lower().lstrip(".")
    return Job(job.files, f"{job.name}_{suffix}", job.mask, job.numbered)


def _with_mask(job: Job, mask: Path, jobs: int) -> Job:
    if job.is_video or job.numbered:
        raise DelitError(
            f"{job.files[0].name} moves, and a mask picture stands still. Leave --mask out: the heads find the subject "
            "in every frame."
        )
    if mask.is_dir():
        found = [file for file in sorted(mask.iterdir()) if file.stem == job.files[0].stem]
        if not found:
            raise DelitError(
                f"There is no mask for {job.files[0].name} in {mask}: name it {job.files[0].stem}.png."
            )
        return Job(job.files, job.name, found[0])
    if not mask.is_file():
        raise DelitError(f"The mask {mask} is not there.")
    if jobs > 1:
        raise DelitError(
            f"{mask} is one mask for {jobs} files. Give a folder of masks named as the files are."
        )
    return Job(job.files, job.name, mask)
