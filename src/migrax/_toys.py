"""`fit_toys`: thousands of fits of one likelihood to toys, a batch at a time."""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Scalar

from ._derivatives import expand
from ._fit import check_covariance, covariance_kind, fit
from ._jit import jit
from ._lockstep import fit_lanes
from ._objective import check_up, objective, prepare
from ._parameter import resolve
from ._result import Covariance, FitResult
from ._sample import asimov, draw_one
from ._sandwich import sandwich
from ._sharding import agreed, as_mesh, everywhere, gathered, over_lanes, shard_lanes
from ._solvers import Migrad
from ._solvers.metric import decompose
from ._store import Store, digest

_BATCH = 4096  # lanes
_LOOKED_AT = 32  # toys, for the covariance where there are no Asimov data
_REFITTED = 64  # lanes of a call of the full fit


class Toys(eqx.Module):
    """`n` toys of a key of `jax.random`: drawn where they are fitted, never all in memory.

    The i-th toy is drawn with `jax.random.fold_in(key, i)`, as `mx.sample(nll, params, key, n)` does: it is the same
    whatever `n`, the size of batches or the number of devices.
    """

    n: int = eqx.field(static=True)
    key: Array

    def __check_init__(self):
        if isinstance(self.n, bool) or int(self.n) != self.n or self.n < 1:
            raise ValueError(f"the number of toys must be a whole number of at least 1, got {self.n!r}")
        if not isinstance(self.key, jax.Array):
            raise TypeError(f"toys need a key, as in mx.Toys(1000, jax.random.key(0)); got {type(self.key).__name__}")


def fit_toys(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    toys: PyTree,
    *,
    data: PyTree = None,
    covariance: Covariance | ArrayLike | None = None,
    up: ArrayLike = 0.5,
    hesse: bool = True,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    store: str | os.PathLike | None = None,
    reduce: Callable[[FitResult], Any] | None = None,
) -> Any:
    """Fits `nll` to many toys: the numbers of `jax.vmap(lambda toy: mx.fit(nll, params, toy))(toys)`, sooner.

    ```python
    fits = mx.fit_toys(nll, result.params, mx.Toys(10_000, jax.random.key(0)), covariance=result.covariance)
    pulls = (fits.values - result.values) / fits.errors
    pulls[fits.valid].std(axis=0)
    ```

    All toys start from `params` with the covariance as their metric and run in lockstep, without a Hessian on the way.
    Those that do not come to a minimum so are fitted again by `mx.fit`. Each has its `status`: one that fails changes
    no other. It is not differentiable, and not for the inside of `jax.jit`: there, `jax.vmap` of `mx.fit` is.

    **Arguments:**

    - `nll`: as for `mx.fit`.
    - `params`: where the toys come from, and the start of each fit: a tree of `mx.Parameter`s or of floats.
    - `toys`: data of `n` toys, each array with a leading axis of `n`; or `mx.Toys(n, key)`, drawn at `params` batch by
        batch.
    - `data`: with `mx.Toys`, the data from which is taken what is not drawn (see `mx.sample`).
    - `covariance`: the expected covariance of the parameters, such as that of the fit that `params` are from. Default:
        that of the Asimov data or, where the likelihood has none, of the first toys.
    - `up`: as for `mx.fit`.
    - `hesse`: if `False`, no second derivatives are computed: the errors are NaN, `covariance` is `None`, and `valid`
        means that MIGRAD's own estimate of the distance to the minimum says so.
    - `batch_size`: toys in one batch; default 4096 for each device.
    - `mesh`: a `jax.sharding.Mesh`, over all of whose devices each batch is spread; every device works on its own until
        its toys are done. With several processes (`jax.distributed.initialize`) each calls this in the same way, with
        the same toys, and gets all of the fits; a `store` must be one that all of them see.
    - `progress`: if `True`, show a bar (extra `tqdm`).
    - `store`: a folder in which finished batches are kept. The same call goes on after an interruption where it was,
        and returns the same numbers to the last bit; on more, it returns what is stored.
    - `reduce`: called with the `FitResult` of each batch, in order; what it returns is kept in place of the fits, for a
        million of them that need not be.

    **Returns:** a `FitResult` with a leading axis of `n`; with `reduce` a list of what it returned, one a batch.

    **Raises:** `TypeError`, `ValueError` as `mx.fit` does; for toys without a common leading axis, or a batch size
    below 1; for a store of another problem, of other versions, or damaged. `OSError` for one that cannot be written,
    whose batches are kept.
    """
    mesh = as_mesh(mesh)
    source = _source(nll, params, toys, data)
    params, first = prepare(params, source.batch(0, 1))
    if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    up = check_up(up)
    matrix = _expected(nll, params, source, data, up) if covariance is None else check_covariance(covariance, params)
    kind = covariance_kind(nll, jax.tree.map(lambda a: a[0], first), hesse)
    job = _Job(nll, params, source, matrix, up, bool(hesse), kind, mesh)
    devices = 1 if mesh is None else mesh.size
    size = min(source.n, _BATCH * devices if batch_size is None else int(batch_size))
    kept = None
    if store is not None:
        kept = Store(
            store, _problem(job, first), source.n, batch_size, _BATCH * devices, writes=jax.process_index() == 0
        )
        size = kept.batch_size
    found = []
    for result in _shown(_batches(job, size, kept), source.n, progress):
        found.append(result if reduce is None else reduce(result))
    return found if reduce is not None else jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *found)


