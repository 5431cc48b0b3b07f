"""The programs that fit one batch of toys: in lockstep, then fully where a lane did not converge."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from .._fit.fit import fit, robust
from .._fit.result import FitResult
from .._profile.minos import minos as find_minos
from .._solvers import Migrad
from .._util.jit import jit
from .._util.typing import PyTree
from .lockstep import fit_lanes, in_parts
from .plan import Job
from .sharding import gathered, shard_lanes

_REFITTED = 64  # toys of a call of the full fit


Rows = tuple[PyTree, Float[Array, "toys n"] | None, Bool[Array, " toys"]]  # toys, their starts, which are wanted


@jit
def fit_part(
    shared: PyTree, rows: Rows, options: tuple[Any, ...], lanes: int
) -> tuple[FitResult, Bool[Array, " toys"]]:
    nll, params, covariance, up = shared
    toys, starts, wanted = rows
    hesse, kind, minos = options
    result, good = fit_lanes(nll, params, toys, starts, wanted, covariance, up, hesse, lanes)
    if kind != "sandwich" and minos is None:
        return result, good
    complete = lambda result, toy: _completed(nll, toy, result, kind, minos)  # noqa: E731
    return in_parts(jax.vmap(complete), (result, toys), jnp.sum(wanted), wanted.shape[0], lanes), good


@jit
def fit_sharded(
    shared: PyTree, rows: Rows, options: tuple[Any, ...], lanes: int, mesh: Mesh
) -> tuple[FitResult, Bool[Array, " toys"]]:
    return shard_lanes(mesh, lambda shared, rows: fit_part(shared, rows, options, lanes))(shared, rows)


def _completed(nll: Any, toy: PyTree, result: FitResult, kind: str | None, minos: tuple[int, ...] | None) -> FitResult:
    """The result of one toy with the sandwich in place of the inverse Hessian, and with MINOS errors."""
    if minos is not None:
        errors = find_minos(nll, result, toy, [result.names[i] for i in minos])
        nan = jnp.full_like(result.values, jnp.nan)
        sides = [nan.at[jnp.asarray(minos)].set(side) for side in (errors.lower, errors.upper)]
        result = eqx.tree_at(lambda r: r.minos, result, (sides[0], sides[1]), is_leaf=lambda x: x is None)
    return robust(nll, result, toy) if kind == "sandwich" else result


def refit_failed(job: Job, toys: PyTree, result: FitResult, good: Bool[np.ndarray, " toys"]) -> FitResult:
    """Fits those that are not good by the full fit."""
    left = np.flatnonzero(~good)
    if left.size == 0:
        return result
    result = jax.tree.map(np.array, result)
    for i in range(0, left.size, _REFITTED):
        some = left[i : i + _REFITTED]
        lanes = jnp.asarray(np.pad(some, (0, _REFITTED - some.size), mode="edge"))
        full = _refit(job.nll, job.params, toys, lanes, jnp.asarray(some.size), job.up, job.options)
        full = gathered(job.mesh, full)

        def put(a: np.ndarray, new: Array, some: Int[np.ndarray, " some"] = some) -> None:
            a[some] = np.asarray(new)[: some.size]

        jax.tree.map(put, result, full)
    return result


@jit
def _refit(
    nll: Any, params: PyTree, toys: PyTree, lanes: Array, count: Array, up: Array, options: tuple[Any, ...]
) -> FitResult:
    """One after the other, as each takes its own time."""
    hesse, kind, minos = options

    def one(k: Array) -> FitResult:
        toy = jax.tree.map(lambda a: a[lanes[k]], toys)
        result = fit(nll, params, toy, solver=Migrad(), up=up, hesse="sandwich" if kind == "sandwich" else hesse)
        return _completed(nll, toy, result, None, minos)

    out = jax.tree.map(lambda a: jnp.zeros((_REFITTED, *a.shape), a.dtype), eqx.filter_eval_shape(one, 0))
    put = lambda k, out: jax.tree.map(lambda a, new: a.at[k].set(new), out, one(k))  # noqa: E731
    return lax.fori_loop(0, count, put, out)
