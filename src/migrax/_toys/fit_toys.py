"""`fit_toys`: thousands of fits of one likelihood to toys, a batch at a time."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._derivatives.expansion import expand
from .._fit.covariance import Covariance
from .._fit.fit import check_covariance, covariance_kind, fit
from .._fit.objective import check_up, objective, prepare_params
from .._fit.result import FitResult
from .._likelihoods.base import as_likelihood
from .._parameters.names import names
from .._parameters.select import Where, select
from .._parameters.space import ravel
from .._solvers.metric import decompose
from .._util.explicit_sharding import explicit_mesh, where_xla_decides
from .._util.jit import jit
from .._util.progress import bar
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .plan import Job, Plan, plan
from .sample import asimov
from .scheduler import batches
from .sharding import as_mesh, mesh_of, on_one_device
from .source import Source, Toys, source
from .store import Store, digest

T = TypeVar("T")

_LOOKED_AT = 32  # toys, for the covariance where there are no Asimov data
_OF_A_STORE = 4096  # toys of a batch in a store, each device


def fit_toys(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    toys: PyTree,
    *,
    data: PyTree = None,
    starts: PyTree | Literal["asimov"] = None,
    covariance: Covariance | ArrayLike | None = None,
    up: ArrayLike = 0.5,
    hesse: bool = True,
    minos: bool | Where = False,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    store: str | os.PathLike[str] | None = None,
) -> FitResult:
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
    - `params`: where the toys come from, and the start of each fit: a tree of `mx.Parameter`s or of floats. What is
        fixed in it is fixed in each fit.
    - `toys`: data of `n` toys, each array with a leading axis of `n`; or `mx.Toys(n, key)`, drawn batch by batch at
        `params` (or at `mx.Toys(n, key, params=...)`).
    - `data`: with `mx.Toys`, the data from which is taken what is not drawn (see `mx.sample`).
    - `starts`: where each fit starts, if not from `params`: values of shape `(n, n_free)`, the `FitResult` of other
        fits to the same toys, or its `params`. `"asimov"` starts all from the fit to the Asimov data of where the
        toys are drawn: for fits of another hypothesis, such as with a parameter fixed elsewhere. (A toy that needs the
        full fit is fitted from `params`.)
    - `covariance`: the expected covariance of the parameters, such as that of the fit that `params` are from. Default:
        that of the Asimov data or, where the likelihood has none, of the first toys.
    - `up`: as for `mx.fit`.
    - `hesse`: if `False`, no second derivatives are computed: the errors are NaN, `covariance` is `None`, and `valid`
        means that the search's own estimate of the distance to the minimum says so.
    - `minos`: `True`, or names of parameters as for `mx.minos`: the fits' `minos` holds the lower and upper errors,
        each of shape `(n, n_free)`; NaN for a side that was not found and for other parameters.
    - `batch_size`: toys in one batch. Default: what suits the memory and the cores.
    - `mesh`: a `jax.sharding.Mesh`, over all of whose devices each batch is spread; every device works on its own until
        its toys are done. Default: the mesh over which the arrays given are spread, or that of `jax.set_mesh`, if there
        is one. With several processes (`jax.distributed.initialize`) each calls this in the same way, with
        the same toys, and gets all of the fits; a `store` must be one that all of them see.
    - `progress`: if `True`, show toys done, toys per second, failures and the time left (extra `tqdm`), in a terminal
        or a notebook.
    - `store`: a folder in which finished batches are kept. The same call goes on after an interruption where it was,
        and returns the same numbers to the last bit; once all is stored, it returns that. Each file says which toys of
        which study it holds, and is refused elsewhere.

    **Returns:** a `FitResult` with a leading axis of `n`. (`mx.reduce_toys` keeps of each batch what is wanted.)

    **Raises:** `TypeError`, `ValueError` as `mx.fit` does; inside of `jax.jit`; for toys without a common leading axis,
    or a batch size below 1; for a store of another problem, of other versions, or damaged, and for a file in it that
    belongs elsewhere, by its name. `OSError` for one that cannot be written, whose batches are kept.

    **Warns**, once, where a batch does not fit into memory: it goes on with smaller pieces.
    """
    options = Options(hesse, minos, batch_size, mesh, progress, store)
    found = _each_batch(lambda result: result, nll, params, toys, data, starts, covariance, up, options)
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *found)


