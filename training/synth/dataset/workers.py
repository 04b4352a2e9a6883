"""Who renders: one process, a pool of this machine's, or a Ray cluster. All do the same work, a subject at a time.

Workers write a subject's files and give back its index lines; the index itself is written by the one who asked. So a
worker that dies leaves files that nothing counts, and its subject is done again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from types import ModuleType

from delit_models.errors import DelitError
from training.loop.stopping import end_with_the_main_process
from training.ray_cluster import ATTEMPTS, connect, cores_a_worker

from .folder import DatasetConfig, subject_name

logger = logging.getLogger(__name__)

Work = tuple[int, list[int]]
"""A subject's number and the environments that are still to make of it."""

MakeSubject = Callable[[Work], list[dict]]
"""Writes the files of that work and gives the index lines, in whatever process."""

CORES_PER_SUBJECT = 2
# People are made on the processor, their pictures on the graphics card: so many take turns on one card.
_SUBJECTS_PER_GPU = 4


@lru_cache(maxsize=1)
def _renderer(variant: str, threads: int) -> ModuleType:
    """This process's renderer, started once."""
    from training.synth.render.mitsuba_runtime import start_mitsuba

    return start_mitsuba(variant, threads)


def make_subject(config: DatasetConfig, variant: str, threads: int, work: Work) -> list[dict]:
    """Renders, or composes from captures, what is missing of one subject; returns its index lines.

    variant: of Mitsuba, the same for all workers, since each draws its own random numbers. Raises DelitError where this
    machine does not have it.
    """
    from .samples import compose_subject, render_subject

    if config.olat_captures is not None:
        return list(compose_subject(config, *work))
    return list(render_subject(_renderer(variant, threads), config, *work))


def default_workers(device: str) -> int:
    """How many subjects this machine renders at once."""
    workers = max(1, (os.cpu_count() or 1) // CORES_PER_SUBJECT)
    return min(workers, _SUBJECTS_PER_GPU) if device == "cuda" else workers


def local_records(make: MakeSubject, work: list[Work], workers: int) -> Iterator[list[dict]]:
    """Index lines subject by subject, as they are done by this machine's processes.

    Raises DelitError where a process was killed: what is finished stays, the same command goes on.
    """
    if workers == 1:
        yield from map(make, work)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_the_main_process)
    try:
        waiting: list[Future] = [pool.submit(make, piece) for piece in work]
        for done in as_completed(waiting):
            yield done.result()
    except BrokenProcessPool as error:
        raise DelitError(
            "A rendering process was killed, most often because memory ran out. What was finished is kept: run the "
            f"same command again, with fewer --workers than {workers} or a smaller --image_size."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ray_records(
    make: MakeSubject, work: list[Work], address: str, device: str = "cpu"
) -> Iterator[list[dict]]:
    """Index lines subject by subject, as they are done by the machines of a Ray cluster.

    A subject whose worker or machine dies is begun again by another, five times at the most. All machines need this
    checkout and the output folder under the same path. address: of the cluster ("auto", "host:6379", "ray://…"), or
    "local" for one on this machine alone.
    Raises DelitError where Ray is missing or not reached, and, after all others are done, for subjects that killed
    every worker.
    """
    ray = connect(address)
    try:
        cores = cores_a_worker(ray, CORES_PER_SUBJECT)
        gpus = 1 / _SUBJECTS_PER_GPU if device == "cuda" else 0
        task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=ATTEMPTS - 1)(lambda piece: make(piece))
        left, running, lost = list(reversed(work)), {}, []
        while left or running:
            # A few more than can run, so that no machine waits; not all, so that the cluster is not flooded.
            room = 2 + int(2 * ray.cluster_resources().get("CPU", 1) / cores)
            while left and len(running) < room:
                piece = left.pop()
                running[task.remote(piece)] = piece
            for reference in ray.wait(list(running), num_returns=1)[0]:
                records = _result(ray, reference, running.pop(reference), lost)
                if records:
                    yield records
    finally:
        ray.shutdown()
    if lost:
        raise DelitError(
            f"{', '.join(subject_name(index) for index in lost)} killed the worker {ATTEMPTS} times each, most often "
            "for want of memory. All others are done: run the same command again, with more memory a machine."
        )


def _result(ray: ModuleType, reference: object, piece: Work, lost: list[int]) -> list[dict]:
    """A finished task's index lines; a subject that no worker survived goes to `lost`."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # The error that the work itself raised, without the worker's traceback around it.
        raise (error.cause if isinstance(error.cause, DelitError) else error) from None
    except ray.exceptions.RayError as error:
        logger.warning("%s: no worker finished it (%s)", subject_name(piece[0]), error)
        lost.append(piece[0])
        return []
