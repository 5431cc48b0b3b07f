"""The yields of all processes, from log-normals and factors.

Asymmetric log-normals are those of Combine (`ProcessNormalization`, `AsymPow`): the log of kappa goes from -log(down)
to log(up) by a polynomial of fifth degree within half a standard deviation.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._likelihoods.sparse_effects import SparseEffects
from ..._util.table import Table
from ..histfactory.block import product

SYMMETRIC = 1e-5  # the product of kappas down and up differs from 1 by less: a symmetric one


def smooth_step(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """From -1 at t = -1 to 1 at t = 1, without slope and curvature there and beyond."""
    t = jnp.clip(t, -1.0, 1.0)
    return 0.125 * t * (t**2 * (3 * t**2 - 10) + 15)


def log_kappa(theta: Float[Array, "*n"], low: Float[Array, "*n"], high: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The log of the factor over theta, from the logs of the factors at -1 and 1."""
    return 0.5 * (high - low) + 0.5 * (high + low) * smooth_step(2 * theta)


class LogNormal(NamedTuple):
    """One effect: the position of its parameter, the process that it moves, and the factors at -1 and 1."""

    at: int
    process: int
    down: float
    up: float


class Normalisation(eqx.Module):
    """The yields of `p` processes.

    - `rates`: those without any effect.
    - `symmetric`: the logs of symmetric log-normals, from the parameters to the processes.
    - `low`, `high`: the logs of the factors of asymmetric ones; `at`, `of`: their parameters and processes.
    - `factors`: the positions of what multiplies each process; where it has fewer, of a 1.
    """

    rates: Float[Array, " p"]
    symmetric: SparseEffects | None
    low: Float[Array, " m"]
    high: Float[Array, " m"]
    at: Table = eqx.field(static=True)
    of: Table = eqx.field(static=True)
    factors: Table = eqx.field(static=True)

    def __call__(self, numbers: Float[Array, " k"], extended: Float[Array, " e"]) -> Float[Array, " p"]:
        """`numbers`: the parameters that are numbers; `extended`: these and what is derived from them, and a 1."""
        total = jnp.zeros(self.rates.shape, numbers.dtype)
        if self.symmetric is not None:
            total = total + self.symmetric(numbers)
        if self.low.size:
            theta = numbers[self.at.array]
            low, high = self.low.astype(numbers.dtype), self.high.astype(numbers.dtype)
            logs = theta * log_kappa(theta, low, high)
            total = total + jax.ops.segment_sum(logs, self.of.array, total.size, indices_are_sorted=True)
        yields = self.rates.astype(numbers.dtype) * jnp.exp(total)
        return yields * product(extended[self.factors.array])


def normalisation(rates: np.ndarray, effects: list[LogNormal], factors: list[list[int]], size: int) -> Normalisation:
    """`factors`: the positions of those of each process; `size`: the number of parameters that are numbers. The
    position -1 is that of a 1."""
    symmetric = [e for e in effects if abs(e.down * e.up - 1) < SYMMETRIC]
    others = sorted((e for e in effects if abs(e.down * e.up - 1) >= SYMMETRIC), key=lambda e: e.process)
    most = max(map(len, factors), default=0)
    table = np.full((rates.size, most), -1)
    for row, positions in zip(table, factors, strict=True):
        row[: len(positions)] = positions
    sparse = None
    if symmetric:
        at, of = (np.array([getattr(e, name) for e in symmetric], int) for name in ("at", "process"))
        sparse = SparseEffects(at, of, np.log([e.up for e in symmetric]), size=size, shape=rates.size)
    return Normalisation(
        jnp.asarray(rates),
        sparse,
        jnp.asarray(np.log([e.down for e in others])),
        jnp.asarray(np.log([e.up for e in others])),
        Table(np.array([e.at for e in others], int)),
        Table(np.array([e.process for e in others], int)),
        Table(table),
    )