def reduce_toys(
    reduce: Callable[[FitResult], T],
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    toys: PyTree,
    *,
    data: PyTree = None,
    starts: PyTree | Literal["asimov"] = None,
    covariance: Covariance | ArrayLike | None = None,
    up: ArrayLike = 0.5,
    **options: Any,
) -> list[T]:
    """As `mx.fit_toys`, and keeps of each batch of fits what `reduce` makes of it: for a million of them that need not
    be kept.

    ```python
    mx.reduce_toys(lambda fits: fits.values[fits.valid].mean(axis=0), nll, params, mx.Toys(1_000_000, key))
    ```

    **Arguments:**

    - `reduce`: called with the `FitResult` of each batch, in order.
    - All others: as for `mx.fit_toys`.

    **Returns:** a list of what `reduce` returned, one a batch.

    **Raises**, **Warns** as `mx.fit_toys`.
    """
    return _each_batch(reduce, nll, params, toys, data, starts, covariance, up, Options.of("reduce_toys", options))


class Options(NamedTuple):
    """How toys are run: the keywords of `fit_toys` that say nothing about the problem."""

    hesse: bool = True
    minos: bool | Where = False
    batch_size: int | None = None
    mesh: Mesh | None = None
    progress: bool = False
    store: str | os.PathLike[str] | None = None

    @classmethod
    def of(cls, what: str, options: Mapping[str, Any]) -> "Options":
        """**Raises:** `TypeError` for others, with what they are."""
        for name in options:
            if name not in cls._fields:
                raise TypeError(f"mx.{what} has no argument {name!r}; it takes {', '.join(cls._fields)}")
        return cls(**options)


def _each_batch(
    reduce: Callable[[FitResult], T],
    nll: Any,
    params: PyTree,
    toys: PyTree,
    data: PyTree,
    starts: PyTree,
    covariance: Any,
    up: ArrayLike,
    options: Options,
) -> list[T]:
    """What `reduce` makes of the fits of one batch after the other. Inside, arrays whose shardings are part of their
    types are in the hands of XLA."""
    arrays = [a for a in jax.tree.leaves((nll, params, toys, data, starts, covariance)) if eqx.is_array(a)]
    if not is_concrete(jnp.asarray(0.0), *arrays):
        raise TypeError(
            "fit_toys works in batches and cannot be inside jax.jit, jax.vmap or jax.grad: vmap mx.fit there"
        )
    options = options._replace(mesh=as_mesh(mesh_of(arrays) if options.mesh is None else options.mesh))
    inputs = (as_likelihood(nll), params, toys, data, starts, covariance, up)

    def run(inputs: tuple[Any, ...]) -> list[T]:
        job, how, kept = _planned(*inputs, options=options)
        return [reduce(result) for result in _shown(batches(job, how, kept), job.source.n, options.progress)]

    explicit = explicit_mesh(arrays)
    return run(inputs) if explicit is None else where_xla_decides(run, explicit, inputs)


def _planned(
    nll: Any,
    params: PyTree,
    toys: PyTree,
    data: PyTree,
    starts: PyTree,
    covariance: Any,
    up: ArrayLike,
    *,
    options: Options,
) -> tuple[Job, Plan, Store | None]:
    """What is fitted, in which batches, and where these are kept."""
    at_once, mesh = _whole_number(options.batch_size), options.mesh
    up = check_up(up)
    if isinstance(starts, str):
        params, covariance = _asimov_start(nll, params, toys, data, covariance, up, starts)
        starts = None
    where = source(nll, params, toys, data)
    params = prepare_params(params)
    how = plan(where.n, where.toy_bytes, len(names(params)), mesh)
    how = how.of_size(min(where.n, how.size if at_once is None else at_once))
    # as the batches will be, so that it compiles once
    first = where.batch(0, how.rows(how.size) if mesh is None else 1)
    one = jax.tree.map(lambda a: a[0], first)
    matrix = _expected(nll, params, where, data, up) if covariance is None else check_covariance(covariance, params)
    kind, minos = covariance_kind(nll, one, options.hesse), options.minos
    if kind == "scaled":
        nll.needs_scale(one, "with errors, fit_toys", "; fit_toys(hesse=False) has none")
    sides = None if minos is False else select(params, names(params) if minos is True else minos)
    begin = None if starts is None else _check_starts(starts, params, where.n)
    job = Job(nll, params, where, begin, matrix, up, bool(options.hesse), kind, sides, mesh)
    if options.store is None:
        return job, how, None
    default = _OF_A_STORE * how.devices
    writes = jax.process_index() == 0
    kept = Store(options.store, _problem(job, one), where.n, options.batch_size, default, writes=writes)
    return job, how.of_size(kept.batch_size), kept


