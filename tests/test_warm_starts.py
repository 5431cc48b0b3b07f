"""Fits with a parameter held that start from a prediction at which the likelihood is not finite.

A signal of 40 events beside a background of 10 that a nuisance parameter moves: along the tangent from the minimum a
larger signal makes the small second bin's expectation negative, a negative signal that of the first bin, where neither
the tangent nor the minimum's own nuisance parameter gives a finite likelihood.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

import migrax as mx

SIGNAL, BACKGROUND, SHIFT = np.array([40.0, 0.5]), np.array([10.0, 3.0]), np.array([4.0, 1.5])
COUNTS = np.array([14.0, 4.0])


def expected(p):
    return p["mu"] * jnp.asarray(SIGNAL) + BACKGROUND + p["a"] * jnp.asarray(SHIFT)


NLL = mx.Joint({"n": mx.PoissonNLL(expected), "a": mx.NormalConstraint("a", 1.0)})
UPPER = 9.0
PARAMS = {"mu": mx.Parameter(0.5), "a": mx.Parameter(0.0, upper=UPPER)}
FAR = np.array([-0.9, -0.7, -0.5, 0.5, 1.0, 2.0, 5.0])


def data_of(counts, a=0.0):
    return {"n": jnp.asarray(counts), "a": jnp.asarray(a)}


@functools.cache
def fitted():
    return mx.fit(NLL, PARAMS, data_of(COUNTS))


def conditional(mu, counts=COUNTS, measured=0.0):
    """The NLL and `a` with `mu` held, by SciPy: the root of a derivative that only rises, or the bound below it."""
    first = np.max(-(mu * SIGNAL + BACKGROUND) / SHIFT)
    at = lambda a: mu * SIGNAL + BACKGROUND + a * SHIFT  # noqa: E731
    slope = lambda a: np.sum(SHIFT * (1 - counts / at(a))) + a - measured  # noqa: E731
    a = min(brentq(slope, first + 1e-12, 40.0, xtol=1e-14, rtol=1e-14), UPPER)
    ratio = np.where(counts > 0, at(a) / np.where(counts > 0, counts, 1.0), 1.0)
    return np.sum(at(a) - counts - counts * np.log(ratio)) + 0.5 * (a - measured) ** 2, a


def statistic(mu, counts=COUNTS, measured=0.0):
    """-2 log of the likelihood ratio."""
    options = {"xatol": 1e-12}
    free = minimize_scalar(
        lambda m: conditional(m, counts, measured)[0], bounds=(-0.9, 3), method="bounded", options=options
    )
    return 2 * (conditional(mu, counts, measured)[0] - free.fun)


def slope_of_statistic(mu):
    """Its derivative by mu: that of the NLL alone, the rest is at its minimum."""
    _, a = conditional(mu)
    return 2 * np.sum(SIGNAL * (1 - COUNTS / (mu * SIGNAL + BACKGROUND + a * SHIFT)))


def test_profile():
    """A point that has no finite likelihood within the bounds of `a` fails alone."""
    found = mx.profile(NLL, fitted(), data_of(COUNTS), "mu", np.append(FAR, -3.0))
    np.testing.assert_array_equal(found.status[:-1], int(mx.Status.VALID))
    np.testing.assert_allclose(found.rise[:-1], [statistic(mu) for mu in FAR], rtol=1e-9)
    np.testing.assert_allclose(found.points[:-1, 0], [conditional(mu)[1] for mu in FAR], rtol=1e-6)
    assert found.status[-1] != int(mx.Status.VALID)
    assert np.isnan(found.rise[-1])


@pytest.mark.slow
def test_jit_vmap_and_grad():
    """Of a test of hypotheses, over the values tested."""

    @jax.jit
    @jax.vmap
    def one(mu):
        def q(mu):
            found = mx.TMu()(NLL, PARAMS, data_of(COUNTS), "mu", mu)
            return found.value, found.status

        return jax.value_and_grad(q, has_aux=True)(mu)

    (values, status), slopes = one(jnp.asarray(FAR))
    np.testing.assert_array_equal(status, int(mx.Status.VALID))
    np.testing.assert_allclose(values, [statistic(mu) for mu in FAR], rtol=1e-9)
    np.testing.assert_allclose(slopes, [slope_of_statistic(mu) for mu in FAR], rtol=1e-6)


def test_errors_and_impacts():
    """MINOS to five standard deviations, and the impact of a parameter that is known to 1 before the fit."""
    result, data = fitted(), data_of(COUNTS)
    errors = mx.minos(NLL, result, data, "mu", cl=5.0)["mu"]
    best = float(result["mu"].value)
    ends = brentq(lambda mu: statistic(mu) - 25, -0.9, best), brentq(lambda mu: statistic(mu) - 25, best, 2.0)
    np.testing.assert_allclose([best + errors.lower, best + errors.upper], ends, rtol=1e-7)
    found = mx.impacts(NLL, result, data, "a", "mu", prefit={"mu": (0.3, 1.0)})
    a = float(result["a"].value)
    np.testing.assert_allclose(found.prefit_down[0], conditional(best - 1)[1] - a, rtol=1e-6)
    np.testing.assert_allclose(found.prefit_up[0], conditional(best + 1)[1] - a, rtol=1e-6)
    assert bool(found.valid[0])


@pytest.mark.slow
def test_limit_and_its_derivative():
    """Of a signal that is not negative, against CLs by SciPy, and its derivative by the counts."""
    bounded = PARAMS | {"mu": mx.Parameter(0.5, lower=0.0)}

    def log_cls(mu, counts):
        q = lambda mu, counts, a: max(  # noqa: E731
            2
            * (
                conditional(mu, counts, a)[0]
                - min(
                    conditional(0.0, counts, a)[0],
                    minimize_scalar(
                        lambda m: conditional(m, counts, a)[0],
                        bounds=(0, 3),
                        method="bounded",
                        options={"xatol": 1e-12},
                    ).fun,
                )
            ),
            0.0,
        )
        a = conditional(0.0, counts)[1]
        q_obs, q_a = q(mu, counts, 0.0), q(mu, BACKGROUND + a * SHIFT, a)
        far = (q_obs - q_a) / (2 * np.sqrt(q_a)) if q_obs > q_a else np.sqrt(q_obs) - np.sqrt(q_a)
        from scipy.stats import norm

        return norm.logcdf(-(far + np.sqrt(q_a))) - norm.logcdf(-far)

    limit = lambda counts: brentq(lambda mu: log_cls(mu, counts) - np.log(0.05), 0.05, 2.0, xtol=1e-12)  # noqa: E731
    value, slope = jax.jit(jax.value_and_grad(lambda n: mx.upper_limit(NLL, bounded, data_of(n), "mu").observed))(
        jnp.asarray(COUNTS)
    )
    np.testing.assert_allclose(value, limit(COUNTS), rtol=1e-7)
    step = 1e-3 * np.eye(2)
    differences = [(limit(COUNTS + s) - limit(COUNTS - s)) / 2e-3 for s in step]
    np.testing.assert_allclose(slope, differences, rtol=1e-4)


@pytest.mark.slow
def test_toys_drawn_where_the_held_fit_cannot_start():
    """Toys without a deficit, fitted with one: with the nuisance parameter of the one the other is impossible."""
    key, n = jax.random.key(3), 64
    test = mx.hypotest(NLL, PARAMS, data_of(COUNTS), "mu", -0.9, statistic=mx.TMu(), calculator=mx.Toys(n, key))
    assert int(test.toys.alternative.num_failed) == 0
    origin = mx.TMu()(NLL, PARAMS, data_of(COUNTS), "mu", 0.0).conditional
    toys = mx.sample(NLL, origin, jax.random.fold_in(key, 1), n)
    some = np.arange(8)
    wanted = [statistic(-0.9, np.asarray(toys["n"][i]), float(toys["a"][i])) for i in some]
    np.testing.assert_allclose(test.toys.alternative.values[0, some], wanted, rtol=1e-7)


@pytest.mark.float32
def test_single_precision():
    found = mx.profile(NLL, mx.fit(NLL, PARAMS, data_of(COUNTS)), data_of(COUNTS), "mu", np.array([-0.7, 1.0, 2.0]))
    np.testing.assert_array_equal(found.status, int(mx.Status.VALID))
    np.testing.assert_allclose(found.rise, [statistic(mu) for mu in (-0.7, 1.0, 2.0)], rtol=1e-4)
