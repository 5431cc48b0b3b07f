"""`fit_toys`: thousands of fits of one likelihood to toys, a batch at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
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
from ._solvers import Migrad
from ._solvers.metric import decompose

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
    progress: bool = False,
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
    - `batch_size`: toys in one batch; default 4096.
    - `progress`: if `True`, show a bar (extra `tqdm`).
    - `reduce`: called with the `FitResult` of each batch, in order; what it returns is kept in place of the fits, for a
        million of them that need not be.

    **Returns:** a `FitResult` with a leading axis of `n`; with `reduce` a list of what it returned, one a batch.

    **Raises:** `TypeError`, `ValueError` as `mx.fit` does; for toys without a common leading axis, or a batch size
    below 1.
    """
    source = _source(nll, params, toys, data)
    params, first = prepare(params, source.batch(0, 1))
    if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    size = min(source.n, _BATCH if batch_size is None else int(batch_size))
    up = check_up(up)
    matrix = _expected(nll, params, source, data, up) if covariance is None else check_covariance(covariance, params)
    kind = covariance_kind(nll, jax.tree.map(lambda a: a[0], first), hesse)
    found = []
    for result in _shown(_batches(nll, params, source, size, matrix, up, hesse, kind), source.n, progress):
        found.append(jax.tree.map(np.asarray, result) if reduce is None else reduce(result))
    return found if reduce is not None else jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *found)


class _Source(eqx.Module):
    """Where toys come from."""

    n: int = eqx.field(static=True)
    take: Callable[[int, int], PyTree] = eqx.field(static=True)

    def batch(self, first: int, size: int) -> PyTree:
        """`size` toys from the `first` on; beyond the last one, that one again."""
        return self.take(first, size)


def _source(nll: Any, params: PyTree, toys: PyTree, data: PyTree) -> _Source:
    if isinstance(toys, Toys):
        at, given = prepare(params, data)
        at = resolve(at)

        def draw(first: int, size: int) -> PyTree:
            return _draw(nll, at, toys.key, jnp.minimum(first + jnp.arange(size), toys.n - 1), given)

        return _Source(toys.n, draw)
    _, toys = prepare(params, toys)
    shapes = [jnp.shape(a) for a in jax.tree.leaves(toys)]
    if not shapes or any(len(shape) == 0 or shape[0] != shapes[0][0] or shape[0] == 0 for shape in shapes):
        raise ValueError(
            f"toys must be arrays with one leading axis, that of the toys, or mx.Toys(n, key); got shapes {shapes}"
        )
    n = shapes[0][0]

    def slice_(first: int, size: int) -> PyTree:
        if first + size <= n:
            return jax.tree.map(lambda a: a[first : first + size], toys)
        return jax.tree.map(lambda a: a[np.minimum(np.arange(first, first + size), n - 1)], toys)

    return _Source(n, slice_)


@jit
def _draw(nll: Any, params: PyTree, key: Array, indices: Int[Array, " size"], data: PyTree) -> PyTree:
    return jax.vmap(lambda i: draw_one(nll, params, jax.random.fold_in(key, i), data))(indices)


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


def _batches(
    nll: Any, params: PyTree, source: _Source, size: int, matrix: Array, up: Array, hesse: bool, kind: str | None
) -> Iterator[FitResult]:
    """The results of one batch after the other. While one is looked at, the next is drawn and fitted already."""
    starts = range(0, source.n, size)

    def launch(first: int) -> tuple[PyTree, FitResult, Array]:
        toys = source.batch(first, size)
        return toys, *fit_lanes(nll, params, toys, matrix, up, hesse)

    waiting = launch(0)
    for first in starts:
        (toys, result, good), last = waiting, first + size >= source.n
        if not last:
            waiting = launch(first + size)
        result = _again(nll, params, toys, result, np.asarray(good), up, hesse)
        if kind == "sandwich":
            result = _robust(nll, toys, result)
        n = min(size, source.n - first)
        yield result if n == size else jax.tree.map(lambda a, n=n: a[:n], result)


def _again(
    nll: Any, params: PyTree, toys: PyTree, result: FitResult, good: Bool[np.ndarray, " lanes"], up: Array, hesse: bool
) -> FitResult:
    """Fits those that are not good by the full fit."""
    left = np.flatnonzero(~good)
    for i in range(0, left.size, _REFITTED):
        some = left[i : i + _REFITTED]
        padded = np.pad(some, (0, min(_REFITTED, good.size) - some.size), mode="edge")
        lanes = jnp.asarray(padded)
        result = _refit(nll, params, toys, result, lanes, jnp.asarray(some.size), up, hesse)
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