class _Source(NamedTuple):
    """Where toys come from."""

    n: int
    take: Callable[[Int[np.ndarray, " size"], Mesh | None], PyTree]  # the toys of these numbers
    made_of: Any  # arrays and numbers that tell these toys from others

    def batch(self, first: int, size: int, mesh: Mesh | None = None) -> PyTree:
        """`size` toys from the `first` on, spread over the devices; beyond the last one, that one again."""
        return self.take(np.minimum(np.arange(first, first + size), self.n - 1), mesh)


def _source(nll: Any, params: PyTree, toys: PyTree, data: PyTree) -> _Source:
    if isinstance(toys, Toys):
        at, given = prepare(params, data)
        at = resolve(at)

        def draw(numbers: Int[np.ndarray, " size"], mesh: Mesh | None) -> PyTree:
            likelihood, where, key, constant = everywhere(mesh, (nll, at, toys.key, given))
            return _draw(likelihood, where, key, constant, over_lanes(mesh, jnp.asarray(numbers)))

        return _Source(toys.n, draw, (toys.n, toys.key, given))
    _, toys = prepare(params, toys)
    shapes = [jnp.shape(a) for a in jax.tree.leaves(toys)]
    if not shapes or any(len(shape) == 0 or shape[0] != shapes[0][0] or shape[0] == 0 for shape in shapes):
        raise ValueError(
            f"toys must be arrays with one leading axis, that of the toys, or mx.Toys(n, key); got shapes {shapes}"
        )
    n = shapes[0][0]

    def pick(numbers: Int[np.ndarray, " size"], mesh: Mesh | None) -> PyTree:
        return over_lanes(mesh, jax.tree.map(lambda a: a[numbers], toys))

    return _Source(n, pick, toys)


@jit
def _draw(nll: Any, params: PyTree, key: Array, data: PyTree, numbers: Int[Array, " size"]) -> PyTree:
    return jax.vmap(lambda i: draw_one(nll, params, jax.random.fold_in(key, i), data))(numbers)


def _expected(nll: Any, params: PyTree, source: _Source, data: PyTree, up: Array) -> Float[Array, "n n"]:
    """The covariance that a fit is expected to have, forced positive definite."""
    if getattr(nll, "expected_data", None) is not None:
        try:
            likely = jax.tree.map(lambda a: jnp.asarray(a)[None], asimov(nll, params, data=data))
        except TypeError:  # a part of it knows none
            likely = source.batch(0, min(_LOOKED_AT, source.n))
    else:
        likely = source.batch(0, min(_LOOKED_AT, source.n))
    return _inverse_of_mean(nll, params, likely, up)


@jit
def _inverse_of_mean(nll: Any, params: PyTree, toys: PyTree, up: Scalar) -> Float[Array, "n n"]:
    def hessian(toy: PyTree) -> tuple[Array, Array]:
        fn, theta, x, _ = objective(nll, params, toy, up)
        at = expand(fn, x, theta)
        return at.hessian, at.gradient

    hessians, gradients = jax.vmap(hessian)(toys)
    good = jnp.all(jnp.isfinite(hessians), axis=(1, 2)) & jnp.all(jnp.isfinite(gradients), axis=1)
    mean = jnp.sum(jnp.where(good[:, None, None], hessians, 0.0), axis=0) / jnp.maximum(jnp.sum(good), 1)
    return decompose(mean, jnp.ones(mean.shape[0], mean.dtype)).inverse()


class _Job(NamedTuple):
    """What is fitted, and how."""

    nll: Any
    params: PyTree
    source: _Source
    covariance: Float[Array, "n n"]
    up: Array
    hesse: bool
    kind: str | None
    mesh: Mesh | None


def _fit_batch(job: _Job, toys: PyTree) -> tuple[FitResult, Bool[Array, " lanes"]]:
    shared = (job.nll, job.params, job.covariance, job.up)
    if job.mesh is None:
        return _fit_part(shared, toys, job.hesse, job.kind)
    return gathered(job.mesh, _fit_sharded(everywhere(job.mesh, shared), toys, job.hesse, job.kind, job.mesh))


def _fit_part(shared: PyTree, toys: PyTree, hesse: bool, kind: str | None) -> tuple[FitResult, Bool[Array, " lanes"]]:
    nll, params, covariance, up = shared
    result, good = fit_lanes(nll, params, toys, covariance, up, hesse)
    return (_robust(nll, toys, result) if kind == "sandwich" else result), good


