"""`hypotest`: one hypothesis, its p-values and CLs; `discovery`: the hypothesis of no signal."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from .._fit import fit
from .._minimum import positions
from .._parameter import Where, is_concrete
from .._status import Status
from . import formulas
from .asymptotic import Asymptotic, PValues, p_values, reference
from .statistics import Q0, AbstractStatistic, QTilde, StatisticValue


class HypoTest(eqx.Module):
    """The test of one value of a parameter.

    **Attributes:**

    - `statistic`: the test statistic of the data.
    - `p_sb`: the p-value of the value tested; `p_b` that of the alternative (for limits: without a signal); `cls` their
        ratio, NaN for a test of discovery.
    - `expected_cls`: shape `(5,)`, where the data are those of the alternative or off by -2, -1, 1, 2 standard
        deviations: the first is the lowest. `expected_p_sb` likewise. NaN for two-sided statistics.
    - `best`: the fitted parameter of interest.
    - `status`: an `mx.Status`; unless it is `VALID`, all numbers are NaN. `valid`: whether it is.
    - `fits`: the `StatisticValue` of the data, with the fits.
    """

    statistic: Float[Array, ""]
    p_sb: Float[Array, ""]
    p_b: Float[Array, ""]
    cls: Float[Array, ""]
    expected_p_sb: Float[Array, "5"]
    expected_cls: Float[Array, "5"]
    best: Float[Array, " k"]
    status: Int[Array, ""]
    fits: StatisticValue
    name: str = eqx.field(static=True)
    value: Float[Array, " k"]

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.status == int(Status.VALID)

    def __repr__(self) -> str:
        if not is_concrete(self.p_sb) or np.ndim(self.p_sb) != 0:
            return f"HypoTest({self.name}, shape={jnp.shape(self.p_sb)})"
        from . import display

        return display.hypotest_text(self)


def hypotest(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree,
    poi: Where,
    value: ArrayLike,
    *,
    statistic: AbstractStatistic | None = None,
    calculator: Asymptotic | None = None,
) -> HypoTest:
    """Tests a value of a parameter: p-values, CLs (A. L. Read, J. Phys. G 28 (2002) 2693) and what is expected of them.

    ```python
    mx.hypotest(nll, params, data, "mu", 1.0).cls
    ```

    Works under `jax.jit` and `jax.vmap` (over values, data, templates), and is differentiable with respect to all of
    these.

    **Arguments:**

    - `nll`, `params`, `data`: as for `mx.fit`; the likelihood needs Asimov data.
    - `poi`: the parameter of interest, by name or as for `mx.fix`; several for `mx.TMu()`.
    - `value`: the value tested, one number a parameter of interest.
    - `statistic`: default `mx.QTilde()`.
    - `calculator`: default `mx.Asymptotic()`.

    **Returns:** a `HypoTest`; all NaN, with the status that says why, unless all of its fits are valid.

    **Raises:** `ValueError` for a parameter that is unknown or fixed, or a value outside its bounds; `TypeError` for a
    likelihood without Asimov data.
    """
    statistic = QTilde() if statistic is None else statistic
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(statistic, calculator)
    free = fit(nll, params, data)
    index = positions(free, poi, "hypotest")
    q = statistic.from_fit(nll, free, data, poi, value)
    there = reference(nll, q.free, data, index, calculator.at(statistic))
    q_a = statistic.from_fit(nll, there.free, there.data, poi, value)
    names = ", ".join(free.names[i] for i in index)
    return _result(statistic, q, p_values(statistic, q, q_a, there.status), names, value)


def check_kinds(statistic: Any, calculator: Any) -> None:
    """**Raises:** `TypeError` for a class in place of an instance, or something else."""
    for what, thing, kind in (
        ("statistic", statistic, AbstractStatistic),
        ("calculator", calculator, Asymptotic),
    ):
        if isinstance(thing, type):
            raise TypeError(f"{what} must be an instance: write mx.{thing.__name__}()")
        if not isinstance(thing, kind):
            raise TypeError(f"{what} must be one of migrax's, such as mx.QTilde() or mx.Asymptotic(); got {thing!r}")


def _result(statistic: AbstractStatistic, q: StatisticValue, p: PValues, name: str, value: ArrayLike) -> HypoTest:
    good = p.status == int(Status.VALID)
    told = lambda log_p: jnp.where(good, jnp.exp(log_p), jnp.nan)  # noqa: E731
    nothing = jnp.nan if statistic.discovery else 0.0
    # by position, as "cls" is the name of something else to a class that is called
    return HypoTest(
        jnp.where(good, q.value, jnp.nan),
        told(p.log_sb),
        told(p.log_b),
        told(p.log_sb - p.log_b + nothing),
        expected_p_sb=told(p.expected_log_sb),
        expected_cls=told(p.expected_log_sb - p.expected_log_b + nothing),
        best=q.best,
        status=p.status,
        fits=q,
        name=name,
        value=jnp.atleast_1d(jnp.asarray(value, q.value.dtype)),
    )


class Discovery(eqx.Module):
    """The test of the hypothesis that there is no signal.

    **Attributes:**

    - `p_value`, `significance`: of the data; the significance is that of a one-sided normal tail.
    - `expected_significance`: the median of the alternative, and `expected_p_value`, shape `(5,)`, the p-value where
        the data are 2, 1, 0, -1, -2 standard deviations off: the first is the lowest.
    - `statistic`: q_0 of the data.
    - `best`: the fitted signal.
    - `status`: an `mx.Status`; unless it is `VALID`, all numbers are NaN. `valid`: whether it is.
    - `fits`: the `StatisticValue` of the data, with the fits.
    """

    p_value: Float[Array, ""]
    significance: Float[Array, ""]
    expected_p_value: Float[Array, "5"]
    expected_significance: Float[Array, ""]
    statistic: Float[Array, ""]
    best: Float[Array, ""]
    status: Int[Array, ""]
    fits: StatisticValue
    name: str = eqx.field(static=True)

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.status == int(Status.VALID)

    def __repr__(self) -> str:
        if not is_concrete(self.p_value) or np.ndim(self.p_value) != 0:
            return f"Discovery({self.name}, shape={jnp.shape(self.p_value)})"
        from . import display

        return display.discovery_text(self)


def discovery(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree,
    poi: Where,
    value: ArrayLike = 0.0,
    *,
    calculator: Asymptotic | None = None,
) -> Discovery:
    """How much the data speak against the hypothesis that there is no signal, and how much one expects of them.

    (G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71 (2011) 1554, eqs. 52, 53 and 79.) Works under
    `jax.jit` and `jax.vmap`, and is differentiable.

    **Arguments:**

    - `nll`, `params`, `data`, `poi`: as for `mx.hypotest`.
    - `value`: the value that means no signal.
    - `calculator`: default `mx.Asymptotic()`, which expects a signal of 1; of another strength:
        `mx.Asymptotic(alternative=2.0)`.

    **Returns:** a `Discovery`; all NaN, with the status that says why, unless all of its fits are valid.

    **Raises:** as `mx.hypotest`.
    """
    calculator = Asymptotic() if calculator is None else calculator
    statistic = Q0()
    check_kinds(statistic, calculator)
    free = fit(nll, params, data)
    index = positions(free, poi, "discovery")
    q = statistic.from_fit(nll, free, data, poi, value)
    there = reference(nll, q.free, data, index, calculator.at(statistic))
    q_a = statistic.from_fit(nll, there.free, there.data, poi, value)
    p = p_values(statistic, q, q_a, there.status)
    good = p.status == int(Status.VALID)
    nan = lambda x: jnp.where(good, x, jnp.nan)  # noqa: E731
    return Discovery(
        p_value=nan(jnp.exp(p.log_sb)),
        significance=nan(formulas.root(q.value)),
        expected_p_value=nan(jnp.exp(p.expected_log_sb)),
        expected_significance=nan(formulas.root(q_a.value)),
        statistic=nan(q.value),
        best=q.best[0],
        status=p.status,
        fits=q,
        name=free.names[index[0]],
    )
