"""`Parameter`, which marks an array as one that a fit may change."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._hints import other_packages
from .._hints.calls import refuse_strangers
from .._util.tracing import is_concrete


class Parameter(eqx.Module):
    """An array that a fit may change, with optional bounds, or with a period.

    ```python
    class Peak(eqx.Module):
        mu: mx.Parameter
        sigma: mx.Parameter


    model = Peak(mx.Parameter(1.0), mx.Parameter(2.0, lower=0.0))
    ```

    A parameter's name is its path in the tree: `mu`, `signal.mu`, `gamma[3]`. A likelihood is called with each
    `Parameter` replaced by its array ("resolved"): a model uses `self.mu`, never `self.mu.value`.

    A parameter such as a phase may have a `period`: `mx.Parameter(0.0, period=2 * jnp.pi)` has no bounds, and is
    reported within one period, [-period/2, period/2), or [lower, lower + period) if `lower` is given.

    The presence of a bound or a period and whether the parameter is fixed are static (changing them may retrace a
    jitted fit). The value, the bounds and the period are arrays: changing them never retraces, and they may be traced
    and vmapped.
    """

    value: Array
    lower: Array | None
    upper: Array | None
    fixed: bool | tuple[bool, ...] = eqx.field(static=True)
    period: Array | None

    @other_packages.keywords(other_packages.PARAMETER)
    def __init__(
        self,
        value: ArrayLike,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        fixed: bool | Sequence[bool] | np.ndarray = False,
        period: ArrayLike | None = None,
    ):
        """**Arguments:**

        - `value`: the start value, a number or an array of numbers of any shape. Integers are converted to floats.
        - `lower`, `upper`: the bounds, in the units of `value` and broadcastable to its shape. `None`: no bound.
            An infinite entry: no bound for that entry.
        - `fixed`: if `True`, the fit does not change the value. An array of bools of the shape of `value` fixes some
            entries; the attribute is then a tuple of bools in row-major order.
        - `period`: the period of the likelihood, in the units of `value` and broadcastable to its shape. An infinite
            entry: that entry is not periodic. Fits, toys and refits report the parameter in [-period/2, period/2) or,
            if `lower` is given, which then is no bound, in [lower, lower + period). The start may lie anywhere;
            `upper` cannot be given. A fit to a likelihood without this period (a Gaussian constraint on a phase has
            none) is valid only if its minimum lies within these limits.

        **Raises:**

        - `TypeError`: `value` holds booleans or complex numbers, or has a unit; `fixed` is not bool.
        - `ValueError`: `fixed` has another shape; a bound or a period does not broadcast to the value or is NaN; the
            lower bound is not below the upper; a period is not positive, or is given with an upper bound.
        """
        self.value = _floating(value)
        self.lower = None if lower is None else _checked_bound(lower, "lower", self.value)
        self.upper = None if upper is None else _checked_bound(upper, "upper", self.value)
        self.fixed = _checked_fixed(fixed, jnp.shape(self.value))
        self.period = None if period is None else _checked_bound(period, "period", self.value)

    def __repr__(self) -> str:
        arrays = {"lower": self.lower, "upper": self.upper, "period": self.period}
        if not is_concrete(self.value, *arrays.values()):
            return f"Parameter(traced, shape={jnp.shape(self.value)}, fixed={self.fixed})"
        bounds = "".join(f", {name}={_show(bound)}" for name, bound in arrays.items() if bound is not None)
        fixed = "" if self.fixed is False else f", fixed={self.fixed}"
        return f"Parameter({_show(self.value)}{bounds}{fixed})"

    def __check_init__(self) -> None:
        if self.period is not None:
            if self.upper is not None:
                raise ValueError(
                    "a parameter with a period takes no upper bound: it is reported in [lower, lower + period). If it "
                    "cannot go all round, give both bounds and no period"
                )
            if is_concrete(self.period) and not np.all(np.asarray(self.period) > 0):
                raise ValueError(f"the period must be positive, got {_show(self.period)}")
            if self.lower is not None and is_concrete(self.lower) and not np.all(np.isfinite(np.asarray(self.lower))):
                raise ValueError(
                    f"the lower end of a period must be finite, got {_show(self.lower)}; leave it out for -period/2"
                )
        if self.lower is not None and self.upper is not None and is_concrete(self.lower, self.upper):
            lower, upper = np.broadcast_arrays(np.asarray(self.lower), np.asarray(self.upper))
            if np.any(lower >= upper):
                raise ValueError(
                    f"the lower bound must be below the upper bound, got {_show(lower)} and {_show(upper)}"
                )


def is_parameter(node: Any) -> bool:
    return isinstance(node, Parameter)


def bounds_of(leaf: Any) -> tuple[Array | None, Array | None]:
    """The bounds of a leaf: `None` unless it is a `Parameter` without a period, whose `lower` would be no bound."""
    return (leaf.lower, leaf.upper) if is_parameter(leaf) and leaf.period is None else (None, None)


def _show(x: Any) -> str:
    return np.array2string(np.asarray(x), threshold=8)


def _floating(value: ArrayLike) -> Array:
    if isinstance(value, str):
        raise TypeError(
            f"a Parameter begins with its value, got {str(value)!r}: its name is its place in the tree, such as the "
            f"key in {{{str(value)!r}: mx.Parameter(1.0)}}"
        )
    refuse_strangers(value, "the value of a Parameter is")
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        value = np.asarray(value)
    dtype = jnp.result_type(value)
    if jnp.issubdtype(dtype, jnp.integer):
        dtype = jnp.result_type(float)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"a Parameter holds real numbers, got {_short_text(value)} of dtype {dtype}")
    return jnp.asarray(value, dtype=dtype)


def _checked_fixed(fixed: Any, shape: tuple[int, ...]) -> bool | tuple[bool, ...]:
    """`fixed` as one bool if all entries agree, else as one bool for each entry."""
    flags = np.asarray(fixed)
    if flags.dtype != bool:
        raise TypeError(f"fixed must be True or False, or an array of them; got {fixed!r}")
    if flags.shape not in ((), shape) and flags.shape != (int(np.prod(shape)),):
        raise ValueError(f"fixed has shape {flags.shape}, the value {shape}")
    if flags.size == 0:
        return False
    return bool(flags.flat[0]) if np.all(flags == flags.flat[0]) else tuple(bool(f) for f in flags.flat)


def _short_text(value: Any) -> str:
    return f"shape {np.shape(value)}" if np.size(value) > 4 else str(value)


def _broadcasts_to(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, into) == into
    except ValueError:
        return False


def _noun(which: str) -> str:
    return "" if which == "period" else " bound"


def _checked_bound(bound: ArrayLike, which: str, value: Array) -> Array:
    refuse_strangers(bound, f"the {which}{_noun(which)} is")
    if isinstance(bound, str):
        raise TypeError(
            f"the {which}{_noun(which)} is {bound!r}: a parameter has no name of its own, its path in the tree is it"
        )
    if isinstance(bound, tuple | list) and value.ndim == 0:
        raise TypeError(
            f"the {which}{_noun(which)} is {bound}: give two numbers, mx.Parameter(value, lower=..., upper=...)"
        )
    if not _broadcasts_to(np.shape(bound), value.shape):
        raise ValueError(
            f"the {which}{_noun(which)} of shape {np.shape(bound)} does not broadcast to the value's {value.shape}"
        )
    if is_concrete(bound) and np.any(np.isnan(np.asarray(bound, dtype=float))):
        raise ValueError(f"the {which}{_noun(which)} is NaN; leave it out for no bound")
    return jnp.asarray(bound, dtype=value.dtype)
