"""MINOS: asymmetric errors from the profile likelihood, for all parameters and both sides in one call."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.minos import Sides, minos_html, minos_table, minos_text
from .._display.rounding import share
from .._display.table import Table
from .._fit.fit import fit
from .._fit.result import FitResult
from .._host import xp
from .._host.blocks import in_blocks
from .._host.hosted import hosted
from .._parameters.names import unknown_name
from .._parameters.select import Where
from .._parameters.space import ravel, update
from .._util.frames import data_frame
from .._util.result import AbstractTabled, names_of, refuse_many, refuse_traced
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .crossing import Aim, Found, Side, search
from .fitted import Fitted, fitted
from .levels import rise
from .minimum import LOWER, at_minimum
from .on_host import direct
from .retry import retry

if TYPE_CHECKING:
    from pandas import DataFrame

_MAX_NEW_MINIMA = 5


class MinosError(NamedTuple):
    """The signed errors of one parameter, and the status of each (an `mx.Side`)."""

    lower: Array
    upper: Array
    lower_status: Array
    upper_status: Array


class Minos(AbstractTabled):
    """The asymmetric errors of `k` parameters: the distances at which the NLL has risen by UP times a quantile of chi2.

    **Attributes:**

    - `names`: the `k` parameters.
    - `lower`, `upper`: shape `(k,)`, signed offsets from the fitted values (negative for `lower`), in the user's
        units. NaN where the search failed.
    - `lower_status`, `upper_status`: shape `(k,)`, an `mx.Side` number for each. `AT_LIMIT` means that the NLL does not
        rise far enough before the parameter's bound, so that the error extends to the bound. For a parameter with a
        period it means that the NLL does not rise far enough anywhere: the interval is the whole period, half of it on
        each side, and the other parameters in `lower_points` and `upper_points` are NaN.
    - `valid`: shape `(k,)`, whether both sides are `FOUND` or `AT_LIMIT`.
    - `lower_points`, `upper_points`: shape `(k, n_free)`, all free parameters at the crossings; NaN if not valid.
    - `rise`: how far the NLL rises to the crossings, in units of UP.
    - `stats`: `num_gradients`, shape `(k, 2)`, the gradients evaluated for the lower and the upper side.
    - `result`: the fit that the errors belong to, which also shows them in its table. If a deeper minimum was found,
        this is the fit of that minimum, not the one that was given.
    """

    lower: Float[Array, "*batch k"]
    upper: Float[Array, "*batch k"]
    lower_status: Int[Array, "*batch k"]
    upper_status: Int[Array, "*batch k"]
    lower_points: Float[Array, "*batch k n"]
    upper_points: Float[Array, "*batch k n"]
    result: FitResult
    rise: Float[Array, "*batch"]
    stats: dict[str, Array]
    names: tuple[str, ...] = eqx.field(static=True)

    def __repr__(self) -> str:
        if not is_concrete_tree(self):
            return f"Minos(traced, names={self.names})"
        if np.ndim(self.lower) != 1:
            good = int(np.sum(np.asarray(self.valid)))
            return f"Minos(names={self.names}, shape={np.shape(self.lower)}, valid={share(good, np.size(self.valid))})"
        return minos_text(self._records())

    def _repr_html_(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.lower) != 1:
            return f"<pre>{self!r}</pre>"
        return minos_html(self._records())

    def _table(self) -> Table:
        refuse_many(self, np.shape(self.lower)[:-1], "a table")
        return minos_table(self._records())

    def to_pandas(self) -> "DataFrame":
        """The errors as a `pandas.DataFrame`, one row per parameter: `lower`, `upper`, `lower_status`, `upper_status`
        (names of `mx.Side`), and `valid`. For many fits, each fit has its own rows, and the first level of the index,
        `lane`, is the number of the fit.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        columns = {"lower": self.lower, "upper": self.upper, **self._words()}
        return data_frame(columns, self.names, "name", np.shape(self.lower)[:-1])

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), **self._words()}

    def _words(self) -> dict[str, Any]:
        lower, upper = (names_of(Side, side) for side in (self.lower_status, self.upper_status))
        return {"lower_status": lower, "upper_status": upper, "valid": self.valid}

    def _records(self) -> list[Sides]:
        """What the table shows of each parameter."""
        flags = np.stack([np.asarray(self.lower_status), np.asarray(self.upper_status)], axis=1)
        errors = np.stack([np.asarray(self.lower), np.asarray(self.upper)], axis=1)

        def pair(values: np.ndarray) -> tuple[bool, bool]:
            return bool(values[0]), bool(values[1])

        return [
            Sides(
                name,
                (float(e[0]), float(e[1])),
                pair(f <= int(Side.AT_LIMIT)),
                pair(f == int(Side.AT_LIMIT)),
                pair(f == int(Side.FAILED)),
                pair(f == int(Side.NEW_MINIMUM)),
            )
            for name, e, f in zip(self.names, errors, flags, strict=True)
        ]

    def __getitem__(self, name: str) -> MinosError:
        """`minos["mu"].upper`: the errors of one parameter, numbers or, for a vector parameter, arrays `(size,)`.

        **Raises:** `ValueError` for an unknown name.
        """
        if name in self.names:
            i: Any = self.names.index(name)
        else:
            i = np.asarray([k for k, own in enumerate(self.names) if own.startswith((f"{name}[", f"{name}."))], int)
            if i.size == 0:
                raise ValueError(unknown_name(str(name), self.names))
        return MinosError(*(a[..., i] for a in (self.lower, self.upper, self.lower_status, self.upper_status)))

    @property
    def valid(self) -> Bool[Array, "*batch k"]:
        return (self.lower_status <= int(Side.AT_LIMIT)) & (self.upper_status <= int(Side.AT_LIMIT))


