"""Long sums over rows, streamed in chunks so that a gradient or an exact Hessian holds one chunk's arrays at a time."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .on_disk import OnDisk
from .typing import PyTree

_DEFAULT = 10_000  # rows at a time of data on disk: they stay in the cache of a core


def chunked_sum(
    terms: Callable[[Any, Any], Float[Array, " rows"]], params: PyTree, rows: PyTree, *, chunk_size: int | None
) -> Scalar:
    """Sums `terms(params, rows)` over rows, `chunk_size` of them at a time.

    ```python
    def nll(params, image):
        return mx.chunked_sum(log_density, params, image, chunk_size=10_000)
    ```

    The value is the same to rounding. Its gradient with respect to `params` is summed in the same pass, so that the
    memory is that of one chunk; derivatives with respect to all else compute each chunk again instead of keeping it.
    About 10⁴ rows are a good chunk, as they stay in the cache of a core.

    **Arguments:**

    - `terms`: called as `terms(params, chunk)`, returns one number a row, shape `(rows,)`.
    - `params`: whatever `terms` takes first.
    - `rows`: a pytree of arrays with one leading axis of rows (an array, a tuple `(x, y)`, `mx.Points`, ...), or
        `mx.OnDisk`.
    - `chunk_size`: rows a chunk; `None` for all at once (10⁴ for `mx.OnDisk`).

    **Returns:** the sum, a scalar: 0 for no rows.

    **Raises:** `ValueError` if the leading axes differ, or `terms` returns another shape.
    """
    size = _size(rows, chunk_size)
    if size is None:
        return jnp.sum(_checked(terms(params, rows), _length(rows)))
    first = rows.chunk(jnp.array(0))[0] if isinstance(rows, OnDisk) else rows
    chunk = jax.eval_shape(lambda: _chunk(first, jnp.array(0), size)[0])
    dynamic, static = eqx.partition(params, eqx.is_array)
    converted = eqx.filter_closure_convert(lambda p, c: terms(eqx.combine(p, static), c), dynamic, chunk)
    return _streamed(converted, dynamic, rows, size)


def sum_over_chunks(fn: Callable[[PyTree, Bool[Array, " rows"]], PyTree], rows: PyTree, chunk_size: int | None) -> Any:
    """The sum of `fn(chunk, counted)` over chunks of the rows, of which only the `counted` ones must count; as
    `chunked_sum` otherwise, for anything that is a sum over rows."""
    size = _size(rows, chunk_size)
    return fn(rows, jnp.ones(_length(rows), bool)) if size is None else _scan(fn, rows, size)


def _size(rows: PyTree, chunk_size: int | None) -> int | None:
    """The rows of a chunk; `None`: all.

    **Raises:** `ValueError` for what is no number of rows.
    """
    n = _length(rows)
    if chunk_size is not None and (isinstance(chunk_size, bool) or int(chunk_size) != chunk_size or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number of at least 1 or None, got {chunk_size!r}")
    if isinstance(rows, OnDisk):
        return min(_DEFAULT if chunk_size is None else int(chunk_size), rows.chunk_size)
    return None if chunk_size is None or chunk_size >= n else int(chunk_size)


@eqx.filter_custom_jvp
def _streamed(terms: Callable, params: PyTree, rows: PyTree, size: int) -> Scalar:
    """The sum over chunks. Where only `params` are differentiated, one pass gives the sum with its gradient."""
    return _scan(functools.partial(_chunk_sum, terms, params), rows, size)


@_streamed.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    terms, params, rows, size = primals
    t_terms, t_params, t_rows, _ = tangents
    if jax.tree.leaves((t_terms, t_rows)):

        def generic(terms: Callable, params: PyTree, rows: PyTree) -> Scalar:
            return _scan(functools.partial(_chunk_sum, terms, params), rows, size)

        return eqx.filter_jvp(generic, (terms, params, rows), (t_terms, t_params, t_rows))

    perturbed = jax.tree.map(lambda t: t is not None, t_params, is_leaf=lambda t: t is None)
    moving, still = eqx.partition(params, perturbed)

    def expand(chunk: PyTree, counted: Array) -> tuple[Scalar, PyTree]:
        one = lambda moving: _chunk_sum(terms, eqx.combine(moving, still), chunk, counted)  # noqa: E731
        return jax.value_and_grad(one)(moving)

    value, gradient = _scan(expand, rows, size)
    parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient, t_params)
    return value, functools.reduce(jnp.add, jax.tree.leaves(parts)).astype(value.dtype)


def _chunk_sum(terms: Callable, params: PyTree, chunk: PyTree, counted: Array) -> Scalar:
    values = _checked(terms(params, chunk), counted.size)
    return jnp.sum(jnp.where(counted, values, 0.0))


def _chunk(rows: PyTree, first: Array, size: int) -> tuple[PyTree, Array]:
    """The chunk that starts at row `first`, and which of its rows to count: the last chunk is moved back to be full,
    and the rows that were counted already are left out."""
    start = jnp.minimum(first, _length(rows) - size)
    chunk = jtu.tree_map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows)
    return chunk, start + jnp.arange(size) >= first


def _scan(fn: Callable, rows: PyTree, size: int) -> PyTree:
    """The sum of `fn(chunk, counted)` over all chunks. What is needed for a derivative is computed again, chunk by
    chunk (inside a scan this needs no fence against common subexpressions)."""

    if isinstance(rows, OnDisk):

        def whole(i: Array) -> PyTree:
            chunk, of_data = rows.chunk(i)
            return _scan(lambda part, counted: fn(part[0], counted & part[1]), (chunk, of_data), size)

        return _sum(whole, jnp.arange(rows.num_chunks))
    return _sum(lambda first: fn(*_chunk(rows, first, size)), jnp.arange(0, _length(rows), size))


def _sum(fn: Callable[[Array], PyTree], steps: Array) -> PyTree:
    one = jax.checkpoint(fn, prevent_cse=False)

    def body(total: PyTree, step: Array) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, one(step)), None

    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, jnp.array(0)))
    return lax.scan(body, zero, steps)[0]


def _length(rows: PyTree) -> int:
    if isinstance(rows, OnDisk):
        return rows.size
    lengths = {jnp.shape(a)[0] if jnp.ndim(a) else None for a in jtu.tree_leaves(rows)}
    if len(lengths) != 1 or None in lengths:
        shapes = [jnp.shape(a) for a in jtu.tree_leaves(rows)]
        raise ValueError(f"rows must be arrays with one leading axis of the same length, got shapes {shapes}")
    return lengths.pop()  # pyright: ignore[reportReturnType]


def _checked(values: Array, n: int) -> Array:
    if values.shape != (n,):
        raise ValueError(f"the terms of {n} rows must have shape ({n},), got {values.shape}")
    return values
