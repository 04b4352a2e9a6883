"""Pieces of work done by the machines of a Ray cluster, with Ray Data.

Actors hold the model. Each reads a piece's files where they lie and writes its results where they go: pictures never
pass through Ray, so an actor holds the memory of one piece, and no more pieces than two wait for each actor. The index
is written by the one who asked. A worker or a machine that dies leaves files that nothing counts, and its pieces are
done again by others.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from os import environ
from types import ModuleType

from delit_models.errors import DelitError
from training.ray_cluster import ATTEMPTS, connect, cores_a_worker

from .pieces import Do, Outcome, Piece
from .plan import Outcomes

logger = logging.getLogger(__name__)

CORES_A_WORKER = 2
# While one of them reads and writes, the other has the card.
WORKERS_A_GPU = 2
# How often a piece is begun, in how many blocks at most pieces travel (a million of them are no million tasks), and how
# many blocks an actor has at hand. What did not come back is tried again piece by piece, with nothing beside it in the
# actor: one that kills its worker then takes no other with it.
ROUNDS = ((2, 10_000, 2), (ATTEMPTS - 2, 1_000_000, 1))


def ray_outcomes(
    load: Callable[[], Do], address: str, workers: int, gpus: bool, pieces: list[Piece]
) -> Outcomes:
    """Pieces with what came of them, as they are done.

    Args:
        load: loads what does pieces, in a worker.
        address: of the cluster ("auto", "host:6379", "ray://…"), or "local" for one on this machine alone.
        workers: actors at once; 0 is as many as the cluster has room for.
        gpus: whether each takes a share of a graphics card.

    Raises:
        DelitError: where Ray is missing or not reached, or the weights cannot be loaded.
    """
    ray = connect(address)
    try:
        left = dict(enumerate(pieces))
        for attempts, most_blocks, in_flight in ROUNDS:
            blocks = min(len(left), most_blocks)
            for number, outcome in _round(ray, load, workers, gpus, left, blocks, attempts, in_flight):
                # Ray may do a piece again whose answer was lost with a machine.
                if number in left:
                    yield left.pop(number), outcome
            if not left:
                return
            logger.warning("%d of the pieces did not come back from their workers.", len(left))
        for piece in left.values():
            yield (
                piece,
                Outcome(
                    f"It killed the worker {ATTEMPTS} times, most often for want of memory. Give workers more of it, "
                    "or a smaller --working_size."
                ),
            )
    finally:
        ray.shutdown()


def _round(
    ray: ModuleType,
    load: Callable[[], Do],
    workers: int,
    gpus: bool,
    pieces: dict[int, Piece],
    blocks: int,
    attempts: int,
    in_flight: int,
) -> Iterator[tuple[int, Outcome]]:
    """One run of Ray Data over pieces; those of workers that died too often do not come back."""
    data = _ray_data()
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1
    room = ray.cluster_resources()
    cores = cores_a_worker(ray, CORES_A_WORKER)
    if workers:
        cores = max(1, min(cores, int(room.get("CPU", 1)) // workers))
    most = int(room.get("GPU", 0) * WORKERS_A_GPU) if gpus else int(room.get("CPU", 1) / cores)
    if most < 1:
        wanted = "graphics card: give --device cpu, or add one to it" if gpus else "processor core to work on"
        raise DelitError(f"The cluster offers no {wanted}.")
    most = max(1, min(workers or most, most, blocks))
    rows = data.from_items(
        [{"number": number, "piece": piece} for number, piece in pieces.items()], override_num_blocks=blocks
    )
    with warnings.catch_warnings():
        # Ray 2.64 will take the limit of attempts no more, and pyproject.toml stays below it: without one, a piece that
        # kills its workers would be begun for ever.
        warnings.filterwarnings("ignore", message=".*ray_remote_args")
        done = rows.map(
            Worker,
            fn_constructor_args=(load, cores),
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=most, max_tasks_in_flight_per_actor=in_flight
            ),
            num_cpus=cores,
            num_gpus=1 / WORKERS_A_GPU if gpus else None,
            max_restarts=-1,
            max_task_retries=attempts - 1,
        )
    for row in done.iter_rows():
        if row["refused"]:
            raise DelitError(row["refused"])
        yield row["number"], Outcome(row["reason"] or None)


class Worker:
    """An actor: holds the model and does the pieces that come, one by one."""

    def __init__(self, load: Callable[[], Do], cores: int) -> None:
        import torch

        torch.set_num_threads(cores)
        # No bars where nobody sees them.
        environ["TQDM_DISABLE"] = "1"
        self.refused = ""
        try:
            self.do = load()
        except DelitError as error:
            # An actor that raises here would be begun again and again.
            self.refused = str(error)

    def __call__(self, row: dict) -> dict:
        outcome = Outcome() if self.refused else self.do(row["piece"])
        return {
            "number": row["number"],
            "refused": self.refused,
            "reason": outcome.reason or "",
        }


def _ray_data() -> ModuleType:
    try:
        import ray.data as data
    except ImportError as error:
        raise DelitError(
            "--ray needs Ray Data, which is not installed: pip install 'ray[data]<2.64'"
        ) from error
    # What it says of workers that died is said here, in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return data
