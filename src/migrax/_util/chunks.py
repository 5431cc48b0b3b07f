"""Long sums over rows, streamed in chunks so that gradients and exact Hessians hold the arrays of one chunk only."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .on_disk import OnDisk
from .rowwise import is_rowwise
from .typing import PyTree

_DEFAULT = 10_000  # rows per chunk for data on disk, which fit into the cache of a core
_BLOCK, _MANY = 6000, 30_000  # rows in a chunk of so many or more in memory; arrays of 2^n rows collide in caches
_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)


@contextlib.contextmanager
def whole_sums() -> Iterator[None]:
    """Sums within are not taken in chunks that the user does not ask for."""
    token = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def chunked_sum(
    terms: Callable[[Any, Any], Float[Array, " rows"]], params: PyTree, rows: PyTree, *, chunk_size: int | None
) -> Scalar:
    """Sums `terms(params, rows)` over rows of data, `chunk_size` rows at a time, to save memory.

    ```python
    def nll(params, image):
        return mx.chunked_sum(log_density, params, image, chunk_size=10_000)
    ```

    The value is that of the sum over all rows at once, within rounding. Its gradient with respect to `params` is summed
    in the same pass, so that memory holds one chunk; other derivatives recompute each chunk instead of storing it. A
    chunk of about 10⁴ rows fits into the cache of a core.

    **Arguments:**

    - `terms`: called as `terms(params, chunk)`, returns one number per row, shape `(rows,)`.
    - `params`: the first argument of `terms`.
    - `rows`: a pytree of arrays with one leading axis of rows (an array, a tuple `(x, y)`, `mx.Points`, ...), or
        `mx.OnDisk`.
    - `chunk_size`: rows per chunk. `None`: 10⁴ for `mx.OnDisk`; as many as the cache of a core holds, for 30,000 rows
        or more on a CPU, if the operations of `terms` show that each term depends on its own row alone; else all.

    **Returns:** the sum, a scalar: 0 for no rows.

    **Raises:** `ValueError` if the leading axes differ, or `terms` returns another shape.
    """
    size = _size(rows, chunk_size)
    if size is None and chunk_size is None and _is_for_blocks(terms, params, rows):
        size = _BLOCK
    if size is None:
        return jnp.sum(_checked(terms(params, rows), _length(rows)))
    first = rows.chunk(jnp.array(0))[0] if isinstance(rows, OnDisk) else rows
    chunk = jax.eval_shape(lambda: _chunk(first, jnp.array(0), size)[0])
    dynamic, static = eqx.partition(params, eqx.is_array)
    converted = eqx.filter_closure_convert(lambda p, c: terms(eqx.combine(p, static), c), dynamic, chunk)
    return _streamed(converted, dynamic, rows, size)


def _is_for_blocks(terms: Callable, params: PyTree, rows: PyTree) -> bool:
    """Whether a sum over all rows takes a core less time in blocks, whose arrays stay in its cache, and each term is of
    its own row. Rows that are spread over devices stay whole."""
    if _length(rows) < _MANY or jax.default_backend() != "cpu" or jax.device_count() > 1:
        return False
    return not _WHOLE.get() and is_rowwise(terms, params, rows, _BLOCK)


def sum_over_chunks(fn: Callable[[PyTree, Bool[Array, " rows"]], PyTree], rows: PyTree, chunk_size: int | None) -> Any:
    """Returns the sum of `fn(chunk, counted)` over chunks of rows, where `fn` must include only the `counted` rows. As
    `chunked_sum`, but for anything that is a sum over rows."""
    size = _size(rows, chunk_size)
    if size is None:
        return fn(rows, jnp.ones(_length(rows), bool))
    return _scan(lambda chunk, share, is_data: fn(chunk, (share > 0) & is_data), rows, size)


def _size(rows: PyTree, chunk_size: int | None) -> int | None:
    """Returns the number of rows per chunk; `None` for all.

    **Raises:** `ValueError` for an invalid number.
    """
    n = _length(rows)
    if chunk_size is not None and (isinstance(chunk_size, bool) or int(chunk_size) != chunk_size or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number of at least 1 or None, got {chunk_size!r}")
    if isinstance(rows, OnDisk):
        return min(_DEFAULT if chunk_size is None else int(chunk_size), rows.chunk_size)
    return None if chunk_size is None or chunk_size >= n else int(chunk_size)


@eqx.filter_custom_jvp
def _streamed(terms: Callable, params: PyTree, rows: PyTree, size: int) -> Scalar:
    """Returns the sum over chunks. If only `params` are differentiated, one pass gives the sum and its gradient."""
    return _scan(functools.partial(_chunk_sum, terms, params), rows, size)


@_streamed.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    terms, params, rows, size = primals
    t_terms, t_params, t_rows, _ = tangents
    if jax.tree.leaves((t_terms, t_rows)):

        def generic(terms: Callable, params: PyTree, rows: PyTree) -> Scalar:
            return _scan(functools.partial(_chunk_sum, terms, params), rows, size)

        return eqx.filter_jvp(generic, (terms, params, rows), (t_terms, t_params, t_rows))

    is_perturbed = jax.tree.map(lambda t: t is not None, t_params, is_leaf=lambda t: t is None)
    moving, fixed = eqx.partition(params, is_perturbed)

    def expand(*chunk: Any) -> tuple[Scalar, PyTree]:
        return jax.value_and_grad(lambda moving: _chunk_sum(terms, eqx.combine(moving, fixed), *chunk))(moving)

    value, gradient = _scan(expand, rows, size)
    parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient, t_params)
    return value, functools.reduce(jnp.add, jax.tree.leaves(parts)).astype(value.dtype)


def _chunk_sum(terms: Callable, params: PyTree, chunk: PyTree, share: Array, is_data: Array | bool) -> Scalar:
    values = _checked(terms(params, chunk), share.size)
    if is_data is not True:
        values = jnp.where(is_data, values, 0.0)
    # A product, not `jnp.where`: XLA's loops for the CPU use no vectors where a sum is over what was selected, which
    # takes four times as long. It makes NaN of what is infinite in a row that was counted before.
    return jnp.sum(values * share.astype(values.dtype))


def _chunk(rows: PyTree, first: Array, size: int) -> tuple[PyTree, Array]:
    """Returns the chunk that starts at row `first`, and the share of each of its rows in the sum, 1 or 0: the last one
    is moved back to be full, and its rows that belong to the one before are not counted again."""
    start = jnp.minimum(first, _length(rows) - size)
    chunk = jtu.tree_map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows)
    index = jnp.arange(size, dtype=jnp.result_type(float))
    return chunk, jnp.clip(index - (first - start - 1).astype(index.dtype), 0.0, 1.0)


def _scan(fn: Callable, rows: PyTree, size: int) -> PyTree:
    """Returns the sum of `fn(chunk, share, is_data)` over all chunks. Derivatives recompute each chunk; inside a scan
    this needs no barrier against common-subexpression elimination."""

    if isinstance(rows, OnDisk):

        def sum_of_stored_chunk(i: Array) -> PyTree:
            stored = rows.chunk(i)
            return _scan(lambda part, share, _: fn(part[0], share, part[1]), stored, size)

        return _sum(sum_of_stored_chunk, jnp.arange(rows.num_chunks))
    return _sum(lambda first: fn(*_chunk(rows, first, size), True), jnp.arange(0, _length(rows), size))


def _sum(fn: Callable[[Array], PyTree], steps: Array) -> PyTree:
    recomputed = jax.checkpoint(fn, prevent_cse=False)

    def body(total: PyTree, step: Array) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, recomputed(step)), None

    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(recomputed, jnp.array(0)))
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
