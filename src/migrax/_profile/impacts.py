"""Impacts of nuisance parameters on a parameter of interest, and pulls."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.impacts import Impact, impacts_table
from .._display.rounding import share
from .._display.table import Table
from .._fit.result import FitResult
from .._fit.status import Status
from .._host import xp
from .._host.blocks import in_blocks
from .._host.evaluated import evaluated
from .._host.hosted import hosted
from .._parameters.select import Where
from .._parameters.space import ravel
from .._util.frames import data_frame
from .._util.result import AbstractTabled, names_of, refuse_many, refuse_traced
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .conditional_covariance import conditional_shift
from .fitted import Fitted, fitted, positions
from .minimum import Hold, at_minimum
from .minos import minos
from .on_host import direct
from .refit import refit as refit_at
from .retry import retry

if TYPE_CHECKING:
    from pandas import DataFrame


class Impacts(AbstractTabled):
    """The impacts of `k` nuisance parameters on a parameter of interest.

    **Attributes**, of shape `(k,)` unless stated otherwise; impacts are in the units of the parameter of interest:

    - `names`: the nuisance parameters; `poi`: the parameter of interest.
    - `postfit_down`, `postfit_up`: the shift of the parameter of interest if the nuisance parameter is fixed one fitted
        error below or above its fitted value and all other parameters are fitted again. NaN if this refit fails.
    - `prefit_down`, `prefit_up`: the same for the error before the fit; NaN if there is none.
    - `linear`: the impact to first order, from the covariance: the correlation times the error of `poi`.
    - `pulls`: (fitted value - value before the fit) / error before the fit; NaN if there is no such error.
    - `constraints`: fitted error / error before the fit; NaN if there is no such error.
    - `status`: shape `(k, 4)`, an `mx.Status` number for each refit: postfit down and up, prefit down and up.
    - `has_prefit`: whether there is an error before the fit.
    - `valid`: whether the postfit refits and, if there is an error before the fit, the prefit refits are valid.
    """

    postfit_down: Float[Array, "*batch k"]
    postfit_up: Float[Array, "*batch k"]
    prefit_down: Float[Array, "*batch k"]
    prefit_up: Float[Array, "*batch k"]
    linear: Float[Array, "*batch k"]
    pulls: Float[Array, "*batch k"]
    constraints: Float[Array, "*batch k"]
    status: Int[Array, "*batch k 4"]
    has_prefit: Bool[Array, "*batch k"]
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str = eqx.field(static=True)

    @property
    def valid(self) -> Bool[Array, "*batch k"]:
        good = self.status == int(Status.VALID)
        return jnp.all(good[..., :2], axis=-1) & (jnp.all(good[..., 2:], axis=-1) | ~self.has_prefit)

    def __repr__(self) -> str:
        if not is_concrete_tree(self):
            return f"Impacts(traced, on {self.poi}, of {len(self.names)} parameters)"
        if np.ndim(self.linear) != 1:
            good = share(int(np.sum(np.asarray(self.valid))), np.size(self.valid))
            return f"Impacts(on {self.poi}, shape={np.shape(self.linear)}, valid={good})"
        return self._table().text()

    def _repr_html_(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.linear) != 1:
            return f"<pre>{self!r}</pre>"
        return self._table().html()

    def _table(self) -> Table:
        refuse_many(self, np.shape(self.linear)[:-1], "a table")
        return impacts_table(self._records(), self.poi)

    def to_pandas(self) -> "DataFrame":
        """The impacts as a `pandas.DataFrame`, one row per nuisance parameter, one column per attribute. For many fits,
        each fit has its own rows, and the first level of the index, `lane`, is the number of the fit.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        shown = ("pulls", "constraints", "postfit_down", "postfit_up", "prefit_down", "prefit_up", "linear", "valid")
        columns = {name: getattr(self, name) for name in shown}
        return data_frame(columns, self.names, "name", np.shape(self.linear)[:-1])

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status), "valid": self.valid}

    def _records(self) -> list[Impact]:
        """What the table shows of each nuisance parameter."""
        columns = (
            self.pulls, self.constraints, self.postfit_down, self.postfit_up, self.prefit_down, self.prefit_up,
            self.linear,
        )  # fmt: skip
        rows = np.stack([np.asarray(column, float) for column in columns], axis=1).tolist()
        failed = ~np.asarray(self.valid)
        return [
            Impact(name, row[0], row[1], (row[2], row[3]), (row[4], row[5]), row[6], bool(bad))
            for name, row, bad in zip(self.names, rows, failed, strict=True)
        ]