def minos(
    nll: Callable[[Any, Any], ArrayLike],
    result: FitResult,
    data: PyTree = None,
    where: Where | None = None,
    *,
    cl: ArrayLike = 0.6827,
    refit: bool = False,
) -> Minos:
    """The asymmetric errors of MINOS: the distances from the minimum at which the profile of the NLL has risen by the
    amount that belongs to the confidence level.

    All crossings are found at once. Each is a root of a system of equations: the NLL has risen by this amount, and its
    derivatives with respect to the other parameters are zero (D. J. Venzon and S. H. Moolgavkar, Appl. Statist. 37
    (1988) 87). Where this search fails, the crossing is bracketed. Works under `jax.jit`, `jax.vmap` and
    differentiation, as `mx.fit` does.

    ```python
    errors = mx.minos(nll, result, data)
    errors["mu"].lower, errors["mu"].upper
    ```

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `where`: the parameters: a name, a function that picks nodes, or a sequence of these. Default: all free ones.
    - `cl`: the confidence level: a probability below 1, or a number of standard deviations from 1 on. The default is
        one standard deviation.
    - `refit`: if `True`, a result that is not valid is fitted again first. Otherwise it raises an error.

    **Returns:** a `Minos`. If the search finds a point with an NLL below the minimum, the fit is repeated from there
    with a warning, and `Minos.result` is the new fit; under `jax.jit` that side has the status `NEW_MINIMUM`.

    **Raises:** `ValueError`, `TypeError` for unknown or fixed parameters, a `cl` out of range, an invalid result.
    """
    checked = fitted(nll, result, data, "minos", refit)
    index, result = checked.positions(where, "minos"), checked.result
    level = rise(cl).astype(result.values.dtype)
    if jnp.ndim(level) != 0:
        raise ValueError(f"minos takes one cl, got shape {jnp.shape(level)}: jax.vmap over it")
    return _minos_of(*sides(checked, _both_sides(index, level), "minos"), index, level)


def quick_minos(nll: Any, result: FitResult, data: PyTree, where: Where) -> Minos:
    """As `minos`, by the quick search alone: the sides that it does not find have the status `FAILED`. For many toys in
    one program, which it makes far smaller."""
    checked = fitted(nll, result, data, "minos", False)
    index, level = checked.positions(where, "minos"), rise(0.6827).astype(result.values.dtype)
    lanes = _both_sides(index, level)
    return _minos_of(result, _sides(checked, lanes, jnp.zeros(2 * len(index), bool), False), index, level)


@hosted
def _both_sides(index: tuple[int, ...], level: Array) -> tuple[Array, Array, Array]:
    """The lanes of all lower and upper sides: parameter, side and rise."""
    side, which = jnp.repeat(jnp.array([-1.0, 1.0]), len(index)), jnp.tile(jnp.asarray(index), 2)
    return which, side, jnp.broadcast_to(level, which.shape)


