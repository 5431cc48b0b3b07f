"""`interval`: central confidence intervals, and those of Feldman and Cousins, of one parameter."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from .._fit import fit
from .._minimum import positions
from .._minos import minos
from .._objective import prepare
from .._parameter import Where, is_concrete
from .._result import FitResult
from .._search import Side
from .._toy_source import Toys
from .asymptotic import Asymptotic
from .ensemble import Ensemble, Shown
from .hypotest import check_kinds
from .limit_status import LimitStatus
from .noisy_root import Heights, Root, find_roots
from .statistics import Q0, AbstractStatistic, QMu, TMu
from .toy_limit import alone, check_toys, heights, one_error
from .toys import drawn_at, p_value, statistic_of

Kind = Literal["central", "feldman-cousins"]


class Interval(eqx.Module):
    """A confidence interval of one parameter.

    **Attributes:**

    - `lower`, `upper`: its ends, in the parameter's units.
    - `lower_status`, `upper_status`: an `mx.LimitStatus` for each: `FOUND`, or `AT_BOUND` for an interval that reaches
        to the parameter's bound, which then is the end; all others are NaN.
    - `lower_error`, `upper_error`: by toys, the standard errors of the ends that the number of toys leaves; else
        `None`.
    - `best`: the fitted parameter.
    - `free`: the free fit.
    - `cl`, `kind`, `name`: what was asked for.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    lower_status: Int[Array, ""]
    upper_status: Int[Array, ""]
    best: Float[Array, ""]
    free: FitResult
    lower_error: Float[Array, ""] | None
    upper_error: Float[Array, ""] | None
    cl: float = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    name: str = eqx.field(static=True)

    @property
    def valid(self) -> Bool[Array, ""]:
        """Whether both ends are there."""
        return jnp.isfinite(self.lower) & jnp.isfinite(self.upper)

    def __repr__(self) -> str:
        if not is_concrete(self.lower) or np.ndim(self.lower) != 0:
            return f"Interval({self.name}, shape={jnp.shape(self.lower)})"
        from . import display

        return display.interval_text(self)


def interval(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree,
    poi: Where,
    *,
    cl: float = 0.6827,
    kind: Kind = "central",
    calculator: Asymptotic | Toys | None = None,
) -> Interval:
    """A confidence interval of one parameter, the others fitted at each value.

    ```python
    mx.interval(nll, params, data, "mu", cl=0.9, kind="feldman-cousins", calculator=mx.Toys(1000, key))
    ```

    - `"central"`: each end is where the data are (1 - `cl`) / 2 improbable on its side. With `mx.Asymptotic()` that is
        where the likelihood has risen by the quantile of chi2, as `mx.minos` finds it; with toys, p-values of the
        one-sided likelihood ratios.
    - `"feldman-cousins"`: all values whose likelihood ratio to the best one within the parameter's bounds is not among
        the 1 - `cl` most extreme ones of toys (G. J. Feldman and R. D. Cousins, Phys. Rev. D 57 (1998) 3873), with the
        other parameters where the data put them at each value (M. A. Acero et al., arXiv:2207.14353). It becomes
        one-sided by itself, and is never empty. By toys only.

    **Arguments:**

    - `nll`, `params`, `data`, `poi`: as for `mx.hypotest`, with one parameter of interest.
    - `cl`: the confidence level.
    - `calculator`: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`: `n` toys are drawn and fitted at each of some
        ten values. By toys not for the inside of `jax.jit` and `jax.vmap`, and without a derivative.

    **Returns:** an `Interval`.

    **Raises:** as `mx.hypotest`; `ValueError` for a `cl` that is not between 0 and 1, another `kind`, several
    parameters, too few toys, or Feldman and Cousins without toys.
    """
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(TMu(), calculator)
    if isinstance(cl, bool) or not isinstance(cl, int | float) or not 0 < cl < 1:
        raise ValueError(f"cl must be a number between 0 and 1, got {cl!r}")
    if kind not in ("central", "feldman-cousins"):
        raise ValueError(f"kind must be 'central' or 'feldman-cousins', got {kind!r}")
    if isinstance(calculator, Toys):
        check_toys((nll, params, data), calculator, _share(cl, kind), "interval")
    free = fit(nll, params, data)
    index = positions(free, poi, "interval")
    if len(index) != 1:
        raise ValueError(f"interval is of one parameter, got {[free.names[i] for i in index]}")
    if isinstance(calculator, Toys):
        return _by_toys(nll, free, data, index, cl, kind, calculator)
    if kind != "central":
        raise ValueError("intervals of Feldman and Cousins are by toys: calculator=mx.Toys(1000, jax.random.key(0))")
    return _by_minos(nll, free, data, index[0], cl)


