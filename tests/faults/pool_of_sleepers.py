"""A pool as the generator has it, whose processes tell who they are and then wait: to be killed in a test.

python -m tests.faults.pool_of_sleepers
"""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from training.loop.stopping import end_with_the_main_process


def tell_and_wait(seconds: float) -> None:
    """Print the process's number, and be at work for a while."""
    print(os.getpid(), flush=True)
    time.sleep(seconds)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=end_with_the_main_process) as pool:
        list(pool.map(tell_and_wait, [600.0, 600.0]))
