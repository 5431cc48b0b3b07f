"""`look_elsewhere`: the global significance of the largest excess in a search over a range."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._display.table import Table
from .._fit.status import Status
from .._likelihoods.base import as_likelihood
from .._parameters.fix import fix
from .._parameters.names import names
from .._parameters.select import Where, pick, select
from .._toys.source import Toys
from .._util.frames import beside, data_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.typing import PyTree
from . import formulas
from .cells import number, with_its_error
from .ensemble import Shown, is_traced
from .hypotest import check_kinds
from .statistics import Q0
from .stored import Hypotheses
from .toys import drawn_at

if TYPE_CHECKING:
    from pandas import DataFrame

_GROWTH = 0.3  # limit on the relative growth of the number of up-crossings by the last halving of the spacing


class LookElsewhere(AbstractTabled):
    """A search for an excess over a range of a parameter, such as a mass.

    **Attributes**, for `m` points and `n` toys:

    - `grid`, `statistic`: shape `(m,)`, the points, in the units of the parameter, and q_0 of the data at each of them;
        NaN where a fit failed.
    - `at`: the point of the largest excess. `local_p_value`, `local_significance`: those at this point.
    - `p_value`, `significance`: the global ones, for an excess as large as this anywhere in the range. The p-value is
        the local one plus the expected number of up-crossings (Gross and Vitells), an upper bound that is close to the
        p-value if it is small. `p_value_error`: its standard error due to the finite number of toys.
    - `trials`: the trials factor, the global p-value divided by the local one.
    - `level`, `crossings`, `crossings_error`: the level whose up-crossings are counted, their mean number in toys
        without a signal, and its standard error.
    - `toys`: shape `(n,)`, the largest q_0 of each toy; NaN for toys with a failed fit. `num_failed`: the number of
        these toys; `total`: the number of all toys.
    - `toy_p_value`, `toy_p_value_error`, `toy_significance`: the fraction of toys whose largest excess is at least as
        large as that of the data, its standard error, and the significance.
    - `status`: shape `(m,)`, an `mx.Status` number for each point of the data.
    - `name`, `where`: the names of the signal strength and of the scanned parameter.
    """

    grid: Float[np.ndarray, " m"]
    statistic: Float[np.ndarray, " m"]
    status: Int[np.ndarray, " m"]
    at: float
    local_p_value: float
    local_significance: float
    p_value: float
    p_value_error: float
    significance: float
    trials: float
    level: float
    crossings: float
    crossings_error: float
    toys: Float[np.ndarray, " n"]
    toy_p_value: float
    toy_p_value_error: float
    toy_significance: float
    num_failed: int
    total: int
    name: str = eqx.field(static=True)
    where: str = eqx.field(static=True)

    @property
    def failed(self) -> int:
        """An older name of `num_failed`."""
        return self.num_failed

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def to_pandas(self) -> "DataFrame":
        """The scan as a `pandas.DataFrame`, one row per point of the grid: the scanned parameter, the `statistic` of
        the data and the name of the `status`.

        **Raises:** `ImportError` without pandas.
        """
        refuse_traced(self, "to_pandas")
        others = {"statistic": self.statistic, "status": names_of(Status, self.status)}
        return data_frame(beside([(self.where, self.grid)], others), range(len(self.grid)), "point")

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status)}

    def _table(self) -> Table:
        """The largest excess: its significance where it is, and anywhere."""
        rows = [["Local", f"{float(self.local_p_value):.4g}", number(self.local_significance)]]
        for name, p, error, z in (
            ("Global", self.p_value, self.p_value_error, self.significance),
            ("Global, by toys", self.toy_p_value, self.toy_p_value_error, self.toy_significance),
        ):
            off = float(formulas.significance_error(jnp.asarray(z), jnp.asarray(error)))
            rows.append([name, with_its_error(p, error), with_its_error(z, off)])
        crossings = with_its_error(self.crossings, self.crossings_error)
        title = (
            f"Largest excess of {self.name} at {self.where} = {float(self.at):.6g}; "
            f"{crossings} up-crossings of q = {self.level:.4g}"
        )
        if self.num_failed:
            title += f"\n{self.num_failed} of {self.total} toys failed and are left out"
        return Table(title, ["", "p-value", "Significance"], rows)


def look_elsewhere(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree,
    poi: Where,
    where: Where,
    grid: ArrayLike,
    toys: Toys,
    *,
    level: float = 0.5,
) -> LookElsewhere:
    """Returns the global significance of the largest excess in a range of a parameter.

    ```python
    mx.look_elsewhere(likelihood, params, data, "signal", "mass", jnp.linspace(110.0, 150.0, 81), mx.Toys(100, key))
    ```

    With `where` fixed at each point of the grid, q_0 tests `poi` = 0 in the data and in toys without a signal (drawn
    with the other parameters from the conditional fit to the data). The mean number <N(u_0)> of up-crossings of a low
    level u_0, for which about ten toys are enough, gives the global p-value for an excess with q_0 = u:

        p = p_local + <N(u_0)> exp(-(u - u_0) / 2)

    (E. Gross and O. Vitells, Eur. Phys. J. C 70 (2010) 525, eqs. 3 and 6; p_local is half the tail of chi2, because
    only excesses count, not deficits). The fraction of toys with an excess at least as large is also returned; it needs
    many toys.

    **Arguments:**

    - `likelihood`, `params`, `data`: as for `mx.fit`; the likelihood must be one that toys can be drawn from.
    - `poi`: the strength of the signal; 0 means no signal.
    - `where`: the parameter that is scanned, which has no effect without a signal.
    - `grid`: its values, shape `(m,)`, ascending. They must be so dense that q_0 changes little between neighbours: at
        most half the width of the signal apart.
    - `toys`: `mx.Toys(n, key)`, each with `m` fits.
    - `level`: u_0. A low level is crossed often, so that few toys suffice.

    **Returns:** a `LookElsewhere`. A toy with a failed fit is left out.

    **Raises:** `ValueError` for unknown or fixed parameters, a grid that is not ascending or leaves the bounds, or a
    level that is not positive; `TypeError` inside `jax.jit`, or without toys.

    **Warns** if every second point of the grid shows far fewer up-crossings than all points: the grid is then too
    coarse and probably misses some as well.
    """
    likelihood = as_likelihood(likelihood)
    check_kinds(Q0(), toys)
    if not isinstance(toys, Toys):
        raise TypeError("look_elsewhere counts up-crossings in toys: give it mx.Toys(100, jax.random.key(0))")
    if is_traced(likelihood, params, data, grid, toys.key):
        raise TypeError("look_elsewhere makes toys in batches and cannot be inside jax.jit, jax.vmap or jax.grad")
    if toys.importance or not level > 0:
        raise ValueError("look_elsewhere takes toys without importance=True" if level > 0 else "level must be positive")
    points = _check_grid(params, where, grid)
    signal_name, scanned_name = names(params)[positions_of(params, poi)], pick(params, where)[0][0].name
    observed, status, origin = _of_data(likelihood, params, data, poi, where, points)
    with Shown(toys.progress) as progress:
        hypotheses = Hypotheses(likelihood, data, (positions_of(fix(origin, where, points[0]), poi),), progress)
        by_point = [_of_toys(hypotheses, fix(origin, where, v), toys, f", {scanned_name} = {v:.6g}") for v in points]
    q = np.stack([values for values, _ in by_point])
    is_valid = np.all(np.stack([s for _, s in by_point]) == int(Status.VALID), axis=0)
    q = q[:, is_valid]
    largest = np.full(toys.part.n, np.nan)
    largest[is_valid] = np.max(q, axis=0)
    return _result(points, observed, status, q, largest, float(level), signal_name, scanned_name)


def positions_of(params: PyTree, poi: Where) -> int:
    """Returns the position of the one parameter of interest.

    **Raises:** `ValueError` for several.
    """
    index = select(params, poi)
    if len(index) != 1:
        raise ValueError(f"look_elsewhere is of one signal, got {[names(params)[i] for i in index]}")
    return index[0]


def _check_grid(params: PyTree, where: Where, grid: ArrayLike) -> Float[np.ndarray, " m"]:
    points = np.asarray(grid, dtype=float)
    if points.ndim != 1 or points.size < 2 or np.any(np.diff(points) <= 0):
        raise ValueError("the grid must be ascending values in one axis, two or more")
    slots = [slot for slot, _ in pick(params, where)]
    if len(slots) != 1 or slots[0].size != 1:
        raise ValueError(f"look_elsewhere scans one parameter, got {[slot.name for slot in slots]}")
    for value in (points[0], points[-1]):
        fix(params, where, value)  # raises outside of the bounds
    return points


def _of_data(
    nll: Any, params: PyTree, data: PyTree, poi: Where, where: Where, points: Float[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray, PyTree]:
    """Returns q_0 at each point, its status, and the parameters of the fit without a signal."""

    def test_at(value: Array) -> tuple[Array, Array, PyTree]:
        fixed = fix(params, where, value)
        test = Q0()(nll, fixed, data, poi, 0.0)
        return test.value, test.status, test.conditional

    values, status, conditional = jax.jit(lambda v: jax.lax.map(test_at, v))(jnp.asarray(points))
    valid_points = np.flatnonzero(np.asarray(status) == int(Status.VALID))
    if valid_points.size == 0:
        raise ValueError("look_elsewhere: no fit of the data is valid: fit them without a signal first")
    # without a signal the fit is the same at all points
    origin = jax.tree.map(lambda a: a[valid_points[0]] if eqx.is_array(a) else a, conditional)
    return np.asarray(values), np.asarray(status), origin


def _of_toys(hypotheses: Hypotheses, origin: PyTree, toys: Toys, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns q_0 of each toy at one point, and its status."""
    (toys_here,) = drawn_at(toys, (hypotheses.settled(toys, origin),))
    values, status = hypotheses.ensemble(toys_here, where).statistic(Q0(), jnp.zeros(1))
    return np.asarray(values), np.asarray(status)