@jit
def _fit_sharded(
    shared: PyTree, toys: PyTree, hesse: bool, kind: str | None, mesh: Mesh
) -> tuple[FitResult, Bool[Array, " lanes"]]:
    return shard_lanes(mesh, lambda shared, toys: _fit_part(shared, toys, hesse, kind))(shared, toys)


def _batches(job: _Job, size: int, store: Store | None) -> Iterator[FitResult]:
    """The results of one batch after the other, as arrays of NumPy. While one is looked at, the next is drawn and
    fitted already."""
    firsts = range(0, job.source.n, size)
    devices = 1 if job.mesh is None else job.mesh.size
    lanes = -(-size // devices) * devices  # each device has as many
    like = None if store is None else _like(job, size)
    stored = np.array([store is not None and store.has(i) for i in range(len(firsts))])
    stored = agreed(job.mesh, stored)  # what one process has just written another may see or not

    def launch(i: int) -> tuple[PyTree, FitResult, Array] | None:
        if i == len(firsts) or stored[i]:
            return None
        toys = job.source.batch(firsts[i], lanes, job.mesh)
        return toys, *_fit_batch(job, toys)

    waiting = launch(0)
    for i, first in enumerate(firsts):
        now, waiting = waiting, launch(i + 1)
        if now is None:
            assert store is not None
            result = store.read(i, like)
        else:
            toys, result, good = now
            result = _again(job, toys, result, np.asarray(good))
            result = jax.tree.map(lambda a: np.asarray(a)[:size], result)
            if store is not None:
                store.write(i, result)
        n = min(size, job.source.n - first)
        yield result if n == size else jax.tree.map(lambda a, n=n: a[:n], result)


def _like(job: _Job, size: int) -> FitResult:
    """The shapes of a batch's results."""
    shared = (job.nll, job.params, job.covariance, job.up)
    toys = eqx.filter_eval_shape(lambda: job.source.batch(0, size))
    return eqx.filter_eval_shape(lambda shared, toys: _fit_part(shared, toys, job.hesse, job.kind)[0], shared, toys)


def _problem(job: _Job, first: PyTree) -> str:
    """A fingerprint of what decides the numbers: the likelihood as XLA sees it, and all arrays."""
    toy = jax.tree.map(lambda a: a[0], first)
    fn, theta, x, space = objective(job.nll, job.params, toy, job.up)
    compiled: Any = eqx.filter_jit(lambda x, theta: fn(x, theta))
    text = compiled.lower(x, theta).as_text()
    arrays = [a for a in jax.tree.leaves((job.nll, job.params)) if eqx.is_array(a)]
    bounds = (space.lower, space.upper, space.names)
    return digest(text, x, arrays, bounds, job.covariance, job.up, job.hesse, job.source.made_of)


def _again(job: _Job, toys: PyTree, result: FitResult, good: Bool[np.ndarray, " lanes"]) -> FitResult:
    """Fits those that are not good by the full fit."""
    left = np.flatnonzero(~good)
    for i in range(0, left.size, _REFITTED):
        some = left[i : i + _REFITTED]
        padded = np.pad(some, (0, min(_REFITTED, good.size) - some.size), mode="edge")
        lanes = jnp.asarray(padded)
        result = _refit(job.nll, job.params, toys, result, lanes, jnp.asarray(some.size), job.up, job.hesse)
        result = gathered(job.mesh, result)
    return result


@jit
def _refit(
    nll: Any, params: PyTree, toys: PyTree, result: FitResult, lanes: Array, count: Array, up: Array, hesse: bool
) -> FitResult:
    """One after the other, as each takes its own time."""

    def one(k: Array, result: FitResult) -> FitResult:
        lane = lanes[k]
        full = fit(nll, params, jax.tree.map(lambda a: a[lane], toys), solver=Migrad(), up=up, hesse=hesse)
        return jax.tree.map(lambda a, new: a.at[lane].set(new.astype(a.dtype)), result, full)

    return lax.fori_loop(0, count, one, result)


@jit
def _robust(nll: Any, toys: PyTree, result: FitResult) -> FitResult:
    """With the sandwich in place of the inverse Hessian."""

    def one(toy: PyTree, r: FitResult) -> FitResult:
        assert r.covariance is not None
        covariance = sandwich(nll, r.params, r.values, toy, r.covariance, r.up)
        return eqx.tree_at(lambda r: (r.covariance, r.errors), r, (covariance, covariance.errors))

    return jax.vmap(one)(toys, result)


def _shown(batches: Iterator[FitResult], n: int, progress: bool) -> Iterator[FitResult]:
    if not progress:
        yield from batches
        return
    from tqdm.auto import tqdm

    failed = 0
    with tqdm(total=n, unit="toy", unit_scale=True) as bar:
        for result in batches:
            failed += int(np.sum(~np.asarray(result.valid)))
            bar.set_postfix(failed=failed)
            bar.update(result.valid.shape[0])
            yield result
