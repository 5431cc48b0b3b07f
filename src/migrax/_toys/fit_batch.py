"""Programs that fit one batch of toys: first in lockstep, then by the full fit where a lane did not converge."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from .._fit.fit import fit, robust
from .._fit.on_host import FitInputs, fit_on_host
from .._fit.result import FitResult
from .._fit.traced import as_numpy
from .._profile.crossing import Side
from .._profile.minos import Minos, minos as find_minos, quick_minos
from .._solvers import Migrad
from .._util.jit import jit, jit_long
from .._util.typing import PyTree
from .lockstep import fit_lanes, in_parts
from .plan import Job
from .sharding import gathered, shard_lanes

_REFIT_SIZE = 64  # toys per call of the full fit
_FEW = 32


Rows = tuple[PyTree, Float[Array, "toys n"] | None, Bool[Array, " toys"]]  # toys, their starts, which of them to fit


@jit_long
def fit_part(
    shared: PyTree, rows: Rows, options: tuple[Any, ...], lanes: int
) -> tuple[FitResult, Bool[Array, " toys"]]:
    nll, params, covariance, up = shared
    toys, starts, wanted = rows
    hesse, kind, minos = options
    result, trusted = fit_lanes(nll, params, toys, starts, wanted, covariance, up, hesse, lanes)
    if kind != "sandwich" and minos is None:
        return result, trusted
    complete_one = lambda result, toy: _completed(nll, toy, result, kind, minos, quick_minos)  # noqa: E731
    result, found = in_parts(jax.vmap(complete_one), (result, toys), jnp.sum(wanted), wanted.shape[0], lanes)
    return result, trusted & found


@jit_long
def fit_sharded(
    shared: PyTree, rows: Rows, options: tuple[Any, ...], lanes: int, mesh: Mesh
) -> tuple[FitResult, Bool[Array, " toys"]]:
    return shard_lanes(mesh, lambda shared, rows: fit_part(shared, rows, options, lanes))(shared, rows)


def _completed(
    nll: Any,
    toy: PyTree,
    result: FitResult,
    kind: str | None,
    minos: tuple[int, ...] | None,
    find_minos: Callable[..., Minos],
) -> tuple[FitResult, Bool[Array, ""]]:
    """Adds MINOS errors to the result of one toy and replaces the inverse Hessian by the robust covariance. Also
    returns whether no search of MINOS failed."""
    found = jnp.array(True)
    if minos is not None:
        errors = find_minos(nll, result, toy, [result.names[i] for i in minos])
        result = errors.result
        found = ~jnp.any((errors.lower_status == int(Side.FAILED)) | (errors.upper_status == int(Side.FAILED)))
    return robust(nll, result, toy) if kind == "sandwich" else result, found


def refit_failed(
    job: Job, toys: PyTree, result: FitResult, trusted: Bool[np.ndarray, " toys"], alone: bool
) -> FitResult:
    """Replaces results that are not trusted by full fits. A few of them in a batch that is `alone` are fits on the host
    until their program is there, which equal its fits to rounding; of many batches, each toy has the same numbers to
    the last bit, whatever ran before."""
    failed = np.flatnonzero(~trusted)
    if failed.size == 0:
        return result
    result = jax.tree.map(np.array, result)

    def insert(refits: FitResult, rows: Int[np.ndarray, " some"]) -> None:
        jax.tree.map(lambda old, new: old.__setitem__(rows, np.asarray(new)[: rows.size]), result, refits)

    if alone and failed.size <= _FEW and (refits := _on_host(job, toys, failed)) is not None:
        insert(refits, failed)
        return result
    for i in range(0, failed.size, _REFIT_SIZE):
        rows = failed[i : i + _REFIT_SIZE]
        insert(gathered(job.mesh, _by_program(job, toys, rows)), rows)
    return result


def _by_program(job: Job, toys: PyTree, rows: Int[np.ndarray, " some"]) -> FitResult:
    indices = jnp.asarray(np.pad(rows, (0, _REFIT_SIZE - rows.size), mode="edge"))
    return _refit(job.nll, job.params, toys, indices, jnp.asarray(rows.size), job.up, job.options)


def _on_host(job: Job, toys: PyTree, rows: Int[np.ndarray, " some"]) -> FitResult | None:
    """The full fits of these toys, one by one; `None` where they have to be the program."""
    if job.mesh is not None or job.minos is not None or job.kind == "sandwich":
        return None
    at_hand = as_numpy(toys)
    what = "toys", jax.tree.leaves(at_hand)[0].shape[0]
    refits = []
    for i in rows:
        toy = jax.tree.map(lambda a, i=i: a[i], at_hand)
        inputs = FitInputs(job.nll, job.params, toy, Migrad(), job.up, job.hesse, None, None, optx.ImplicitAdjoint())
        refit = fit_on_host(inputs, lambda *_: _by_program(job, toys, rows[:1]), rows.size, what)
        if refit is None:
            return None
        refits.append(refit)
    return jax.tree.map(lambda *a: np.stack(a), *refits)


@jit
def _refit(
    nll: Any, params: PyTree, toys: PyTree, indices: Array, count: Array, up: Array, options: tuple[Any, ...]
) -> FitResult:
    """Fits one toy after another, because the number of steps differs from toy to toy."""
    hesse, kind, minos = options

    def fit_one(k: Array) -> FitResult:
        toy = jax.tree.map(lambda a: a[indices[k]], toys)
        result = fit(nll, params, toy, solver=Migrad(), up=up, hesse="sandwich" if kind == "sandwich" else hesse)
        return _completed(nll, toy, result, None, minos, find_minos)[0]

    results = jax.tree.map(lambda a: jnp.zeros((_REFIT_SIZE, *a.shape), a.dtype), eqx.filter_eval_shape(fit_one, 0))
    fit_into = lambda k, results: jax.tree.map(lambda a, new: a.at[k].set(new), results, fit_one(k))  # noqa: E731
    return lax.fori_loop(0, count, fit_into, results)