def impacts(
    nll: Callable[[Any, Any], ArrayLike],
    result: FitResult,
    data: PyTree,
    poi: Where,
    where: Where | None = None,
    *,
    prefit: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    errors: Literal["hesse", "minos"] = "hesse",
    linear: bool = False,
    refit: bool = False,
) -> Impacts:
    """The impact of each nuisance parameter on the parameter of interest `poi`: the shift of `poi` when the nuisance
    parameter is fixed one error above or below its value and all other parameters are fitted again.

    ```python
    mx.impacts(nll, result, data, "mu", prefit={"alpha": (0.0, 1.0)})  # constrained to 0 ± 1
    ```

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `poi`: the parameter of interest: one free parameter, or one entry of a vector.
    - `where`: the nuisance parameters. Default: all free parameters except the parameter of interest.
    - `prefit`: by name, a pair `(value, error)` before the fit for each constrained parameter: the value and error of
        its constraint; for a vector parameter, arrays of its shape, or numbers. The constraints of an `mx.Joint`
        provide their own; values given here take precedence.
    - `errors`: the errors after the fit: `"hesse"`, or `"minos"` for asymmetric errors.
    - `linear`: if `True`, impacts to first order alone, from the covariance, for thousands of parameters: no fit is
        repeated, and the impacts up and down are those of `linear`, of opposite sign. `status` is then that of the
        fit.
    - `refit`: if `True`, a result that is not valid is fitted again first. Otherwise it raises an error.

    **Returns:** an `Impacts`. If a refit fails, or a nuisance parameter would leave its bounds, this impact is NaN and
    has its own status; the others are not affected.

    **Raises:** `ValueError`, `TypeError` for unknown or fixed parameters, a `poi` among the nuisance parameters, errors
    before the fit that are not positive, an invalid result, errors of MINOS with `linear=True`.

    **Warns** if the result belongs to other data or another likelihood: the given ones are then fitted first.
    """
    checked = fitted(nll, result, data, "impacts", refit)
    target, result = checked.positions(poi, "impacts"), checked.result
    if len(target) != 1:
        raise ValueError(f"poi must be one parameter, got {[result.names[i] for i in target]}")
    index = _nuisances(result, where, target[0])
    if prefit is not None and not isinstance(prefit, Mapping):
        raise TypeError(f"prefit must be a dict of name: (value, error), got {type(prefit).__name__}")
    prefit_by_name = _prefit_of_constraints(checked, index) | dict(prefit or {})
    center, width = _prefit_arrays(result, prefit_by_name, target[0], index)
    if linear and errors != "hesse":
        raise ValueError("impacts: linear=True takes errors='hesse', the covariance alone")
    result, down, up = _errors(checked, index, errors)
    if linear:
        return _linear_impacts(result, index, target[0], center, width)
    refits = _refits(checked._replace(result=result), _shifted(result, index, down, up, width))
    return _impacts_of(result, index, target[0], center, width, *refits)


@hosted
def _shifted(
    result: FitResult, index: tuple[int, ...], down: Array, up: Array, width: Array
) -> tuple[Array, Array, Array]:
    """The lanes of refits: a parameter, the value to hold it at, and whether this is within its bounds. Four for each
    parameter: down and up by its errors after the fit, and by those before."""
    at = jnp.array(index, int)
    value = result.values[at]
    # Parameters without an error before the fit are not shifted.
    shift = jnp.nan_to_num(width)
    points = jnp.stack([value + down, value + up, value - shift, value + shift], axis=-1)
    inside = (points >= result.lower[at][:, None]) & (points <= result.upper[at][:, None])
    return jnp.repeat(at, points.shape[1]), points.reshape(-1), inside.reshape(-1)


