"""The functions of arrays in which the algorithms are written: those of NumPy on the host, those of JAX in a program.

An algorithm is written once, with `xp` in place of `jnp` and the control flow of `flow.py`. Inside `on_host` its arrays
are NumPy's and its loops are Python's, so that nothing is traced or compiled; everywhere else it is a program of JAX.
"""

import builtins
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .trips import Trips

_HOST: ContextVar[Trips | None] = ContextVar("on_host", default=None)  # each thread has its own
_BOOLS = (bool, np.bool_)


def is_on_host() -> builtins.bool:
    """Whether algorithms run in NumPy now."""
    return _HOST.get() is not None


def trips() -> Trips:
    """Of the call that runs in NumPy now."""
    trips = _HOST.get()
    assert trips is not None
    return trips


@contextlib.contextmanager
def on_host() -> Iterator[None]:
    """Algorithms called within run in NumPy: their inputs must be NumPy's arrays. What is not finite is no warning.

    **Raises:** `TooLong` where a loop has so many trips that the algorithm should be a program.
    """
    token = _HOST.set(Trips())
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _HOST.reset(token)


@contextlib.contextmanager
def in_program() -> Iterator[None]:
    """Within `on_host`, a part that JAX traces."""
    token = _HOST.set(None)
    try:
        yield
    finally:
        _HOST.reset(token)


def _where(which: Any, yes: Any, no: Any) -> Any:
    if type(which) not in _BOOLS:
        if isinstance(yes, float) and isinstance(no, float):
            raise TypeError("NumPy has no weak types: give one of two numbers the dtype of the others")
        return np.where(which, yes, no)
    picked, other = (yes, no) if which else (no, yes)
    shape = getattr(picked, "shape", ())
    if shape != getattr(other, "shape", ()):
        return np.where(which, yes, no)
    dtype = getattr(other, "dtype", None)
    if shape:
        # Nothing on the host changes an array in place, so no copy is made.
        return picked if picked.dtype == dtype else np.where(which, yes, no)
    if isinstance(picked, np.generic) or (isinstance(picked, float) and isinstance(other, float)):
        return picked  # a float of Python takes the dtype of what it meets, as JAX's weak types do
    return np.asarray(picked, dtype)[()]


def _scalar(make: Callable[..., Any]) -> Callable[..., Any]:
    """Numbers as NumPy's scalars, which, unlike arrays without axes, nothing changes in place."""
    return lambda *args, **kwargs: make(*args, **kwargs)[()]


@functools.cache
def _finfo(dtype: Any) -> Any:
    return np.finfo(dtype)


_ON_HOST: dict[str, Callable[..., Any]] = {
    **{name: _scalar(getattr(np, name)) for name in ("array", "asarray", "zeros", "ones", "full")},
    "where": _where,
    "finfo": _finfo,
    "nanmax": np.fmax.reduce,  # without NumPy's warning where all are NaN
    "nanmin": np.fmin.reduce,
}


def _either(name: str) -> Callable[..., Any]:
    on_host, in_program = _ON_HOST.get(name) or getattr(np, name), getattr(jnp, name)

    @functools.wraps(in_program)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (in_program if _HOST.get() is None else on_host)(*args, **kwargs)

    return call


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    value = getattr(jnp, name)
    if callable(value) and not isinstance(value, type):
        value = _either(name)
    globals()[name] = value
    return value


def set_at(a: Any, index: Any, value: Any) -> Any:
    """A copy of the array with `value` at `index`."""
    if _HOST.get() is None:
        return jnp.asarray(a).at[index].set(value)
    copy = np.array(a)
    copy[index] = value
    return copy


def split_by_size(a: Any, sizes: Sequence[int]) -> Sequence[Any]:
    """The parts of a vector, of these sizes."""
    if _HOST.get() is None:
        return lax.split(a, sizes)
    return np.split(a, np.cumsum(sizes)[:-1])


def eigh(a: Any) -> tuple[Any, Any]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix; NaN for one that is not finite."""
    if _HOST.get() is None:
        return jnp.linalg.eigh(a)
    if not np.all(np.isfinite(a)):
        return np.full(a.shape[0], np.nan, a.dtype), np.full(a.shape, np.nan, a.dtype)
    # As JAX does: rounding may have made the two halves differ.
    return np.linalg.eigh(0.5 * (a + a.T))


def cholesky(a: Any) -> Any:
    """The lower root of a symmetric matrix; NaN where it is not positive definite."""
    if _HOST.get() is None:
        return jnp.linalg.cholesky(a)
    try:
        return np.linalg.cholesky(0.5 * (a + a.T))
    except np.linalg.LinAlgError:
        return np.full(a.shape, np.nan, a.dtype)


def solve(a: Any, b: Any) -> Any:
    """The solution of a linear system; not finite where the matrix is singular."""
    if _HOST.get() is None:
        return jnp.linalg.solve(a, b)
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return np.full(b.shape, np.nan, b.dtype)


if TYPE_CHECKING:
    from jax.numpy import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
