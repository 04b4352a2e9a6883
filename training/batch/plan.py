"""From a command line's arguments to pieces of work, and from those to results: the same steps whoever does them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from delit_models.errors import DelitError
from delit_models.pipeline import DelitOptions, DelitPipeline
from training.command_line import choose_device

from .index import Index
from .jobs import Job, find_jobs, frame_range
from .pieces import Do, Outcome, Piece, check_job, do_piece, pieces_of, weights_state, with_inputs
from .places import place_of
from .report import Report
from .results import Results
from .shots import Shot, read_shots

Outcomes = Iterator[tuple[Piece, Outcome]]


def planned(arguments: argparse.Namespace, report: Report) -> list[Piece]:
    """All pieces that are asked for. Of a shot list, a shot that cannot be done is a failure of the report.

    Raises:
        DelitError: for what is asked for without a list and cannot be done, and for a list that cannot be read.
    """
    output = place_of(arguments.output)
    weights = weights_state(Path(arguments.vae), Path(arguments.heads))
    if arguments.shots is None:
        mask = None if arguments.mask is None else place_of(arguments.mask)
        jobs = find_jobs(place_of(arguments.source), mask, arguments.sequence)
        pieces = [piece for job in jobs for piece in _checked(job, arguments, output, job.name)]
        return [with_inputs(piece, weights) for piece in pieces]
    found = []
    for shot in read_shots(Path(arguments.shots)):
        try:
            settings = argparse.Namespace(**(vars(arguments) | shot.settings))
            job = _job_of(shot, Path(arguments.shots).parent)
            pieces = _checked(job, settings, output / shot.name, shot.name, f"{shot.name}/")
            found += [with_inputs(piece, weights) for piece in pieces]
        except DelitError as error:
            report.pieces += 1
            report.add_failure(shot.name, f"{shot.name} (line {shot.line})", shot.source, str(error))
    return found


def _job_of(shot: Shot, folder: Path) -> Job:
    source, mask = (
        place_of(name) if "://" in name else folder / name for name in (shot.source, shot.mask or "-")
    )
    jobs = find_jobs(source, mask if shot.mask else None, shot.settings["sequence"])
    if len(jobs) > 1:
        raise DelitError(
            f"{source} holds {len(jobs)} things to delit; a row is one shot. Name its frames: {jobs[0].name}.####.exr."
        )
    return replace(frame_range(jobs[0], shot.first, shot.last), name=shot.name)


def _checked(
    job: Job, arguments: argparse.Namespace, output: Path, shot: str, folder: str = ""
) -> list[Piece]:
    options = DelitOptions(
        working_size=arguments.working_size,
        detail_transfer=not arguments.no_detail_transfer,
        area=arguments.area,
        outside=arguments.outside,
        coding=arguments.coding,
        exposure=arguments.exposure,
        env_pooling=arguments.env_pooling,
    )
    results = Results(output, arguments.bit_depth, arguments.gain, arguments.matte, arguments.orientation)
    check_job(job, options, results)
    return pieces_of(job, options, results, shot, folder)


def carry_out(
    pieces: list[Piece],
    output: Path,
    report: Report,
    outcomes: Callable[[list[Piece]], Outcomes],
    overwrite: bool = False,
) -> None:
    """Do what is not done yet; every finished piece goes into the index, every failed one into the report."""
    report.pieces += len(pieces)
    with Index(output) as index:
        todo = [piece for piece in pieces if _is_to_be_done(piece, index, report, overwrite)]
        index.begin({piece.key: piece.inputs for piece in todo if _is_fresh(piece, index)})
        files = sum(len(piece.job.files) for piece in todo)
        with tqdm(total=files, desc="delit", unit="file", disable=files <= 1) as bar:
            for piece, outcome in outcomes(todo) if todo else ():
                if outcome.reason is None:
                    _add(index, piece)
                    report.done += 1
                else:
                    report.add_failure(piece.shot, piece.key, str(piece.job.files[0]), outcome.reason)
                bar.update(len(piece.job.files))


def _is_to_be_done(piece: Piece, index: Index, report: Report, overwrite: bool) -> bool:
    """Whether a piece is to be done; what is done counts as left, and what would replace somebody's file as failed."""
    if overwrite:
        return True
    line = index.line(piece.key)
    if index.has(piece.key, piece.inputs, piece.files()):
        report.left += 1
        if "begun" in line:
            # Whoever made its results was stopped before it said so.
            _add(index, piece)
        return False
    somebodys = None if line else next(filter(index.is_there, piece.files()), None)
    if somebodys is not None:
        reason = (
            f"{somebodys} is there already, and no run of this command has made it. Move it away, give another "
            "--output, or replace it with --overwrite."
        )
        report.add_failure(piece.shot, piece.key, str(piece.job.files[0]), reason)
    return somebodys is None


def _is_fresh(piece: Piece, index: Index) -> bool:
    """Whether neither a line nor a file of it is there."""
    return not index.line(piece.key) and not any(map(index.is_there, piece.files()))


def _add(index: Index, piece: Piece) -> None:
    said = {"source": str(piece.job.files[0]), "files": len(piece.job.files)}
    index.add(piece.key, piece.inputs, said)


def do_here(load: Callable[[], Do], pieces: Iterable[Piece]) -> Outcomes:
    """One after another in this process; `load` loads what does them."""
    do = load()
    for piece in pieces:
        yield piece, do(piece)


def load_weights(vae: str, heads: str, device: str | None) -> Do:
    """What does pieces, in this process.

    Raises:
        DelitError: for weights that cannot be used, and a device that is not there.
    """
    return partial(do_piece, DelitPipeline.load(vae, heads, choose_device(device)))
