"""`look_elsewhere`: the significance of the largest excess anywhere, after a search over a range."""

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
from .ensemble import Ensemble, Shown, is_traced
from .hypotest import check_kinds
from .statistics import Q0
from .toys import drawn_at, statistic_of

if TYPE_CHECKING:
    from pandas import DataFrame

_GROWTH = 0.3  # of the number of up-crossings, by the last halving of the spacing


class LookElsewhere(AbstractTabled):
    """A search for an excess over a range of a parameter (a mass).

    **Attributes**, of `m` points and `n` toys:

    - `grid`, `statistic`: shape `(m,)`, the points and q_0 of the data there; NaN where a fit failed.
    - `at`: the point of the largest excess; `local_p_value`, `local_significance` there.
    - `p_value`, `significance`: of an excess as large as that anywhere: the local p-value plus the expected number of
        up-crossings (Gross and Vitells), an upper bound that is close where it is small. `p_value_error` comes from
        the number of toys.
    - `trials`: the global p-value over the local one.
    - `level`, `crossings`, `crossings_error`: where up-crossings are counted, their mean number in toys without a
        signal, and its standard error.
    - `toys`: shape `(n,)`, the largest q_0 of each toy; NaN for those that failed, `failed` of `total`.
    - `toy_p_value`, `toy_p_value_error`, `toy_significance`: the fraction of toys whose largest excess is as large.
    - `status`: shape `(m,)`, an `mx.Status` for each point of the data.
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
    failed: int
    total: int
    name: str = eqx.field(static=True)
    where: str = eqx.field(static=True)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def to_pandas(self) -> "DataFrame":
        """The scan as a `pandas.DataFrame`, one row a point of the grid: the parameter that is scanned, the `statistic`
        of the data and the name of the `status`.

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
        if self.failed:
            title += f"\n{self.failed} of {self.total} toys failed and are left out"
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
    """The global significance of the largest excess over a range.

    ```python
    mx.look_elsewhere(likelihood, params, data, "signal", "mass", jnp.linspace(110.0, 150.0, 81), mx.Toys(100, key))
    ```

    At each point of the grid `where` is fixed there, and q_0 tests `poi` = 0, of the data and of toys without a signal
    (drawn where the data put the other parameters). The mean number of up-crossings of a low level u_0, which some ten
    toys tell, gives the global p-value at the height u of the excess:

        p = p_local + <N(u_0)> exp(-(u - u_0) / 2)

    (E. Gross and O. Vitells, Eur. Phys. J. C 70 (2010) 525, eqs. 3 and 6; p_local is half the tail of chi2, as only
    excesses count). Beside it stands the fraction of toys with an excess as large, which needs many of them.

    **Arguments:**

    - `likelihood`, `params`, `data`: as for `mx.fit`; the likelihood must be one that toys can be drawn from.
    - `poi`: the signal, 0 of which means none.
    - `where`: the parameter that is scanned, which has no meaning without a signal.
    - `grid`: its values, shape `(m,)`, ascending, and as close that q_0 does not change by much between two: half the
        width of the signal, or less.
    - `toys`: `mx.Toys(n, key)`: `m` fits for each.
    - `level`: u_0. Low levels are crossed often, so that few toys do.

    **Returns:** a `LookElsewhere`. A toy of which one fit fails is left out.

    **Raises:** `ValueError` for unknown or fixed parameters, a grid that is not ascending or leaves the bounds, or a
    level that is not positive; `TypeError` inside of `jax.jit`, or without toys.

    **Warns** if every second point of the grid would see much fewer up-crossings: then all of it misses some, too.
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
    signal, scanned = names(params)[positions_of(params, poi)], pick(params, where)[0][0].name
    observed, status, origin = _of_data(likelihood, params, data, poi, where, points)
    with Shown(toys.progress) as shown:
        found = [_of_toys(likelihood, fix(origin, where, v), data, poi, toys, shown) for v in points]
    q = np.stack([values for values, _ in found])
    good = np.all(np.stack([s for _, s in found]) == int(Status.VALID), axis=0)
    q = q[:, good]
    largest = np.full(toys.n, np.nan)
    largest[good] = np.max(q, axis=0)
    return _result(points, observed, status, q, largest, float(level), signal, scanned)


def positions_of(params: PyTree, poi: Where) -> int:
    """The position of the one parameter of interest.

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
    """q_0 at each point, its status, and the parameters of the fit without a signal."""

    def one(value: Array) -> tuple[Array, Array, PyTree]:
        there = fix(params, where, value)
        found = Q0()(nll, there, data, poi, 0.0)
        return found.value, found.status, found.conditional

    values, status, conditional = jax.jit(lambda v: jax.lax.map(one, v))(jnp.asarray(points))
    good = np.flatnonzero(np.asarray(status) == int(Status.VALID))
    if good.size == 0:
        raise ValueError("look_elsewhere: no fit of the data is valid: fit them without a signal first")
    # without a signal it does not matter where this is
    origin = jax.tree.map(lambda a: a[good[0]] if eqx.is_array(a) else a, conditional)
    return np.asarray(values), np.asarray(status), origin


