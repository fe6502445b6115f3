"""Outages of processes: the copy's server is killed as a machine that loses its power would end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drills.clusters import Cluster
from drills.errors import ClusterError


@dataclass(frozen=True)
class ServerKilled:
    """SIGKILL to the postmaster and every process below it; healed by starting it again, which replays its WAL."""

    cluster: Cluster
    settings: Mapping[str, str]
    limit: float
    """Seconds that the recovery may take."""

    def inject(self) -> None:
        """Kill it.

        Raises:
            ClusterError: there was nothing to kill.
        """
        if not self.cluster.running:
            raise ClusterError("the server to be killed is not running")
        self.cluster.kill()

    def heal(self) -> None:
        """Start it again.

        Raises:
            ClusterError: it does not come back.
        """
        if not self.cluster.running:
            self.cluster.start(self.settings, deadline=self.limit)