def _result(
    points: np.ndarray,
    observed: np.ndarray,
    status: np.ndarray,
    q: Float[np.ndarray, "m n"],
    largest: np.ndarray,
    level: float,
    signal_name: str,
    scanned_name: str,
) -> LookElsewhere:
    best = int(np.nanargmax(observed))
    height = float(observed[best])
    p_local = float(jnp.exp(jax.scipy.special.log_ndtr(-jnp.sqrt(height))))
    n = q.shape[1]
    crossings = _crossings(q, level)
    mean = float(np.mean(crossings)) if n else np.nan
    # a mean of zero counts has an error, too
    mean_error = float(np.sqrt(max(np.var(crossings) * n / max(n - 1, 1), 1 / n) / n)) if n else np.nan
    _check_density(mean, mean_error, float(np.mean(_crossings(q[::2], level))) if n else np.nan)
    attenuation = float(np.exp(-0.5 * (height - level)))
    p = min(p_local + mean * attenuation, 1.0)
    toy_p = float(np.mean(largest[np.isfinite(largest)] >= height - 1e-7 * (1 + height))) if n else np.nan
    z = lambda p: float(formulas.significance(jnp.log(p))) if p > 0 else float("nan")  # noqa: E731
    return LookElsewhere(
        points,
        observed,
        status,
        at=float(points[best]),
        local_p_value=p_local,
        local_significance=float(np.sqrt(height)),
        p_value=p,
        p_value_error=mean_error * attenuation,
        significance=z(p),
        trials=p / p_local,
        level=level,
        crossings=mean,
        crossings_error=mean_error,
        toys=largest,
        toy_p_value=toy_p,
        toy_p_value_error=float(formulas.fraction_error(jnp.asarray(toy_p), jnp.asarray(n))),
        toy_significance=z(toy_p),
        num_failed=int(np.sum(~np.isfinite(largest))),
        total=largest.size,
        name=signal_name,
        where=scanned_name,
    )


def _crossings(q: Float[np.ndarray, "m n"], level: float) -> Int[np.ndarray, " n"]:
    """Returns the number of up-crossings of the level in each toy."""
    return np.sum((q[:-1] < level) & (q[1:] >= level), axis=0)


def _check_density(all_points: float, error: float, every_second: float) -> None:
    """Warns if the grid is too coarse. The number of up-crossings converges with the square of the spacing, so that a
    third of its growth by the last halving is still missing."""
    if all_points - every_second > max(_GROWTH * all_points, 3 * error):
        warnings.warn(
            f"the grid of look_elsewhere is too coarse: every second point of it sees {every_second:.3g} up-crossings "
            f"a toy, all of them {all_points:.3g}, so that some are missed, and the global p-value is too small",
            stacklevel=4,
        )