def sides(fitted: Fitted, lanes: tuple[Array, Array, Array], what: str) -> tuple[FitResult, Found]:
    """The crossings of many sides at once (parameter, minus or plus one, rise), and the fit that they belong to. If a
    search meets a likelihood lower than at the minimum, the fit is repeated from there, and so are all searches."""
    crossings = _search_all(fitted, lanes)
    for _ in range(_MAX_NEW_MINIMA):
        lower_fit = _lower_minimum(fitted, lanes[0], crossings, what)
        if lower_fit is None:
            break
        fitted = fitted._replace(result=lower_fit)
        crossings = _search_all(fitted, lanes)
    return fitted.result, crossings


def _lower_minimum(fitted: Fitted, which: Array, crossings: Found, what: str) -> FitResult | None:
    """The fit from a point at which a search met a lower likelihood than at the minimum. `None` if there is no such
    point, if the fit finds no lower minimum, or inside `jit`, where this is not known."""
    if not is_concrete(crossings.status):
        return None
    lower_lanes = np.flatnonzero(np.asarray(crossings.status) == int(Side.NEW_MINIMUM))
    if lower_lanes.size == 0:
        return None
    nll, result, data = fitted
    lower_fit = fit(nll, update(result.params, crossings.x[lower_lanes[0]]), data, up=result.up)
    names = ", ".join(dict.fromkeys(result.names[i] for i in np.asarray(which)[lower_lanes]))
    drop = float(result.nll) - float(lower_fit.nll)
    if not (bool(lower_fit.valid) and drop > LOWER * float(result.up)):
        event = f"{what} met along {names} a lower likelihood than at the minimum of the result"
        reason = (
            f"the fit from there is not valid. {lower_fit.message}"
            if not bool(lower_fit.valid)
            else ("the fit from there ends at no lower minimum: are nll and data those of the fit?")
        )
        warnings.warn(f"{event}, but {reason}", stacklevel=4)
        return None
    warnings.warn(
        f"{what} met a lower minimum along {names}: the NLL is {float(lower_fit.nll):.6g}, it was "
        f"{float(result.nll):.6g}. The fit was repeated from there: use the `result` that comes with this answer",
        stacklevel=4,
    )
    return lower_fit


def _search_all(fitted: Fitted, lanes: tuple[Array, Array, Array]) -> Found:
    return retry(_sides, fitted, lanes, lambda crossings: np.asarray(crossings.status) == int(Side.FAILED))


@hosted
def _minos_of(result: FitResult, crossings: Found, index: tuple[int, ...], level: Array) -> Minos:
    k, at = len(index), jnp.asarray(index)
    status = crossings.status.reshape(2, k)
    is_valid = (status == int(Side.FOUND)) | (status == int(Side.AT_LIMIT))
    points = jnp.where(is_valid[..., None], crossings.x.reshape(2, k, -1), jnp.nan)
    offset = points[:, jnp.arange(k), at] - result.values[at]
    space = ravel(result.params)[1]
    if space.has_period:
        # A periodic parameter at its limit: the NLL does not rise far enough anywhere, so no conditional fit was made.
        is_whole_period = (status == int(Side.AT_LIMIT)) & jnp.isfinite(space.period[at])
        others = jnp.arange(points.shape[-1]) != at[:, None]
        points = space.wrap(jnp.where(is_whole_period[..., None] & others, jnp.nan, points))
    names = tuple(result.names[i] for i in index)
    table = jnp.full((2, len(result.names)), jnp.nan, offset.dtype).at[:, at].set(offset)
    result = eqx.tree_at(lambda r: r.minos, result, (table[0], table[1]), is_leaf=lambda x: x is None)
    stats = {"num_gradients": crossings.num_gradients.reshape(2, k).T}
    return Minos(offset[0], offset[1], status[0], status[1], points[0], points[1], result, level, stats, names)


@direct
def _sides(
    fitted: Fitted,
    lanes: tuple[Array, Array, Array],
    skip: Bool[Array, " lanes"],
    robust: bool,
) -> Found:
    """The crossings of many sides, one per lane: a parameter, minus or plus one, and the rise."""
    minimum = at_minimum(fitted)
    which, side, rise = lanes

    def one(i: Array, s: Array, rise: Array, skip: Array) -> Found:
        row = xp.arange(minimum.x.size) == i
        direction = xp.where(row, s * minimum.sizes, 0.0)
        # The initial guess is the crossing of a parabola.
        aim = Aim(row.astype(direction.dtype)[None], None, direction, xp.sqrt(rise), rise)
        return search(minimum, aim, skip, robust)

    dtype = minimum.x.dtype
    return in_blocks(one, (which, side.astype(dtype), rise.astype(dtype), skip), minimum.x.size, with_matrices=robust)
