"""The number of toys that are fitted together, by threads, devices and lanes."""

import os
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from .._util.typing import PyTree
from .memory import batch_for, lanes_for, power_of_two_above
from .source import Source


class Job(NamedTuple):
    """The problem and the options that all batches share."""

    nll: Any
    params: PyTree
    source: Source
    starts: Float[np.ndarray, "toys n"] | None
    covariance: Float[Array, "n n"]
    up: Array
    hesse: bool
    kind: str | None  # of the covariance, as `covariance_kind` returns it
    minos: tuple[int, ...] | None  # positions of the parameters with MINOS errors
    mesh: Mesh | None

    @property
    def shared(self) -> tuple[Any, ...]:
        return (self.nll, self.params, self.covariance, self.up)

    @property
    def options(self) -> tuple[Any, ...]:
        return (self.hesse, self.kind, self.minos)

    @property
    def device(self) -> Any:
        return jax.local_devices()[0] if self.mesh is None else self.mesh.local_devices[0]


class Plan(NamedTuple):
    """The numbers that divide the toys into batches."""

    workers: int  # threads, each with a batch of its own
    devices: int
    lanes: int  # toys that a device fits together
    size: int  # toys per batch
    shard: tuple[int, int] | None = None  # (i, n): the i-th of n parts of the batches
    reproducible: bool = False  # whether the last bits of a toy may not depend on what ran before

    def of_size(self, size: int) -> "Plan":
        """Returns the plan with batches of this size."""
        lanes = min(self.lanes, max(8, power_of_two_above(-(-size // self.devices))))
        return self._replace(lanes=lanes, size=size)

    def rows(self, size: int) -> int:
        """Returns the length of arrays for `size` toys: whole sets of lanes, the same number on each device."""
        unit = self.lanes * self.devices
        return -(-size // unit) * unit


def plan(n: int, toy_bytes: int, n_free: int, mesh: Mesh | None) -> Plan:
    """Chooses the plan for `n` toys by the memory and the cores of the machine."""
    device = jax.local_devices()[0] if mesh is None else mesh.local_devices[0]
    devices, workers = 1 if mesh is None else mesh.size, _workers(device, mesh)
    lanes = lanes_for(device, toy_bytes, n_free)
    bytes_per_toy = toy_bytes + 8 * (n_free**2 + 10 * n_free + 20)
    size = devices * batch_for(device, bytes_per_toy, -(-n // devices), max(workers, 1), lanes)
    return Plan(workers, devices, lanes, size)


def _workers(device: Any, mesh: Mesh | None) -> int:
    """Returns the number of threads: 0 for several devices, whose programs must start in the same order everywhere."""
    if mesh is not None:
        return 0
    if device.platform != "cpu":
        return 2  # one thread copies results while the other computes
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 32)
