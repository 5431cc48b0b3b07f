"""`fit_toys`: thousands of fits of one likelihood to toys, in batches."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float

from .._fit.covariance import Covariance
from .._fit.fit import check_covariance, covariance_kind, fit
from .._fit.objective import check_up, objective, prepare_params
from .._fit.result import FitResult
from .._likelihoods.base import as_likelihood
from .._parameters.names import names
from .._parameters.select import Where, select
from .._parameters.space import ravel
from .._stores.batch_file import digest
from .._stores.shard import STORE_BATCH, batches_of, check_batch_size, check_shard
from .._stores.store import FITS, About, Store, size_of_batches
from .._util.explicit_sharding import explicit_mesh, where_xla_decides
from .._util.progress import bar
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .executor import Remote
from .expected_covariance import expected_covariance
from .plan import Job, Plan, plan
from .sample import asimov
from .scheduler import batches, chosen_batches
from .sharding import as_mesh, mesh_of, on_one_device
from .source import Toys, source
from .workers import check_executor

T = TypeVar("T")


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
    shard: tuple[int, int] | None = None,
    executor: Executor | None = None,
) -> FitResult:
    """Fits `nll` to many toys, as `jax.vmap(lambda toy: mx.fit(nll, params, toy))(toys)` does, but faster.

    ```python
    fits = mx.fit_toys(nll, result.params, mx.Toys(10_000, jax.random.key(0)), covariance=result.covariance)
    pulls = (fits.values - result.values) / fits.errors
    pulls[fits.valid].std(axis=0)
    ```

    All fits start from `params`, use `covariance` as their metric and run in lockstep, without intermediate Hessians.
    Toys that do not converge this way are refitted by `mx.fit`. Each toy has its own `status`, and a failed one does
    not affect the others. It is not differentiable and not available inside `jax.jit`: use `jax.vmap` of `mx.fit`
    there.

    **Arguments:**

    - `nll`: as for `mx.fit`.
    - `params`: the point at which toys are drawn, and the start of each fit: a tree of `mx.Parameter`s or of floats.
        Parameters that are fixed in it are fixed in each fit.
    - `toys`: the data of `n` toys, each array with a leading axis of `n`; or `mx.Toys(n, key)`, drawn batch by batch at
        `params` (or at `mx.Toys(n, key, params=...)`).
    - `data`: with `mx.Toys`, the data that supply whatever is not drawn (see `mx.sample`).
    - `starts`: the starting point of each fit, if not `params`: values of shape `(n, n_free)`, the `FitResult` of other
        fits to the same toys, or its `params`. With `"asimov"` all fits start from the fit to the Asimov data of the
        point at which the toys are drawn; use it for fits of another hypothesis, such as one with a parameter fixed
        to another value. (A toy that is refitted by `mx.fit` starts from `params`.)
    - `covariance`: the expected covariance of the parameters, such as that of the fit that gave `params`. Default: that
        of the fit to the Asimov data or, for a likelihood without Asimov data, that of the first toys.
    - `up`: as for `mx.fit`.
    - `hesse`: if `False`, no second derivatives are computed: the errors are NaN, `covariance` is `None`, and `valid`
        depends on the variable-metric estimate of the distance to the minimum.
    - `minos`: `True` for MINOS errors of all parameters, or the parameters as for `mx.minos`. The `minos` of the result
        then holds the lower and upper errors, each of shape `(n, n_free)`; NaN for a side that was not found and for
        other parameters.
    - `batch_size`: the number of toys per batch. Default: chosen from the memory and the number of cores.
    - `mesh`: a `jax.sharding.Mesh` over whose devices each batch is spread; each device works independently until its
        toys are done. Default: the mesh over which the given arrays are spread, or that of `jax.set_mesh`, if any.
        With several processes (`jax.distributed.initialize`) each process makes the same call with the same toys and
        gets all of the fits; a `store` must be visible to all of them.
    - `progress`: if `True`, show toys done, toys per second, failures and the time left, in a terminal or a notebook
        (needs the package tqdm).
    - `store`: a folder in which finished batches are kept. After an interruption the same call resumes where it
        stopped and returns the same numbers to the last bit; once all batches are stored, they are only read. Each
        file records which toys of which study it holds, and is refused if it is found in another place. More toys of
        the same key extend it. Several jobs may share a store: each claims the batches that it fits, and takes those
        of a job that has died. See `mx.open_store`, `mx.merge`.
    - `shard`: `(i, n)`, with i from 0 to n - 1: only the i-th of n parts of the batches, for jobs on machines that
        share nothing. Each has the same other arguments and a `store` of its own; `mx.merge` joins them. The batches
        of a study that is sharded have 4096 toys, unless `batch_size` says otherwise.
    - `executor`: a `concurrent.futures.Executor` (processes of this machine, made by `spawn`; those of dask,
        executorlib or MPI) whose workers fit the batches; the store is written here. The likelihood is pickled: its
        functions are those of a module, or cloudpickle is installed. Batches have 4096 toys as those of a shard.

    **Returns:** a `FitResult` with a leading axis of `n`, or of the toys of the shard. (`mx.reduce_toys` keeps only a
    summary of each batch.)

    **Raises:** `TypeError`, `ValueError` as `mx.fit` does; inside `jax.jit`; for toys without a common leading axis, or
    a batch size below 1, or a shard out of range; for a store that is damaged or was written for another problem or by
    other versions, or that contains a file that belongs elsewhere (which is named). `OSError` for a store that cannot
    be written; the batches in it are kept.

    **Warns**, once, if a batch does not fit into memory; it then continues with fewer toys at a time.
    """
    options = Options(hesse, minos, batch_size, mesh, progress, store, shard, executor)
    results = _each_batch(lambda result: result, nll, params, toys, data, starts, covariance, up, options)
    return jax.tree.map(lambda *arrays: jnp.asarray(np.concatenate(arrays)), *results)


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
    """Fits toys as `mx.fit_toys` does, but keeps only `reduce(fits)` of each batch, for example for a million toys.

    ```python
    mx.reduce_toys(lambda fits: fits.values[fits.valid].mean(axis=0), nll, params, mx.Toys(1_000_000, key))
    ```

    **Arguments:**

    - `reduce`: called with the `FitResult` of each batch, in order.
    - `nll`, `params`, `toys`, `data`, `starts`, `covariance`, `up`: as for `mx.fit_toys`.
    - `options`: `hesse`, `minos`, `batch_size`, `mesh`, `progress`, `store`, `shard` and `executor`, as for
        `mx.fit_toys`.

    **Returns:** a list of the values that `reduce` returned, one for each batch.

    **Raises**, **Warns** as `mx.fit_toys`.
    """
    return _each_batch(reduce, nll, params, toys, data, starts, covariance, up, Options.of("reduce_toys", options))


class Options(NamedTuple):
    """The keywords of `fit_toys` that say how toys are run and leave the problem unchanged."""

    hesse: bool = True
    minos: bool | Where = False
    batch_size: int | None = None
    mesh: Mesh | None = None
    progress: bool = False
    store: str | os.PathLike[str] | None = None
    shard: tuple[int, int] | None = None
    executor: Executor | None = None

    @classmethod
    def of(cls, what: str, options: Mapping[str, Any]) -> "Options":
        """**Raises:** `TypeError` for an unknown keyword, with a list of the known ones."""
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
    """Returns `reduce(fits)` of each batch, in order."""

    def planned(inputs: tuple[Any, ...], mesh: Mesh | None) -> tuple[Job, Plan, Store | None]:
        return _planned(*inputs, options=options._replace(mesh=mesh))

    def fitted(planned: tuple[Job, Plan, Store | None]) -> list[T]:
        job, batch_plan, _ = planned
        chosen = chosen_batches(job, batch_plan)
        n = min(chosen.stop * batch_plan.size, job.source.n) - chosen.start * batch_plan.size
        remote = None if options.executor is None else Remote(options.executor, job, batch_plan, toys, data)
        with contextlib.closing(
            batches(*planned, remote)
        ) as results:  # an error of `reduce` must not keep claims alive
            return [reduce(fits) for fits in _with_progress(results, n, options.progress)]

    inputs = (nll, params, toys, data, starts, covariance)
    return run_planned(planned, fitted, (*inputs, up), options.mesh, "fit_toys")


def run_planned(
    planned: Callable[[tuple[Any, ...], Mesh | None], Any],
    run: Callable[[Any], T],
    inputs: tuple[Any, ...],
    mesh: Mesh | None,
    what: str,
) -> T:
    """Returns `run(planned(inputs, mesh))`, where the first of the inputs is a likelihood, and the mesh is by default
    that over which arrays among them are spread. Arrays with explicit sharding types run with automatic axes.

    **Raises:** `TypeError` inside `jax.jit`, naming `what`."""
    arrays = [a for a in jax.tree.leaves(inputs) if eqx.is_array(a)]
    if not is_concrete(jnp.asarray(0.0), *arrays):
        raise TypeError(
            f"{what} works in batches and cannot be inside jax.jit, jax.vmap or jax.grad: vmap mx.fit there"
        )
    mesh = as_mesh(mesh_of(arrays) if mesh is None else mesh)
    inputs = (as_likelihood(inputs[0]), *inputs[1:])
    explicit = explicit_mesh(arrays)
    if explicit is None:
        return run(planned(inputs, mesh))
    return where_xla_decides(lambda inputs: run(planned(inputs, mesh)), explicit, inputs)


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
    """Returns what is fitted, in which batches, and the store of finished batches."""
    batch_size, mesh, shard = check_batch_size(options.batch_size), options.mesh, check_shard(options.shard)
    up, executor = check_up(up), check_executor(options.executor)
    if executor is not None and mesh is not None:
        raise ValueError("toys run on a mesh of devices or in the workers of an executor, not both")
    if isinstance(starts, str):
        params, covariance = _asimov_start(nll, params, toys, data, covariance, up, starts)
        starts = None
    toy_source = source(nll, params, toys, data)
    params = prepare_params(params)
    batch_plan = plan(toy_source.n, toy_source.toy_bytes, len(names(params)), mesh)
    default_size = STORE_BATCH * batch_plan.devices
    if shard is not None or executor is not None:
        if batch_size is None and options.store is not None:
            batch_size = size_of_batches(options.store)
        n_batches, batch_size = batches_in(toy_source.n, batch_size, batch_plan.devices)
        batches_of(shard, n_batches, batch_size)  # refuses too many shards before anything is computed
    size = batch_plan.size if batch_size is None else batch_size
    batch_plan = batch_plan.of_size(min(toy_source.n, size))._replace(shard=shard)
    # of the same shape as the batches to come, so that the program is compiled once
    first_batch = toy_source.batch(0, batch_plan.rows(batch_plan.size) if mesh is None else 1)
    toy = jax.tree.map(lambda a: a[0], first_batch)
    metric = (
        expected_covariance(nll, params, toy_source, data, up)
        if covariance is None
        else check_covariance(covariance, params)
    )
    kind, minos = covariance_kind(nll, toy, options.hesse), options.minos
    if kind == "scaled":
        nll.needs_scale(toy, "with errors, fit_toys", "; fit_toys(hesse=False) has none")
    minos_positions = None if minos is False else select(params, names(params) if minos is True else minos)
    start_values = None if starts is None else _check_starts(starts, params, toy_source.n)
    job = Job(nll, params, toy_source, start_values, metric, up, bool(options.hesse), kind, minos_positions, mesh)
    if options.store is None:
        return job, batch_plan, None
    writes, inputs = jax.process_index() == 0, _fingerprints(job, toy)
    problem, about = digest(inputs), About(FITS, inputs=inputs, shard=shard)
    # the batches of a shard are those of one job
    is_shared = mesh is None and shard is None
    store = Store(
        options.store,
        problem,
        toy_source.n,
        check_batch_size(options.batch_size),
        default_size,
        writes,
        is_shared,
        about,
    )
    return job, batch_plan.of_size(store.batch_size), store


def batches_in(n: int, batch_size: int | None, devices: int = 1) -> tuple[int, int]:
    """The number and the size of the batches of a study that is sharded."""
    size = min(n, STORE_BATCH * devices if batch_size is None else batch_size)
    return -(-n // size), size


def _asimov_start(
    nll: Any, params: PyTree, toys: Any, data: PyTree, covariance: Any, up: Array, starts: str
) -> tuple[PyTree, Any]:
    """Returns parameters and covariance of the fit to the Asimov data of the point at which the toys are drawn."""
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
    """Returns the start of each toy. **Raises:** `ValueError` for a wrong shape, values not finite or out of bounds."""
    x, space = ravel(params)
    if isinstance(starts, FitResult):
        starts = starts.values
    if not eqx.is_array(starts) and not isinstance(starts, list):
        starts = eqx.filter_vmap(lambda tree: ravel(tree)[0])(starts)
    values = np.asarray(starts, dtype=x.dtype)
    if values.shape != (n, x.size):
        raise ValueError(f"starts must have shape {(n, x.size)}, for {n} toys and {space.names}; got {values.shape}")
    is_inside = np.isfinite(values) & (values >= np.asarray(space.lower)) & (values <= np.asarray(space.upper))
    if not np.all(is_inside):
        toy, i = np.argwhere(~is_inside)[0]
        raise ValueError(f"the start of {space.names[i]!r} for toy {toy} is {values[toy, i]}: not within its bounds")
    return values


def _fingerprints(job: Job, toy: PyTree) -> dict[str, str]:
    """Returns the fingerprints of all that affects the numbers: likelihood and draws as XLA sees them, all arrays."""
    # on one device, because the placement of the arrays and the mesh that is set do not affect the numbers
    nll, params, toy, up = on_one_device((job.nll, job.params, toy, job.up))
    fn, theta, x, space = objective(nll, params, toy, up)
    compiled: Any = eqx.filter_jit(lambda x, theta: fn(x, theta))
    program = compiled.lower(x, theta).as_text()
    of_nll, of_params = ([a for a in jax.tree.leaves(tree) if eqx.is_array(a)] for tree in (job.nll, job.params))
    made_of = {
        "likelihood": (program, of_nll),
        "parameters": (x, of_params, space.lower, space.upper, space.names),
        "starts": job.starts,
        "covariance": job.covariance,
        "options": (job.up, job.options),
        "toys": job.source.made_of(),
    }
    return {name: digest(what) for name, what in made_of.items()}


def _with_progress(results: Iterator[FitResult], n: int, progress: bool) -> Iterator[FitResult]:
    """Yields the results, with a progress bar if `progress`."""
    if not progress:
        yield from results
        return
    n_failed = 0
    with bar(total=n, unit="toy", unit_scale=True) as progress_bar:
        for result in results:
            n_failed += int(np.sum(~np.asarray(result.valid)))
            progress_bar.set_postfix(failed=n_failed)
            progress_bar.update(result.valid.shape[0])
            yield result