def _whole_number(batch_size: Any) -> int | None:
    if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    return None if batch_size is None else int(batch_size)


def _asimov_start(
    nll: Any, params: PyTree, toys: Any, data: PyTree, covariance: Any, up: Array, starts: str
) -> tuple[PyTree, Any]:
    """The fit to the Asimov data of where the toys are drawn: its parameters and covariance."""
    if starts != "asimov" or not isinstance(toys, Toys):
        raise ValueError(f"starts is 'asimov', with mx.Toys(n, key), or values of shape (n, n_free); got {starts!r}")
    origin = params if toys.params is None else toys.params
    expected = fit(nll, params, asimov(nll, origin, data=data), up=up)
    if not bool(expected.valid):
        raise ValueError(
            f"the fit to the Asimov data is not valid, so that no toy can start from it: {expected.message}"
        )
    return expected.params, expected.covariance if covariance is None else covariance


def _check_starts(starts: Any, params: PyTree, n: int) -> Float[np.ndarray, "toys n"]:
    """**Raises:** `ValueError` for values of the wrong shape, not finite or outside the bounds."""
    x, space = ravel(params)
    if isinstance(starts, FitResult):
        starts = starts.values
    if not eqx.is_array(starts) and not isinstance(starts, list):
        starts = eqx.filter_vmap(lambda tree: ravel(tree)[0])(starts)
    values = np.asarray(starts, dtype=x.dtype)
    if values.shape != (n, x.size):
        raise ValueError(f"starts must have shape {(n, x.size)}, for {n} toys and {space.names}; got {values.shape}")
    good = np.isfinite(values) & (values >= np.asarray(space.lower)) & (values <= np.asarray(space.upper))
    if not np.all(good):
        toy, i = np.argwhere(~good)[0]
        raise ValueError(f"the start of {space.names[i]!r} for toy {toy} is {values[toy, i]}: not within its bounds")
    return values


def _expected(nll: Any, params: PyTree, where: Source, data: PyTree, up: Array) -> Float[Array, "n n"]:
    """The covariance that a fit is expected to have, forced positive definite."""
    if nll.expected_data is not None:
        try:
            return _inverse_at_asimov(nll, params, where.origin, data, up)
        except TypeError:  # a part of it knows none
            pass
    return _inverse_of_mean(nll, params, where.batch(0, min(_LOOKED_AT, where.n)), up)


@jit
def _inverse_at_asimov(nll: Any, params: PyTree, origin: PyTree, data: PyTree, up: Scalar) -> Float[Array, "n n"]:
    likely = jax.tree.map(lambda a: jnp.asarray(a)[None], asimov(nll, origin, data=data))
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


def _problem(job: Job, toy: PyTree) -> str:
    """A fingerprint of what decides the numbers: the likelihood and the draws as XLA sees them, and all arrays."""
    # as on one device: where the arrays are, or a mesh that is set, decides nothing
    nll, params, toy, up = on_one_device((job.nll, job.params, toy, job.up))
    fn, theta, x, space = objective(nll, params, toy, up)
    compiled: Any = eqx.filter_jit(lambda x, theta: fn(x, theta))
    text = compiled.lower(x, theta).as_text()
    arrays = [a for a in jax.tree.leaves((job.nll, job.params)) if eqx.is_array(a)]
    bounds = (space.lower, space.upper, space.names)
    return digest(text, x, arrays, bounds, job.starts, job.covariance, job.up, job.options, job.source.made_of())


def _shown(found: Iterator[FitResult], n: int, progress: bool) -> Iterator[FitResult]:
    """With a progress bar beside it."""
    if not progress:
        yield from found
        return
    failed = 0
    with bar(total=n, unit="toy", unit_scale=True) as shown:
        for result in found:
            failed += int(np.sum(~np.asarray(result.valid)))
            shown.set_postfix(failed=failed)
            shown.update(result.valid.shape[0])
            yield result
