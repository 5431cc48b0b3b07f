"""Tests and intervals where no count is expected, so that any is impossible: one Poisson count without background.

Intervals: G. J. Feldman and R. D. Cousins, Phys. Rev. D 57 (1998) 3873, Tables II and VI. All else is in closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, poisson

import migrax as mx
from migrax._util.poisson_draw import draw_poisson

COUNT = mx.PoissonNLL(lambda p: jnp.atleast_1d(p["s"]))
PARAMS = {"s": mx.Parameter(1.0, lower=0.0)}
SCALED = mx.PoissonNLL(lambda p: jnp.atleast_1d(p["s"] * p["e"]))
SCALED_PARAMS = PARAMS | {"e": jnp.array(1.0)}
# the efficiency of the signal is known to a tenth
UNSURE = mx.Joint(
    {"n": mx.PoissonNLL(lambda p: jnp.atleast_1d(p["s"] * p["eff"])), "eff": mx.NormalConstraint("eff", 0.1)}
)
UNSURE_PARAMS = {"s": mx.Parameter(1.0, lower=0.0), "eff": mx.Parameter(1.0, lower=0.1)}
KEY = jax.random.key(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "cl", "lower", "upper"),
    [(2, 0.95, 0.36, 6.72), (2, 0.9, 0.53, 5.91), (0, 0.9, 0.0, 2.44), (1, 0.9, 0.11, 4.36)],
)
def test_feldman_cousins(n, cl, lower, upper):
    toys = mx.Toys(2000, KEY)
    found = mx.interval(COUNT, PARAMS, jnp.array([float(n)]), "s", cl=cl, kind="feldman-cousins", calculator=toys)
    at_bound = n == 0
    assert int(found.lower_status) == int(mx.LimitStatus.AT_BOUND if at_bound else mx.LimitStatus.FOUND)
    assert int(found.upper_status) == int(mx.LimitStatus.FOUND)
    assert abs(found.upper - upper) < 3 * found.upper_error + 0.005
    assert found.upper_error < 0.2
    if at_bound:
        assert found.lower == 0
    else:
        assert abs(found.lower - lower) < 3 * found.lower_error + 0.005
        assert found.lower_error < 0.06


@pytest.mark.slow
def test_with_an_uncertain_efficiency():
    """Impossible whatever the efficiency is, which a fit cannot know: the end is looked for before. The p-value at it
    is that of toys made and fitted by NumPy."""
    toys, share = mx.Toys(500, KEY), 0.1
    data = {"n": jnp.array([2.0]), "eff": jnp.array(1.0)}
    found = mx.interval(UNSURE, UNSURE_PARAMS, data, "s", cl=1 - share, kind="feldman-cousins", calculator=toys)
    assert bool(found.valid)

    def best(s, n, c):
        """Of the efficiency, with the signal held: a quadratic equation."""
        b = 0.01 * s - c
        return 0.5 * (-b + np.sqrt(b**2 + 0.04 * n))

    def statistic(s, n, c):
        e = best(s, n, c)
        ratio = np.where(n > 0, s * e / np.where(n > 0, n, 1), 1.0)
        return 2 * (s * e - n - n * np.log(ratio)) + ((e - c) / 0.1) ** 2

    rng = np.random.default_rng(1)
    for end, error in ((found.lower, found.lower_error), (found.upper, found.upper_error)):
        p = []
        for s in (float(end - 4 * error), float(end + 4 * error)):
            e = best(s, 2.0, 1.0)
            n, c = rng.poisson(s * e, 200_000).astype(float), rng.normal(e, 0.1, 200_000)
            p.append(np.mean(statistic(s, n, c) >= statistic(s, 2.0, 1.0)))
        assert min(p) < share < max(p)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 2])
def test_limit_by_toys(n):
    """CLs is the chance of no more counts, as the alternative has none."""
    found = mx.upper_limit(COUNT, PARAMS, jnp.array([float(n)]), "s", calculator=mx.Toys(2000, KEY))
    wanted = brentq(lambda s: poisson.cdf(n, s) - 0.05, 0.1, 20)
    assert abs(found.observed - wanted) < 4 * found.observed_error
    assert found.observed_error < 0.2
    assert np.all(np.abs(found.expected + np.log(0.05)) < 4 * found.expected_error)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 2, 5])
def test_asymptotic_limit(n):
    """Against the formulas with q = 2 (s - n - n log(s / n)), q_A = 2 s."""
    found = mx.upper_limit(COUNT, PARAMS, jnp.array([float(n)]), "s")

    def log_cls(s):
        q, q_a = 2 * (s - n - n * np.log(s / n)) if n else 2 * s, 2 * s
        q = q if s > n else 0.0
        far = np.sqrt(q) - np.sqrt(q_a)
        return norm.logcdf(-(far + np.sqrt(q_a))) - norm.logcdf(-far)

    wanted = brentq(lambda s: log_cls(s) - np.log(0.05), n + 0.1, 30)
    np.testing.assert_allclose(found.observed, wanted, rtol=1e-7)
    # the limit on s falls with the efficiency e as 1 / e
    limit = lambda e: mx.upper_limit(SCALED, SCALED_PARAMS | {"e": e}, jnp.array([float(n)]), "s").observed  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(limit))(jnp.array(1.0))
    np.testing.assert_allclose([value, slope], [wanted, -wanted], rtol=1e-6)


@pytest.mark.slow
def test_nothing_is_expected_and_something_seen():
    """The ratio is infinite and the p-value 0; nothing seen is what is expected: p = 1."""
    test = lambda n, s, statistic: mx.hypotest(  # noqa: E731
        COUNT, PARAMS, jnp.array([n]), "s", s, statistic=statistic, calculator=mx.Toys(1000, KEY)
    )
    seen, nothing = test(2.0, 0.0, mx.TMu()), test(0.0, 0.0, mx.TMu())
    assert bool(seen.valid)
    assert bool(nothing.valid)
    assert (float(seen.statistic), float(seen.p_sb)) == (np.inf, 0.0)
    assert (float(nothing.statistic), float(nothing.p_sb)) == (0.0, 1.0)
    assert int(seen.toys.tested.num_failed) == 0
    found = test(2.0, 0.0, mx.Q0())  # of the alternative, s = 1: all toys with a count are as impossible
    assert float(found.p_sb) == 0
    assert abs(found.p_b - (1 - np.exp(-1))) < 4 * found.p_b_error
    tested = test(2.0, 3.0, mx.QTilde())
    assert abs(tested.cls - poisson.cdf(2, 3)) < 4 * tested.cls_error
    np.testing.assert_allclose(tested.statistic, 2 * (1 - 2 * np.log(1.5)), rtol=1e-8)


def test_asymptotic_discovery_is_refused():
    """Asimov data that are impossible without a signal leave no width for the formulas: no number, and why."""
    found = mx.discovery(COUNT, PARAMS, jnp.array([2.0]), "s")
    assert int(found.status) == int(mx.Status.NOT_FINITE)
    assert np.isnan(found.p_value)
    exact = mx.TMu()(COUNT, PARAMS, jnp.array([2.0]), "s", 0.0)
    assert (float(exact.value), int(exact.status)) == (np.inf, int(mx.Status.VALID))


@pytest.mark.slow
def test_toys_from_a_point_without_counts():
    """Drawn there, and fitted from there: the fit of a count is the count."""
    zero = {"s": mx.Parameter(0.0, lower=0.0)}
    drawn = mx.fit_toys(COUNT, zero, mx.Toys(20, KEY))
    np.testing.assert_array_equal(drawn.values, 0.0)
    assert bool(jnp.all(drawn.valid))
    counts = np.arange(6.0)[:, None]
    found = mx.fit_toys(COUNT, zero, jnp.asarray(counts))
    assert bool(jnp.all(found.valid))
    np.testing.assert_allclose(found.values, counts, rtol=1e-6, atol=1e-12)


@pytest.mark.float32
def test_counts_drawn_at_next_to_nothing():
    """A mean so small that its inverse is no number draws nothing, as 0 does, and leaves the others alone."""
    tiny = float(jnp.finfo(jnp.result_type(float)).tiny)
    means = jnp.array([0.0, 0.1 * tiny, tiny, 3.0, 5000.0])
    drawn = draw_poisson(KEY, means, (4000,))
    np.testing.assert_array_equal(drawn[:, :3], 0.0)
    np.testing.assert_allclose(jnp.mean(drawn[:, 3:], axis=0), [3.0, 5000.0], rtol=0.05)
