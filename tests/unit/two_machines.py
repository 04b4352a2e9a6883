"""A Ray cluster of two machines on this one, of which one can be taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class TwoMachines:
    """A running cluster (ray.cluster_utils.Cluster) and the machine that is to go."""

    cluster: Any
    doomed: Any

    @property
    def address(self) -> str:
        return self.cluster.address

    def lose_one(self) -> None:
        """As by a power cut: with all that its workers had in hand."""
        self.cluster.remove_node(self.doomed, allow_graceful=False)


@contextmanager
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoMachines]:
    """Two machines of one core each; skips the test where they do not come up."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster()
    try:
        try:
            cluster.add_node(**small, include_dashboard=False)
            doomed = cluster.add_node(**small)
            cluster.wait_for_nodes()
        except Exception as error:
            # Ray gives its processes a fixed time to come up, which a starved machine can exceed.
            pytest.skip(f"Ray could not start two nodes on this machine: {error}")
        yield TwoMachines(cluster, doomed)
    finally:
        cluster.shutdown()
