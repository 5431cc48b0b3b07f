"""Long sums over rows, streamed in chunks so that a gradient or an exact Hessian holds one chunk's arrays at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Float, PyTree, Scalar


def chunked_sum(
    terms: Callable[[Any, Any], Float[Array, " rows"]], params: PyTree, rows: PyTree, *, chunk_size: int | None
) -> Scalar:
    """Sums `terms(params, rows)` over rows, `chunk_size` of them at a time.

    ```python
    def nll(params, image):
        return mx.chunked_sum(log_density, params, image, chunk_size=10_000)
    ```

    The value is the same to rounding. A chunk is computed again for its gradient instead of kept, which costs about
    a third more time and makes the memory that of one chunk; about 10⁴ rows are a good chunk, as they stay in the
    cache of a core.

    **Arguments:**

    - `terms`: called as `terms(params, chunk)`, returns one number a row, shape `(rows,)`.
    - `params`: whatever `terms` takes first.
    - `rows`: a pytree of arrays with one leading axis of rows (an array, a tuple `(x, y)`, `mx.Points`, ...).
    - `chunk_size`: rows a chunk; `None` for all at once.

    **Returns:** the sum, a scalar.

    **Raises:** `ValueError` if the leading axes differ, there are no rows, or `terms` returns another shape.
    """
    n = _length(rows)
    if chunk_size is not None and (isinstance(chunk_size, bool) or int(chunk_size) != chunk_size or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number of at least 1 or None, got {chunk_size!r}")
    if chunk_size is None or chunk_size >= n:
        return jnp.sum(_checked(terms(params, rows), n))
    size = int(chunk_size)

    @jax.checkpoint
    def chunk_sum(params: PyTree, first: Array) -> Scalar:
        # The last chunk is moved back to be full, and the rows that were counted already are left out.
        start = jnp.minimum(first, n - size)
        chunk = jtu.tree_map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows)
        values = _checked(terms(params, chunk), size)
        return jnp.sum(jnp.where(start + jnp.arange(size) >= first, values, 0.0))

    dtype = jax.eval_shape(chunk_sum, params, jnp.array(0)).dtype

    def body(total: Scalar, first: Array) -> tuple[Scalar, None]:
        return total + chunk_sum(params, first), None

    total, _ = lax.scan(body, jnp.zeros((), dtype), jnp.arange(0, n, size))
    return total


def _length(rows: PyTree) -> int:
    lengths = {jnp.shape(a)[0] if jnp.ndim(a) else None for a in jtu.tree_leaves(rows)}
    if len(lengths) != 1 or None in lengths or 0 in lengths:
        shapes = [jnp.shape(a) for a in jtu.tree_leaves(rows)]
        raise ValueError(
            f"rows must be arrays with one leading axis of the same length (at least 1), got shapes {shapes}"
        )
    return lengths.pop()  # pyright: ignore[reportReturnType]


def _checked(values: Array, n: int) -> Array:
    if values.shape != (n,):
        raise ValueError(f"the terms of {n} rows must have shape ({n},), got {values.shape}")
    return values
