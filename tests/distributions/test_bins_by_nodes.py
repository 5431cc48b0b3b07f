"""Bins by a few nodes of the density, and by the rules for any interval where these do not suffice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import migrax as mx
from migrax.distributions import _bins_by_nodes as bins

D = mx.distributions
EDGES = np.linspace(0.0, 12.0, 25)
CASES = {
    "StudentT": (lambda p: D.StudentT(p[0], p[1], 0.8), [3.0, 5.0], EDGES),
    "QGaussian, ends inside": (lambda p: D.QGaussian(p[0], p[1], 0.6), [5.0, 1.1], EDGES),
    "Gamma, singular at 0": (lambda p: D.Gamma(p[0], p[1]), [2.3, 1.1], EDGES),
    "Argus": (lambda p: D.Argus(p[0], p[1]), [11.3, 1.5], EDGES),
    "Cruijff": (lambda p: D.Cruijff(p[0], 0.6, p[1], 0.1, 0.2, 0.0, 12.0), [5.2, 1.1], EDGES),
    "Voigt, narrow": (lambda p: D.Voigt(6.1, p[0], p[1]), [0.05, 0.02], np.linspace(5.0, 7.0, 9)),
    "infinite": (lambda p: D.StudentT(p[0], p[1], 0.8), [3.0, 5.0], np.array([-np.inf, 3.0, 4.0, 5.0, np.inf])),
    "with a gap": (lambda p: D.Gamma(p[0], p[1]), [2.3, 1.1], np.array([[0.5, 1.0], [1.5, 2.0]])),
    "Gamma, an integer shape": (lambda p: D.Gamma(p[0], p[1]), [1.0, 1.1], EDGES),
    "Gamma, of shape 3": (lambda p: D.Gamma(p[0], p[1]), [3.0, 0.7], EDGES),
    "Gamma, a bin across 0": (lambda p: D.Gamma(p[0], p[1]), [1.0, 1.1], np.array([-0.001, 0.5, 1.0])),
    "Argus, an integer power": (lambda p: D.Argus(p[0], 1.5, p[1]), [11.999, 1.0], EDGES),
    "Argus, a step at the end": (lambda p: D.Argus(p[0], p[1], 0.0), [11.999, 1.5], EDGES),
    "QGaussian, a parabola": (lambda p: D.QGaussian(p[0], p[1], 0.0), [5.0, 1.2374], EDGES),
    "Cruijff, ends inside": (lambda p: D.Cruijff(p[0], 0.6, p[1], 0.1, 0.2, 0.001, 11.999), [5.2, 1.1], EDGES),
    "Normalized, ends inside": (lambda p: D.Normalized(lambda x: -p[0] * x + p[1], 0.0, 11.999), [0.3, 1.0], EDGES),
    "Normalized, a narrow peak in a wide bin": (
        lambda p: D.Normalized(
            lambda x: jnp.log(1 + 20 * jnp.exp(-0.5 * ((x - p[0]) / p[1]) ** 2)), 0.0, 10.0, panels=400
        ),
        [5.552, 0.005],
        np.linspace(0.0, 10.0, 11),
    ),
    "Normalized, a step at the end of a bin": (
        lambda p: D.Normalized(lambda x: jnp.where(x < p[0], 0.1 * p[1] * x, 1.0), 0.0, 12.0, breaks=[p[0]]),
        [5.0, 0.4],
        EDGES,
    ),
    "Normalized, with a step": (
        lambda p: D.Normalized(lambda x: jnp.where(x < p[0], -0.3 * x, 1.0 - p[1] * x), 0.0, 12.0, breaks=[p[0]]),
        [5.2, 0.4],
        EDGES,
    ),
}  # fmt: skip


@pytest.mark.grid
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bins_are_those_of_single_intervals(case):
    """Values and first two derivatives, beside the rule for any interval."""
    make, at, edges = case
    low, high = (edges[:-1], edges[1:]) if edges.ndim == 1 else edges.T
    at = jnp.array(at)
    for derivative in (lambda f: f, jax.jacrev, jax.hessian):
        got = jax.jit(derivative(lambda p: make(p).log_bin_integrals(edges)))(at)
        wanted = jax.jit(derivative(lambda p: make(p).log_integral(low, high)))(at)
        largest = np.max(np.abs(wanted), initial=1.0, where=np.isfinite(wanted))
        np.testing.assert_allclose(got, wanted, rtol=3e-12, atol=1e-12 * largest)


def test_against_scipy():
    """Bins of a smooth density, of the 7.5 % that touch a singularity, and far in a tail."""
    with np.errstate(divide="ignore"):
        exact = np.log(np.diff(special.gammainc(2.3, EDGES / 1.1)))
    np.testing.assert_allclose(D.Gamma(2.3, 1.1).log_bin_integrals(EDGES), exact, rtol=0, atol=1e-12)
    far = np.linspace(-80.0, -60.0, 9)
    exact = np.log(np.diff(stats.t(3.0, 5.0, 0.8).cdf(far)))
    np.testing.assert_allclose(D.StudentT(5.0, 0.8, 3.0).log_bin_integrals(far), exact, rtol=0, atol=1e-11)


def test_the_rules():
    """Kronrod's is exact for polynomials of degree 22, Gauss's for those of degree 13."""
    nodes = np.append(-bins._NODES[:0:-1], bins._NODES)
    kronrod = np.append(bins._KRONROD[:0:-1], bins._KRONROD)
    gauss = np.append(bins._GAUSS[:0:-1], bins._GAUSS)
    for degree in range(0, 24, 2):
        np.testing.assert_allclose(kronrod @ nodes**degree, 2 / (degree + 1), rtol=1e-14)
        if degree < 14:
            np.testing.assert_allclose(gauss @ nodes[1::2] ** degree, 2 / (degree + 1), rtol=1e-14)


def _evaluations(edges, lanes=None):
    """How many bins the rule for any interval gets, for an exponential density with a step at 3.2."""
    seen = []

    def log_prob(x):
        return jnp.where(x < 3.2, -x, -2.0 * x)

    def log_integral(low, high):
        jax.debug.callback(lambda a: seen.append(np.size(a)), low)
        wide = jnp.clip(jnp.stack([low, high]), -50.0, 50.0)
        return jnp.log(wide[1] - wide[0])

    def f(shift):
        return bins.log_bins(log_prob, log_integral, jnp.asarray(edges[:-1]) + shift, jnp.asarray(edges[1:]) + shift)

    if lanes is None:
        jax.block_until_ready(jax.jit(f)(0.0))
    else:
        jax.block_until_ready(jax.jit(jax.vmap(f))(jnp.asarray(lanes)))
    jax.effects_barrier()
    return sum(seen)


def test_only_the_parts_that_need_it_are_integrated_at_length():
    assert _evaluations(np.linspace(0.0, 3.0, 13)) == 0
    assert _evaluations(np.linspace(0.0, 12.0, 49)) == 4  # the part with the step
    assert _evaluations(np.linspace(0.0, 3.0, 13), lanes=[0.0, 0.01, 0.02]) == 0  # a branch in a batch, too
    assert _evaluations(np.linspace(0.0, 12.0, 49), lanes=[0.0, 0.01, 0.02]) == 12


def test_nan_and_single_precision():
    d = D.StudentT(jnp.float32(5.0), jnp.float32(0.8), jnp.float32(3.0))
    edges = EDGES.astype(np.float32)
    got = d.log_bin_integrals(edges)
    assert got.dtype == jnp.float32
    exact = np.log(np.diff(stats.t(3.0, 5.0, 0.8).cdf(EDGES)))
    np.testing.assert_allclose(got, exact, rtol=2e-6, atol=2e-6)
    assert np.all(np.isnan(D.StudentT(jnp.nan, 0.8, 3.0).log_bin_integrals(EDGES)))
    slope = jax.jacfwd(lambda e: D.Gamma(2.0, e).log_bin_integrals(np.array([-2.0, -1.0, 0.0, 1.0])))(1.1)
    assert np.all(slope[:2] == 0)
    assert np.isfinite(slope[2])


def test_parameters_that_are_arrays():
    """As in all densities, a row of bins for each."""
    many = jnp.array([[2.3], [4.0]])
    for d in (D.Gamma(many, 1.1), D.StudentT(many, 0.8, 3.0), D.Argus(3.0 * many, 1.5), D.Voigt(many, 0.5, 0.3)):
        np.testing.assert_array_equal(d.log_bin_integrals(EDGES), d.log_integral(EDGES[:-1], EDGES[1:]))


def test_a_fit_of_bins():
    """Beside a likelihood of the difference of cdfs, by SciPy's minimiser of numbers."""
    from scipy import optimize

    rng = np.random.default_rng(3)
    counts = np.histogram(rng.gamma(2.3, 1.1, 5000), EDGES)[0].astype(float)
    nll = mx.PoissonNLL(distribution=lambda p: D.Gamma(p["shape"], p["scale"]), edges=EDGES, total=lambda p: p["n"])
    params = {"shape": mx.Parameter(2.0, lower=0.1), "scale": mx.Parameter(1.0, lower=0.1), "n": mx.Parameter(4900.0)}
    result = mx.fit(nll, params, jnp.asarray(counts))
    assert bool(result.valid)

    def by_scipy(x):
        mean = x[2] * np.diff(special.gammainc(x[0], EDGES / x[1]))
        return -np.sum(stats.poisson.logpmf(counts, mean))

    best = optimize.minimize(
        by_scipy, [2.0, 1.0, 4900.0], method="Nelder-Mead", options={"xatol": 1e-6, "maxiter": 4000}
    )
    found = [float(result.params[k].value) for k in ("shape", "scale", "n")]
    errors = [0.03, 0.02, 70.0]
    assert np.all(np.abs(np.array(found) - best.x) < 1e-3 * np.array(errors))
