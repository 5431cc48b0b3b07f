"""Rules for decompositions of matrices, by NumPy's and SciPy's LAPACK."""

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


def _each(one: Callable[..., tuple[Any, ...]], *ndims: int) -> Function:
    """`one`, for each of a batch of matrices (or vectors, by `ndims`)."""

    def many(*arrays: Any) -> tuple[Any, ...]:
        batch = arrays[0].shape[: arrays[0].ndim - ndims[0]]
        if not batch:
            return one(*arrays)
        flat = [x.reshape((-1, *x.shape[x.ndim - n :])) for x, n in zip(arrays, ndims, strict=True)]
        parts = [one(*rows) for rows in zip(*flat, strict=True)]
        return tuple(np.stack(part).reshape(batch + part[0].shape) for part in zip(*parts, strict=True))

    return many


def _first(function: Function) -> Function:
    return lambda *arrays: function(*arrays)[0]


def _is_empty(equation: Any) -> bool:
    return any(0 in v.aval.shape for v in equation.invars)


def _cholesky(equation: Any) -> Function | None:
    if _is_empty(equation):
        return None

    def one(a: Any) -> tuple[Any, ...]:
        try:
            return (np.linalg.cholesky(a),)
        except np.linalg.LinAlgError:  # XLA says so by NaN
            return (np.full_like(a, np.nan),)

    return _first(_each(one, 2))


def _eigh(equation: Any) -> Function | None:
    if _is_empty(equation) or equation.params.get("subset_by_index") is not None:
        return None
    part = "L" if equation.params["lower"] else "U"

    def one(a: Any) -> tuple[Any, ...]:
        values = np.zeros(a.shape[0], a.real.dtype)
        if not np.all(np.isfinite(a)):
            return np.full_like(a, np.nan), values + np.asarray(np.nan, values.dtype)
        try:
            values, vectors = np.linalg.eigh(a, part)
        except np.linalg.LinAlgError:
            return np.full_like(a, np.nan), values + np.asarray(np.nan, values.dtype)
        return vectors, values

    return _each(one, 2)


def _lu(equation: Any) -> Function | None:
    if _is_empty(equation):
        return None
    from scipy.linalg import get_lapack_funcs

    def one(a: Any) -> tuple[Any, ...]:
        (getrf,) = get_lapack_funcs(("getrf",), (a,))
        lu, pivots, _ = getrf(a)
        return lu, pivots.astype(np.int32), _permutation(pivots, a.shape[0])

    return _each(one, 2)


def _permutation(pivots: Any, size: int) -> Any:
    order = np.arange(size, dtype=np.int32)
    for i, j in enumerate(pivots):
        order[[i, j]] = order[[j, i]]
    return order


def _pivots_to_permutation(equation: Any) -> Function:
    size = equation.params["permutation_size"]
    return _first(_each(lambda pivots: (_permutation(pivots, size),), 1))


def _triangular_solve(equation: Any) -> Function | None:
    params = equation.params
    if _is_empty(equation) or params["conjugate_a"]:
        return None
    from scipy.linalg import get_blas_funcs

    options = {
        "side": int(not params["left_side"]),
        "lower": int(params["lower"]),
        "trans_a": int(params["transpose_a"]),
        "diag": int(params["unit_diagonal"]),
    }

    def one(a: Any, b: Any) -> tuple[Any, ...]:
        (trsm,) = get_blas_funcs(("trsm",), (a, b))
        return (trsm(1.0, a, b, **options),)

    return _first(_each(one, 2, 2))


RULES: dict[str, Callable[[Any], Function | None]] = {
    "cholesky": _cholesky,
    "eigh": _eigh,
    "lu": _lu,
    "lu_pivots_to_permutation": _pivots_to_permutation,
    "triangular_solve": _triangular_solve,
}
