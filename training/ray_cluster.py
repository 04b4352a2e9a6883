"""The Ray cluster that a command's work is given to, with --ray."""

from __future__ import annotations

import logging
import os
import re
from os import environ
from pathlib import Path
from socket import create_connection
from types import ModuleType

from delit_models.errors import DelitError

ATTEMPTS = 5
"""How often a piece of work is begun before it is given up: who did it died each time."""

_ROOT = Path(__file__).resolve().parents[1]


def connect(address: str) -> ModuleType:
    """Ray, connected to the cluster at an address ("auto", "host:6379", "ray://…"), or "local" for one on this machine.

    All machines need this checkout under the same path. Raises DelitError where Ray is missing or not reached.
    """
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise DelitError("--ray needs Ray, which is not installed: pip install ray") from error
    _check_reachable(address)
    path = os.pathsep.join(part for part in (str(_ROOT), environ.get("PYTHONPATH")) if part)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error) from error
    return ray


def cores_a_worker(ray: ModuleType, wanted: int) -> int:
    """How many cores, or fewer where the cluster has machines that offer no more."""
    offered = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return max(1, min([wanted, *(int(cores) for cores in offered if cores >= 1)]))


def _check_reachable(address: str) -> None:
    """Raises DelitError where nobody listens at host:port; Ray itself would try for minutes."""
    match = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if match:
        try:
            create_connection((match[1], int(match[2])), timeout=10).close()
        except OSError as error:
            raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> DelitError:
    return DelitError(
        f"No Ray cluster was reached at {address!r} ({' '.join(str(error).split())[:200]}). Start one with "
        "`ray start --head` and give its address, or give --ray local."
    )
