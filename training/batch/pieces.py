"""The work of a command line, piece by piece: what is done at one go, by whom it may be, and what came of it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from delit_models.errors import DelitError
from delit_models.oiio_files import existing_file
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.plate_files import frame_number
from delit_models.video.files import VideoFile

from .jobs import Job
from .pictures import check_plate, delit_picture, delit_sequence
from .places import is_remote, state_of
from .results import Results
from .videos import check_video, delit_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """A picture, a frame, a clip or a video, with all that its result depends on but the weights themselves.

    Attributes:
        key: its name in the index, one of its own in an output folder.
        shot: what it belongs to, as a report names it.
        inputs: a hash of its files' states, the settings and the weights.
    """

    key: str
    shot: str
    job: Job
    options: DelitOptions
    results: Results
    inputs: str = ""

    def files(self) -> list[Path]:
        """Its results."""
        return self.results.files(self.job, self.options)


@dataclass(frozen=True)
class Outcome:
    """What came of a piece: `reason` says why it failed, None that it is done."""

    reason: str | None = None


Do = Callable[[Piece], Outcome]
"""Does a piece and writes its results, in whatever process."""


def check_job(job: Job, options: DelitOptions, results: Results) -> None:
    """Refuse what cannot go together, before any work. What is in a store is looked into only when it is done.

    Raises:
        DelitError: see the messages.
    """
    if job.is_video:
        check_video(job, options, results)
        if not is_remote(job.files[0]):
            # Opened once, so that one that cannot be read is refused now.
            VideoFile(job.files[0], job.files[0].name)
    elif not is_remote(job.files[0]):
        check_plate(job, options)


def pieces_of(job: Job, options: DelitOptions, results: Results, shot: str, folder: str = "") -> list[Piece]:
    """The pieces of a job; `folder` is where its results are below the output folder, with a / at its end."""
    return [
        Piece(f"{folder}{part.name}{_number(part)}", shot, part, options, results) for part in job.pieces()
    ]


def with_inputs(piece: Piece, weights: str) -> Piece:
    """The piece with the hash of what it is made from.

    Raises:
        DelitError: for a file that is not there any more.
    """
    job = piece.job
    read = [*job.files, *job.masks, *([job.metered_on] if job.metered_on else [])]
    # By their names: a folder that was moved is the same. Only what differs from the defaults: an option that a later
    # version has more, and nobody has set, changes nothing.
    states = [[file.name, state_of(file)] for file in read]
    results = replace(piece.results, output=Path())
    settings = [_set_in(piece.options, DelitOptions()), _set_in(results, Results(Path())), job.clip]
    said = json.dumps([states, settings, weights])
    return replace(piece, inputs=hashlib.sha256(said.encode()).hexdigest()[:32])


def _set_in(settings: DelitOptions | Results, defaults: DelitOptions | Results) -> dict[str, object]:
    standard = asdict(defaults)
    return {name: value for name, value in asdict(settings).items() if value != standard[name]}


def weights_state(vae: Path, heads: Path) -> str:
    """What tells weights apart: the heads' content; a heads file knows its VAE.

    Raises:
        DelitError: where a file is not there.
    """
    return (
        f"{existing_file(vae).stat().st_size} {hashlib.sha256(existing_file(heads).read_bytes()).hexdigest()}"
    )


def do_piece(pipe: DelitPipeline, piece: Piece) -> Outcome:
    """Do a piece; whatever goes wrong with it goes wrong with no other."""
    try:
        _delit(pipe, piece)
    except DelitError as error:
        return Outcome(" ".join(str(error).split()))
    except Exception as error:
        # Not foreseen: the run goes on, and the log has where it came from.
        logger.exception("%s failed", piece.key)
        return Outcome(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return Outcome()


def _delit(pipe: DelitPipeline, piece: Piece) -> None:
    job, options, results = piece.job, piece.options, piece.results
    if job.is_video:
        delit_video(pipe, job, options, results)
        return
    if is_remote(job.files[0]):
        check_plate(job, options)
    (delit_sequence if job.clip else delit_picture)(pipe, job, options, results)


def _number(job: Job) -> str:
    """The frame's number of one that is a piece of its own."""
    return f".{frame_number(job.files[0]):04}" if job.numbered and not job.clip else ""
