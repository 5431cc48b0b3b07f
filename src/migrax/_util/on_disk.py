"""Data on disk, read chunk by chunk while a compiled fit runs."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool

from .progress import bar
from .typing import PyTree


class OnDisk(eqx.Module):
    """Rows that are read from disk while they are summed over, for fits to data that do not fit into memory.

    ```python
    x = np.load("events.npy", mmap_mode="r")  # 10⁸ events stay where they are
    mx.fit(mx.UnbinnedNLL(log_prob), params, mx.OnDisk(x, progress=True))
    ```

    `mx.UnbinnedNLL`, `mx.ExtendedUnbinnedNLL` (weighted events as a tuple `(x, weight)`) and `mx.chunked_sum` take it
    in place of arrays. Memory holds two chunks, whatever the number of rows; each evaluation of the likelihood reads
    all rows. It cannot be vmapped over or differentiated, and the file must not change while it is in use. Use the same
    object for all fits: a new object needs a new compilation.
    """

    size: int = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)
    _shapes: PyTree = eqx.field(static=True)
    _reader: "_Reader" = eqx.field(static=True)

    def __init__(self, source: Any, chunk_size: int = 1_000_000, *, dtype: Any = None, progress: bool = False):
        """**Arguments:**

        - `source`: an array such as a `numpy.memmap`, of shape `(n,)` or `(n, dim)`; a tuple of these with equal
            lengths; or a function without arguments that returns an iterator of chunks (arrays, or tuples of arrays, of
            any lengths), called once for each pass over the data, and once to count them.
        - `chunk_size`: the number of rows that are read at a time from arrays.
        - `dtype`: the type to which the rows are converted for the sum; default: JAX's default floating-point type.
        - `progress`: if `True`, show a progress bar for each pass over the data (needs the package tqdm).

        **Raises:** `TypeError`, `ValueError` for arrays of different lengths, an iterator without chunks, or any other
        source.
        """
        if isinstance(chunk_size, bool) or int(chunk_size) != chunk_size or chunk_size < 1:
            raise ValueError(f"chunk_size must be a whole number of at least 1, got {chunk_size!r}")
        chunks: _Chunks
        if isinstance(source, np.ndarray | tuple) or hasattr(source, "shape"):
            n = _rows(source)
            self.chunk_size = min(int(chunk_size), max(n, 1))
            lengths = [min(self.chunk_size, n - first) for first in range(0, n, self.chunk_size)] or [0]
            row = jax.tree.map(lambda a: tuple(a.shape[1:]), source, is_leaf=_is_array)
            chunks = _FromArrays(source, self.chunk_size)
        elif callable(source):
            lengths, row = _count(source)
            self.chunk_size = max(*lengths, 1)
            chunks = _FromIterator(source, len(lengths))
        else:
            raise TypeError(
                "OnDisk takes an array such as np.load(file, mmap_mode='r'), a tuple of arrays such as (x, weight), or "
                f"a function that returns an iterator, got {type(source).__name__}"
            )
        self.size = sum(lengths)
        kind = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
        as_shape = lambda s: jax.ShapeDtypeStruct((self.chunk_size, *s), kind)  # noqa: E731
        self._shapes = jax.tree.map(as_shape, row, is_leaf=_is_shape)
        self._reader = _Reader(chunks, len(lengths), self.chunk_size, kind, progress)

    @property
    def num_chunks(self) -> int:
        """The number of chunks that one pass reads."""
        return self._reader.num_chunks

    @property
    def num_arrays(self) -> int:
        """The number of arrays in a chunk: 1, unless `source` gives tuples."""
        return len(jtu.tree_leaves(self._shapes))

    def chunk(self, i: Array) -> tuple[PyTree, Bool[Array, " rows"]]:
        """Returns the `i`-th chunk, inside a traced function. It is padded with its last row to full length, and comes
        with a mask of the rows that are data."""
        shapes = (self._shapes, jax.ShapeDtypeStruct((), np.int32))
        rows, n = jax.pure_callback(self._reader, shapes, i, vmap_method="sequential")
        return rows, jnp.arange(self.chunk_size) < n


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def _rows(source: Any) -> int:
    """Returns the number of rows. **Raises:** `TypeError`, `ValueError` unless these are arrays of equal length."""
    arrays = source if isinstance(source, tuple) else (source,)
    if not all(hasattr(a, "dtype") and len(getattr(a, "shape", ())) > 0 for a in arrays):
        raise TypeError("OnDisk takes arrays with an axis of rows, or a tuple of such arrays")
    lengths = [int(a.shape[0]) for a in arrays]
    if len(set(lengths)) != 1:
        raise ValueError(f"the arrays have different lengths: {', '.join(map(str, lengths))}")
    return lengths[0]


class _FromArrays:
    """Reads chunks as slices of arrays."""

    def __init__(self, source: Any, chunk_size: int):
        self.source, self.chunk_size = source, chunk_size

    def __call__(self, i: int) -> Any:
        rows = slice(i * self.chunk_size, (i + 1) * self.chunk_size)
        return jax.tree.map(lambda a: np.asarray(a[rows]), self.source, is_leaf=_is_array)


class _FromIterator:
    """Reads chunks from an iterator, which is restarted for each pass."""

    def __init__(self, source: Callable[[], Any], num_chunks: int):
        self.source, self.num_chunks = source, num_chunks
        self.iterator: Iterator[Any] = iter(())
        self.next = num_chunks

    def __call__(self, i: int) -> Any:
        if i < self.next:
            self.iterator, self.next = iter(self.source()), 0
        chunk = None
        while self.next <= i:
            try:
                chunk = next(self.iterator)
            except StopIteration:
                raise RuntimeError(
                    f"the iterator ended after {self.next} chunks; when they were counted there were {self.num_chunks}"
                ) from None
            self.next += 1
        return chunk


_Chunks = _FromArrays | _FromIterator


class _Reader:
    """The host callback of the compiled program, which must not call JAX."""

    def __init__(self, chunks: _Chunks, num_chunks: int, chunk_size: int, dtype: Any, progress: bool):
        self.chunks, self.num_chunks, self.chunk_size, self.dtype = chunks, num_chunks, chunk_size, dtype
        self.progress, self.bar, self.passes = progress, None, 0

    def __call__(self, i: Any) -> tuple[Any, Any]:
        index = int(i)
        chunk = self.chunks(index)
        first = jtu.tree_leaves(chunk)[0]
        if self.progress:
            self._show(index)
        return jax.tree.map(self._full, chunk), np.int32(np.shape(first)[0])

    def _full(self, a: Any) -> np.ndarray:
        a = np.asarray(a, dtype=self.dtype)
        if a.shape[0] == 0:  # an empty chunk
            return np.zeros((self.chunk_size, *a.shape[1:]), self.dtype)
        missing = self.chunk_size - a.shape[0]
        return np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) if missing else np.ascontiguousarray(a)

    def _show(self, index: int) -> None:
        if index == 0:
            self.passes += 1
            if self.bar is not None:
                self.bar.close()
            self.bar = bar(total=self.num_chunks, desc=f"pass {self.passes}", unit="chunk", leave=False)
        if self.bar is not None:
            self.bar.update()
            if index == self.num_chunks - 1:
                self.bar.close()


def _count(source: Callable[[], Any]) -> tuple[list[int], Any]:
    """Returns the lengths of the chunks and the shapes of a row.

    **Raises:** `ValueError` if there is no chunk, or if their shapes differ.
    """
    lengths: list[int] = []
    row = None
    for chunk in source():
        shapes = jax.tree.map(lambda a: tuple(np.shape(a)[1:]), chunk)
        rows = {np.shape(a)[0] for a in jtu.tree_leaves(chunk)}
        if len(rows) != 1 or (row is not None and shapes != row):
            raise ValueError(f"chunk {len(lengths)} has other shapes than those before it")
        lengths.append(rows.pop())
        row = shapes
    if not lengths:
        raise ValueError("the iterator has no chunks (is it a function that returns a new one each time?)")
    return lengths, row