def _by_minos(nll: Any, free: FitResult, data: PyTree, i: int, cl: float) -> Interval:
    best, name = free.values[i], free.names[i]
    if is_concrete(free.valid) and not bool(free.valid):
        failed = jnp.asarray(int(LimitStatus.FIT_FAILED))
        nothing = jnp.full_like(best, jnp.nan)
        return Interval(nothing, nothing, failed, failed, best, free, None, None, cl, "central", name)
    sides = minos(nll, free, data, name, cl=cl)
    ends = []
    for off, status, bound in (
        (sides.lower[0], sides.lower_status[0], free.lower[i]),
        (sides.upper[0], sides.upper_status[0], free.upper[i]),
    ):
        found, at_bound = status == int(Side.FOUND), status == int(Side.AT_LIMIT)
        end = jnp.where(found, best + off, jnp.where(at_bound, bound, jnp.nan))
        told = jnp.where(at_bound, int(LimitStatus.AT_BOUND), int(LimitStatus.FIT_FAILED))
        ends.append((end, jnp.where(found, int(LimitStatus.FOUND), told)))
    (lower, lower_status), (upper, upper_status) = ends
    return Interval(lower, upper, lower_status, upper_status, best, free, None, None, cl, "central", name)


def _share(cl: float, kind: str) -> float:
    """The p-value at the ends."""
    return 1 - cl if kind == "feldman-cousins" else 0.5 * (1 - cl)


def _by_toys(
    nll: Any, free: FitResult, data: PyTree, index: tuple[int, ...], cl: float, kind: str, calculator: Toys
) -> Interval:
    i = index[0]
    best, name = free.values[i], free.names[i]
    if not bool(free.valid):
        roots = [Root(np.nan, np.nan, LimitStatus.FIT_FAILED)] * 2
    else:
        _, data = prepare(free.params, data)
        share = _share(cl, kind)
        error = one_error(nll, free, data, i)
        with Shown(calculator.progress) as shown:
            roots = [_end(nll, free, data, index, sign, share, kind, error, calculator, shown) for sign in (-1, 1)]
    if any(root.status == LimitStatus.NONE_ALLOWED for root in roots):  # nothing is left between the ends
        roots = [Root(np.nan, np.nan, LimitStatus.NONE_ALLOWED)] * 2
    ends = [
        _placed(root, sign, best, bound)
        for root, sign, bound in zip(roots, (-1, 1), (free.lower[i], free.upper[i]), strict=True)
    ]
    (lower, lower_status), (upper, upper_status) = ends
    lower_error, upper_error = (jnp.asarray(root.error) for root in roots)
    return Interval(lower, upper, lower_status, upper_status, best, free, lower_error, upper_error, cl, kind, name)


def _end(
    nll: Any,
    free: FitResult,
    data: PyTree,
    index: tuple[int, ...],
    sign: int,
    share: float,
    kind: str,
    error: float,
    calculator: Toys,
    shown: Shown,
) -> Root:
    """One end: where the p-value, which is 1 at the best fit, has fallen to `share`."""
    best = float(free.values[index[0]])
    bound = float((free.upper if sign > 0 else free.lower)[index[0]])
    room = abs(bound - best)
    if room == 0:
        return Root(np.nan, np.nan, LimitStatus.BEYOND_BOUND)
    # an estimate on the other side of the value tested is no evidence against it
    one_sided: AbstractStatistic = QMu() if sign > 0 else Q0()
    statistic = TMu() if kind == "feldman-cousins" else one_sided
    level = float(np.log(share))

    def look(distance: float) -> Heights:
        value = bound if distance >= room else best + sign * distance
        values = jnp.asarray([value], free.values.dtype)
        q = statistic.at(nll, free, data, index, values)
        if not bool(q.valid):
            return Heights(np.full(1, np.nan), np.full(1, np.nan))
        (toys,) = drawn_at(calculator, (q.conditional,))
        drawn = alone(*statistic_of(statistic, Ensemble(nll, q.conditional, data, toys, index, shown), values))
        p, e = p_value(drawn, q.value)
        return heights(p[None], e[None], drawn, level)

    z = float(-np.log(share)) ** 0.5 + 0.5  # a little more than the standard deviations of a normal estimate
    return find_roots(look, [0.7 * z * error, z * error], room, -level, 1)[0]


def _placed(root: Root, sign: int, best: Array, bound: Array) -> tuple[Array, Array]:
    """The end of the interval: a curve that has not fallen at the bound ends there."""
    status = LimitStatus.AT_BOUND if root.status == LimitStatus.BEYOND_BOUND else root.status
    value = bound if status == LimitStatus.AT_BOUND else best + sign * root.distance
    return value, jnp.asarray(int(status))
