"""The objective of a fit, `nll(params, data)` as a function of one vector, and checks of the input before compiling."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._derivatives.one_mode import differentiable
from .._hints.calls import hints
from .._host import xp
from .._likelihoods.base import AbstractJoint, AbstractLikelihood, Function
from .._parameters.names import Slot, flatten, unknown_name
from .._parameters.parameter import bounds_of, is_parameter
from .._parameters.resolve import value_of
from .._parameters.space import Space, ravel, resolve_at
from .._util.arrays import as_arrays, numbers_to_arrays
from .._util.packing import FEW, Packed, pack, unpack
from .._util.pieces import rejoined
from .._util.result import AbstractResult
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .estimate import Estimate
from .result import FitResult

# For fewer data than this in float32, rounding to seven digits changes the NLL by less than a thousandth.
_LONG = 10_000


class Theta(NamedTuple):
    """All inputs of the objective other than the free parameters. They are passed as an argument, so that they can be
    differentiated and never make a jitted fit retrace. `params` and `data` may be `Packed`."""

    nll: Any
    params: PyTree
    data: PyTree
    up: Scalar


def prepare_data(data: PyTree) -> PyTree:
    """The data with Python numbers, lists of them and columns of tables converted to arrays.

    **Raises:** `TypeError` for data that contain a parameter.
    """
    if any(is_parameter(leaf) for leaf in jax.tree.leaves(data, is_leaf=is_parameter)):
        raise TypeError("data holds an mx.Parameter: the order is (nll, params, data)")
    return numbers_to_arrays(as_arrays(data), integers=True)


def prepare_params(params: PyTree) -> PyTree:
    """The start with Python numbers converted to arrays; its values are checked unless they are traced.

    **Raises:** `ValueError` naming the parameter whose value is not finite or outside its bounds.
    """
    if isinstance(params, AbstractResult | Estimate):
        where = "" if isinstance(params, FitResult) else " of the fit"
        raise TypeError(f"params is a tree of parameters, got a {type(params).__name__}: pass result.params{where}")
    flatten(params)  # detects one Parameter at two paths, before a map over the tree copies it
    params = numbers_to_arrays(params, integers=False)
    leaves, slots, _ = flatten(params)
    for slot in slots:
        if not _is_valid_start(leaves[slot.leaf]):
            _check_start(leaves[slot.leaf], slot)
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        # The `warnings` module shows a warning once per line of code: this one once per process.
        warnings.warn(
            "migrax is made for float64 and runs in float32 now, with few digits. Switch it on at the top of the "
            'program: jax.config.update("jax_enable_x64", True)',
            stacklevel=1,
        )
    return params


def float32_complaint(params: PyTree, data: PyTree) -> str | None:
    """The warning for starts in float32 and data in float64: starts made before float64 was switched on. If all are in
    float32, this is taken as intended.

    **Arguments:**

    - `params`: those of `prepare_params`; `data`: as the user gave them, so that a Python number has no dtype.
    """
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        return None
    if not any(getattr(x, "dtype", None) == np.float64 for x in jax.tree.leaves(data)):
        return None
    leaves, slots, _ = flatten(params)
    if not slots or any(value_of(leaves[slot.leaf]).dtype != np.float32 for slot in slots):
        return None
    return (
        f"the start of {slots[0].name!r} is float32, and so is the fit, but its data are float64: give starts in "
        "float64 (an mx.Parameter that is made before jax_enable_x64 is switched on has float32)"
    )


def float32_data_complaint(params: PyTree, data: PyTree) -> str | None:
    """The warning for long data in float32 and parameters in float64: sums of the data alone have seven digits.

    **Arguments:**

    - `params`, `data`: those of `prepare_params` and `prepare_data`.
    """
    long = [
        jax.tree_util.keystr(path)
        for path, x in jax.tree_util.tree_flatten_with_path(data)[0]
        if getattr(x, "dtype", None) == np.float32 and x.size >= _LONG
    ]
    leaves, slots, _ = flatten(params)
    if not long or not slots or any(value_of(leaves[slot.leaf]).dtype != np.float64 for slot in slots):
        return None
    return (
        f"data{long[0]} is float32, and the parameters are float64: what the likelihood sums of the data alone has "
        "seven digits, and so the minimum may miss some. Give the data in float64, as with x.astype(float)"
    )


def _is_valid_start(leaf: Any) -> bool:
    """Whether a start is finite and within its bounds. A quick test, as models may have hundreds of parameters."""
    arrays = (value_of(leaf), *bounds_of(leaf))
    if not is_concrete(*arrays):
        return False
    value = np.asarray(arrays[0])
    low, high = (np.asarray(s * np.inf if x is None else x) for s, x in zip((-1, 1), arrays[1:], strict=True))
    if value.ndim == 0 and low.ndim == 0 and high.ndim == 0:
        v, a, b = value.item(), low.item(), high.item()
        return not isinstance(v, complex) and math.isfinite(v) and a <= v <= b and a < b
    return bool(np.all(np.isfinite(value) & (low < high)) and np.all((value >= low) & (value <= high)))


def _check_start(leaf: Any, slot: Slot) -> None:
    value = value_of(leaf)
    if is_concrete(value) and not np.all(np.isfinite(value)):
        first_bad = _first_bad(~np.isfinite(value), slot.element_names())
        raise ValueError(f"the start of {first_bad[0]!r} is {np.ravel(value)[first_bad[1]]}; give a finite value")
    if is_parameter(leaf) and np.any(slot.free):
        _check_bounds(leaf, slot.element_names())


def _first_bad(bad: Any, names: list[str]) -> tuple[str, int]:
    index = int(np.argmax(np.ravel(bad)))
    return names[index], index


def _check_bounds(parameter: Any, names: list[str]) -> None:
    value = parameter.value
    low, high = (s * np.inf if b is None else b for s, b in zip((-1, 1), bounds_of(parameter), strict=True))
    if is_concrete(low, high):
        crossed = np.broadcast_to(np.asarray(low) >= np.asarray(high), value.shape)
        if np.any(crossed):
            raise ValueError(
                f"the lower bound of {_first_bad(crossed, names)[0]!r} is not below its upper bound: {low}, {high}"
            )
    if is_concrete(value, low, high):
        outside = (np.asarray(value) < np.asarray(low)) | (np.asarray(value) > np.asarray(high))
        if np.any(outside):
            name, index = _first_bad(outside, names)
            v, a, b = (np.ravel(np.broadcast_to(np.asarray(z), value.shape))[index] for z in (value, low, high))
            raise ValueError(f"the start of {name!r} is outside its bounds: {v} is not in [{a}, {b}]")


def check_up(up: ArrayLike) -> Array:
    """`up` as an array.

    **Raises:** `TypeError`, `ValueError` unless `up` is one positive number."""
    if isinstance(up, str) or up is None or jnp.shape(up) != () or jnp.iscomplexobj(up):
        raise TypeError(f"up must be a number (0.5 for minus log L, 1.0 for chi2), got {up!r}")
    if is_concrete(up) and not (np.asarray(up) > 0 and np.isfinite(up)):
        raise ValueError(f"up must be positive and finite (0.5 for minus log L, 1.0 for chi2), got {up!r}")
    return jnp.asarray(up, dtype=jnp.result_type(float))


def objective(
    nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar
) -> tuple[Callable[[Array, Theta], Scalar], Theta, Float[Array, " n"], Space]:
    """The NLL (its varying part: see `AbstractLikelihood`) over 2 UP as `fn(x, theta)`, with `theta`, the start vector
    and its space.

    `fn` is converted to a closed jaxpr, so that the user's Python code runs once, however often the program uses it.

    **Raises:** `TypeError`, `ValueError` unless the NLL is one real number.
    """
    x, space = start_and_space(nll, params)
    theta = Theta(eqx.filter(nll, eqx.is_array), pack(params), pack(data), up.astype(x.dtype))
    fn: Any = eqx.filter_closure_convert(varying_part(nll, space.names), x, theta)
    if x.size >= FEW or isinstance(theta.data, Packed):
        fn = rejoined(fn, x, theta)
    return differentiable(fn, x, theta, space), theta, x, space


def start_and_space(nll: AbstractLikelihood, params: PyTree) -> tuple[Float[Array, " n"], Space]:
    """The start vector, and its space with the kinks that the likelihood declares."""
    x, space = ravel(params)
    kinks = kinks_of(nll, params, space)
    return x, space if kinks is None else space.with_kinks(kinks)


def varying_part(nll: AbstractLikelihood, names: tuple[str, ...]) -> Callable[[Array, Theta], Scalar]:
    """The varying part of the NLL over 2 UP as a function of the free parameters, called `names`, and all else."""
    static = eqx.filter(nll, eqx.is_array, inverse=True)

    def fn(x: Array, theta: Theta) -> Scalar:
        likelihood = eqx.combine(theta.nll, static)
        varying = likelihood if likelihood.varying is None else likelihood.varying
        tree, data = resolve_at(unpack(theta.params), x), unpack(theta.data)
        function = nll.function if isinstance(nll, Function) else nll
        with hints(function, tree, data, names, isinstance(nll, AbstractJoint)):
            value = varying(tree, data)
        return check_scalar(value).astype(x.dtype) / (2 * theta.up)

    return fn


def kinks_of(nll: Any, params: PyTree, space: Space) -> Float[Array, "m n"] | None:
    """The kinks that a likelihood declares, up to `m` for each free parameter, padded with NaN.

    **Raises:** `ValueError` for kinks of an unknown parameter.
    """
    named = nll.kinks
    if not named:
        return None
    _, slots, _ = flatten(params)
    for name in named:
        constant = isinstance(params, Mapping) and name in params
        if not constant and name not in [slot.name for slot in slots]:
            raise ValueError(f"kinks: {unknown_name(name, [slot.name for slot in slots])}")
    m = max(np.shape(at)[0] if np.ndim(at) else 1 for at in named.values())
    columns = []
    for slot in slots:
        at = xp.asarray(named.get(slot.name, xp.nan), space.lower.dtype)
        at = at if at.ndim == 2 else xp.ravel(at)[:, None]  # two axes: a column for each entry
        column = xp.concatenate([at, xp.full((m - at.shape[0], at.shape[1]), xp.nan, at.dtype)])
        free = len(slot.free_names())
        columns.append(column if column.shape[1] == free else xp.broadcast_to(column, (m, free)))
    return xp.concatenate(columns, axis=1)


def constant_of(nll: Any, theta: Theta) -> Scalar | float:
    """The part of the value of the likelihood that depends on the data alone and is left out of the `objective`."""
    if nll.constant is None:
        return 0.0
    _, static = eqx.partition(nll, eqx.is_array)
    return eqx.combine(theta.nll, static).constant(unpack(theta.data))


def check_scalar(value: Any) -> Array:
    if isinstance(value, bool) or not isinstance(value, jax.Array | np.ndarray | np.generic | float | int | complex):
        hint = ": is its `return` missing?" if value is None else ""
        raise TypeError(f"nll(params, data) must return one real number, got {type(value).__name__}{hint}")
    value = jnp.asarray(value)
    if jnp.iscomplexobj(value):
        raise TypeError("nll(params, data) returned a complex number; it must return one real number")
    if value.shape != ():
        raise ValueError(f"nll(params, data) must return one number, got an array of shape {value.shape}; sum it")
    return value