def _of_toys(
    nll: Any, origin: PyTree, data: PyTree, poi: Where, toys: Toys, shown: Shown
) -> tuple[np.ndarray, np.ndarray]:
    """q_0 of each toy at one point."""
    index = (positions_of(origin, poi),)
    (drawn,) = drawn_at(toys, (origin,))
    values, status = statistic_of(Q0(), Ensemble(nll, origin, data, drawn, index, shown), jnp.zeros(1))
    return np.asarray(values), np.asarray(status)


def _result(
    points: np.ndarray,
    observed: np.ndarray,
    status: np.ndarray,
    q: Float[np.ndarray, "m n"],
    largest: np.ndarray,
    level: float,
    signal: str,
    scanned: str,
) -> LookElsewhere:
    best = int(np.nanargmax(observed))
    u = float(observed[best])
    local = float(jnp.exp(jax.scipy.special.log_ndtr(-jnp.sqrt(u))))
    n = q.shape[1]
    crossings = _crossings(q, level)
    mean = float(np.mean(crossings)) if n else np.nan
    # a mean of zero counts is not known without an error
    mean_error = float(np.sqrt(max(np.var(crossings) * n / max(n - 1, 1), 1 / n) / n)) if n else np.nan
    _check_density(mean, mean_error, float(np.mean(_crossings(q[::2], level))) if n else np.nan)
    factor = float(np.exp(-0.5 * (u - level)))
    p = min(local + mean * factor, 1.0)
    beyond = float(np.mean(largest[np.isfinite(largest)] >= u - 1e-7 * (1 + u))) if n else np.nan
    z = lambda p: float(formulas.significance(jnp.log(p))) if p > 0 else float("nan")  # noqa: E731
    return LookElsewhere(
        points,
        observed,
        status,
        at=float(points[best]),
        local_p_value=local,
        local_significance=float(np.sqrt(u)),
        p_value=p,
        p_value_error=mean_error * factor,
        significance=z(p),
        trials=p / local,
        level=level,
        crossings=mean,
        crossings_error=mean_error,
        toys=largest,
        toy_p_value=beyond,
        toy_p_value_error=float(formulas.fraction_error(jnp.asarray(beyond), jnp.asarray(n))),
        toy_significance=z(beyond),
        failed=int(np.sum(~np.isfinite(largest))),
        total=largest.size,
        name=signal,
        where=scanned,
    )


def _crossings(q: Float[np.ndarray, "m n"], level: float) -> Int[np.ndarray, " n"]:
    """How often each toy crosses the level upwards."""
    return np.sum((q[:-1] < level) & (q[1:] >= level), axis=0)


def _check_density(all_points: float, error: float, every_second: float) -> None:
    """The number converges with the square of the spacing: a third of the growth by the last halving is missing."""
    if all_points - every_second > max(_GROWTH * all_points, 3 * error):
        warnings.warn(
            f"the grid of look_elsewhere is too coarse: every second point of it sees {every_second:.3g} up-crossings "
            f"a toy, all of them {all_points:.3g}, so that some are missed, and the global p-value is too small",
            stacklevel=4,
        )