@hosted
def _impacts_of(
    result: FitResult,
    index: tuple[int, ...],
    target: int,
    center: Array,
    width: Array,
    x: Float[Array, "lanes n"],
    flat_status: Int[Array, " lanes"],
) -> Impacts:
    status = flat_status.reshape(len(index), 4)
    shift_of_poi = ravel(result.params)[1].nearest(x.reshape(*status.shape, -1) - result.values)[..., target]
    impact = jnp.where(status == int(Status.VALID), shift_of_poi, jnp.nan)
    return _as_impacts(result, index, target, center, width, impact, status)


@hosted
def _linear_impacts(result: FitResult, index: tuple[int, ...], target: int, center: Array, width: Array) -> Impacts:
    """The impacts to first order: moved by `d`, a parameter moves the target by `d` times covariance over variance."""
    at = jnp.array(index, int)
    linear, error = _linear(result, at, target)
    before = linear * width / jnp.where(error > 0, error, 1.0)
    impact = jnp.stack([-linear, linear, -before, before], axis=-1)
    status = jnp.broadcast_to(result.status, impact.shape)
    return _as_impacts(result, index, target, center, width, impact, status)


def _linear(result: FitResult, at: Array, target: int) -> tuple[Array, Array]:
    """The impacts to first order of the errors after the fit, and these."""
    assert result.covariance is not None
    error = result.errors[at]
    return result.covariance.matrix[target, at] / jnp.where(error > 0, error, 1.0), error


def _as_impacts(
    result: FitResult,
    index: tuple[int, ...],
    target: int,
    center: Array,
    width: Array,
    impact: Float[Array, "k 4"],
    status: Int[Array, "k 4"],
) -> Impacts:
    at, has_prefit = jnp.array(index, int), jnp.isfinite(width)
    impact = jnp.where((jnp.arange(4) < 2) | has_prefit[:, None], impact, jnp.nan)
    linear, error = _linear(result, at, target)
    return Impacts(
        postfit_down=impact[:, 0],
        postfit_up=impact[:, 1],
        prefit_down=impact[:, 2],
        prefit_up=impact[:, 3],
        linear=linear,
        pulls=(result.values[at] - center) / width,
        constraints=error / width,
        status=status,
        has_prefit=has_prefit,
        names=tuple(result.names[i] for i in index),
        poi=result.names[target],
    )


def _nuisances(result: FitResult, where: Where | None, target: int) -> tuple[int, ...]:
    if where is None:
        index = tuple(i for i in range(len(result.names)) if i != target)
    else:
        index = positions(result, where, "impacts")
    if not index:
        raise ValueError("impacts: there is no nuisance parameter")
    if target in index:
        raise ValueError(
            f"impacts: the parameter of interest {result.names[target]!r} is among the nuisance parameters"
        )
    return index


def _prefit_of_constraints(fitted: Fitted, index: tuple[int, ...]) -> dict[str, tuple[Array, Array]]:
    """Values and errors before the fit that the likelihood itself provides for nuisance parameters, entry by entry."""
    result, data = fitted.result, fitted.data
    nll: Any = fitted.nll
    if nll.prefit is None:
        return {}
    nuisances = {result.names[i] for i in index}
    return {name: (value, error) for name, value, error in _prefit(nll, result.params, data) if name in nuisances}


@evaluated
def _prefit(nll: Any, params: PyTree, data: PyTree) -> list[tuple[str, Array, Array]]:
    return list(nll.prefit(params, data))


def _prefit_arrays(
    result: FitResult, prefit: Mapping[str, tuple[ArrayLike, ArrayLike]], target: int, index: tuple[int, ...]
) -> tuple[Array, Array]:
    """Values and errors before the fit, in the order of `index`; NaN for parameters without any."""
    n = len(result.names)
    known: Any = np.full((2, n), np.nan, result.values.dtype)
    place = {name: i for i, name in enumerate(result.names)}
    for name, pair in prefit.items():
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(f"prefit[{name!r}] must be a pair (value, error), got {pair!r}")
        at = np.asarray([place[name]] if name in place else positions(result, name, "impacts"))
        if target in at:
            raise ValueError(f"prefit[{name!r}] is of the parameter of interest: impacts are those of the others")
        for row, numbers in enumerate(pair):
            array = np if is_concrete(numbers) else jnp
            flat = array.ravel(array.asarray(numbers, result.values.dtype))
            if flat.size not in (1, at.size):
                raise ValueError(f"prefit[{name!r}] has {flat.size} numbers for {at.size} parameters")
            known = _with_numbers(known, row, at, flat)
        error = known[1, at]
        if is_concrete(error) and not np.all(np.asarray(error) > 0):
            raise ValueError(f"prefit[{name!r}]: the error must be positive, got {pair[1]!r}")
    return _rows(known, index)


def _with_numbers(known: Any, row: int, at: Int[np.ndarray, " m"], numbers: Any) -> Any:
    if not isinstance(known, np.ndarray) or not isinstance(numbers, np.ndarray):
        return jnp.asarray(known).at[row, at].set(numbers)
    known = known.copy()
    known[row, at] = numbers
    return known


@hosted
def _rows(known: Array, index: tuple[int, ...]) -> tuple[Array, Array]:
    at = jnp.array(index, int)
    return known[0, at], known[1, at]


def _errors(
    fitted: Fitted, index: tuple[int, ...], errors: str
) -> tuple[FitResult, Float[Array, " k"], Float[Array, " k"]]:
    """The signed errors after the fit, down and up, and the fit: another one if `minos` met a deeper minimum."""
    result = fitted.result
    if errors == "hesse":
        return result, *_both_ways(result.errors, index)
    if errors != "minos":
        raise ValueError(f"errors must be 'hesse' or 'minos', got {errors!r}")
    asymmetric = minos(*fitted, [result.names[i] for i in index])
    return asymmetric.result, asymmetric.lower, asymmetric.upper


@hosted
def _both_ways(errors: Array, index: tuple[int, ...]) -> tuple[Array, Array]:
    picked = errors[jnp.array(index, int)]
    return -picked, picked


def _refits(fitted: Fitted, lanes: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    return retry(
        _conditional_fits,
        fitted,
        lanes,
        lambda fits: ~np.isin(np.asarray(fits[1]), (int(Status.VALID), int(Status.OUTSIDE_BOUNDS))),
    )


@direct
def _conditional_fits(
    fitted: Fitted,
    lanes: tuple[Array, Array, Array],
    skip: Bool[Array, " lanes"],
    robust: bool,
) -> tuple[Float[Array, "lanes n"], Int[Array, " lanes"]]:
    """Conditional fits, one per lane: a parameter, the value to hold it at, and whether this is within its bounds."""
    minimum = at_minimum(fitted)
    dtype = minimum.x.dtype

    def one(i: Array, value: Array, inside: Array, skip: Array) -> tuple[Array, Array]:
        row = xp.arange(minimum.x.size) == i
        is_usable = inside & xp.isfinite(value)
        held = xp.where(row & is_usable, value.astype(dtype), minimum.x)
        rows = row.astype(dtype)[None]
        start = held + xp.where(row, 0.0, conditional_shift(minimum.covariance, rows, held - minimum.x))
        conditional = refit_at(minimum, Hold(rows, held), minimum.space.clip(start), skip | ~is_usable, robust)
        return conditional.x, xp.where(is_usable, conditional.status, int(Status.OUTSIDE_BOUNDS))

    return in_blocks(one, (*lanes, skip), minimum.x.size, with_matrices=robust)
