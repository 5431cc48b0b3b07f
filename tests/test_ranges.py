"""Densities over several ranges, bins with gaps between them, and blinded bins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import migrax as mx
from migrax.distributions import Exponential, Mixture, Normal, Truncated

SIDES = [(0.0, 4.0), (6.0, 10.0)]
BASE = stats.expon(scale=4.0)
INSIDE = BASE.cdf(4) + BASE.cdf(10) - BASE.cdf(6)


def sidebands(tau=4.0):
    return Truncated(Exponential(1 / tau), SIDES)


@pytest.mark.slow
def test_the_closed_form():
    d = sidebands()
    x = np.array([-1.0, 0.0, 2.0, 4.0, 5.0, 6.0, 8.0, 10.0, 11.0])
    inside = ((x >= 0) & (x <= 4)) | ((x >= 6) & (x <= 10))
    expected = np.where(inside, BASE.logpdf(np.abs(x)) - np.log(INSIDE), -np.inf)
    np.testing.assert_allclose(d.log_prob(x), expected, rtol=1e-14)
    cdf = np.array([0, BASE.cdf(2), BASE.cdf(4), BASE.cdf(4), BASE.cdf(4) + BASE.cdf(7) - BASE.cdf(6), INSIDE])
    np.testing.assert_allclose(d.cdf(np.array([-1.0, 2.0, 4.0, 5.0, 7.0, 20.0])), cdf / INSIDE, rtol=1e-14)
    across = (BASE.cdf(4) - BASE.cdf(3) + BASE.cdf(7) - BASE.cdf(6)) / INSIDE
    np.testing.assert_allclose(d.log_integral(3.0, 7.0), np.log(across), rtol=1e-14)
    assert np.all(np.isneginf(d.log_integral(np.array([4.0, 4.5, 11.0]), np.array([6.0, 5.5, 12.0]))))
    assert np.isnan(d.log_prob(np.nan))


@pytest.mark.slow
@pytest.mark.float32
def test_float32_and_a_single_range():
    one, two = Truncated(Normal(0.3, 1.0), [(-1.0, 2.0)]), Truncated(Normal(0.3, 1.0), -1.0, 2.0)
    x = jnp.linspace(-2.0, 3.0, 11)
    np.testing.assert_allclose(one.log_prob(x), two.log_prob(x), rtol=1e-6)
    cut = Truncated(Normal(jnp.float32(0.3), jnp.float32(1.0)), np.float32([[-1, 0], [1, 2]]))
    assert cut.log_prob(x.astype(jnp.float32)).dtype == jnp.float32
    p = stats.norm(0.3, 1.0)
    np.testing.assert_allclose(
        cut.cdf(jnp.float32(0.5)), 1 / (1 + (p.cdf(2) - p.cdf(1)) / (p.cdf(0) - p.cdf(-1))), rtol=1e-6
    )


def test_far_in_a_tail():
    d = Truncated(Normal(0.0, 1.0), [(30.0, 31.0), (32.0, jnp.inf)])
    reference = stats.norm.logsf(30.0)
    whole = 1 - np.exp(stats.norm.logsf(31.0) - reference) + np.exp(stats.norm.logsf(32.0) - reference)
    np.testing.assert_allclose(d.log_prob(30.5), stats.norm.logpdf(30.5) - reference - np.log(whole), rtol=1e-13)


@pytest.mark.slow
def test_ends_that_are_parameters():
    def log_prob(a, b):
        return Truncated(Exponential(0.25), [(0.0, a), (b, 10.0)]).log_prob(2.0)

    found = jax.jit(jax.grad(log_prob, argnums=(0, 1)))(4.0, 6.0)
    np.testing.assert_allclose(found, (-BASE.pdf(4) / INSIDE, BASE.pdf(6) / INSIDE), rtol=1e-12)
    lanes = jax.vmap(log_prob)(jnp.array([4.0, 5.0, 7.0]), jnp.array([6.0, 6.0, 6.0]))
    one = BASE.logpdf(2) - np.log(BASE.cdf(5) + BASE.cdf(10) - BASE.cdf(6))
    np.testing.assert_allclose(lanes, [BASE.logpdf(2) - np.log(INSIDE), one, np.nan], rtol=1e-14)
    many = Truncated(Normal(jnp.array([1.0, 2.0, 3.0]), 1.0), [(0.0, 1.0), (2.0, 5.0)])
    p = stats.norm(np.array([1.0, 2.0, 3.0]))
    whole = p.cdf(1) - p.cdf(0) + p.cdf(5) - p.cdf(2)
    np.testing.assert_allclose(many.log_prob(jnp.full((4, 1), 0.5))[2], p.logpdf(0.5) - np.log(whole), rtol=1e-13)


@pytest.mark.slow
def test_sample():
    x = np.asarray(jax.jit(lambda key: sidebands().sample(key, (20_000,)))(jax.random.key(0)))
    assert not np.any((x > 4) & (x < 6))
    assert stats.kstest(x, lambda x: np.asarray(sidebands().cdf(x))).pvalue > 0.01


ROWS = np.array([[0.0, 1.0], [1.0, 4.0], [6.0, 7.0], [9.0, 10.0]])


@pytest.mark.slow
def test_bins_with_gaps():
    expected = (BASE.cdf(ROWS[:, 1]) - BASE.cdf(ROWS[:, 0])) / INSIDE
    np.testing.assert_allclose(sidebands().bin_integrals(ROWS), expected, rtol=1e-14)
    np.testing.assert_allclose(Exponential(0.25).bin_integrals(ROWS), expected * INSIDE, rtol=1e-14)
    model = Mixture([sidebands(), Normal(5.0, 1.0)], yields=[100.0, 10.0])
    both = 100 * expected + 10 * (stats.norm(5).cdf(ROWS[:, 1]) - stats.norm(5).cdf(ROWS[:, 0]))
    np.testing.assert_allclose(model.expected(ROWS), both, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(model.log_expected)(ROWS), np.log(both), rtol=1e-13)


BAD = {
    "overlap": ([(0, 4), (3, 10)], r"the ranges \(0, 4\) and \(3, 10\) overlap"),
    "order": ([(6, 10), (0, 4)], r"\(6, 10\) and \(0, 4\) are not in order"),
    "empty": ([(2, 2)], r"the range \(2, 2\) is empty"),
    "nan": ([(0.0, np.nan)], "is empty"),
    "two numbers": ((0, 4), r"takes a list of ranges, \[\(0, 4\)\], or two numbers"),
    "none": ([], "at least one range"),
    "three": ([(0, 1, 2)], r"range 0 is \(0, 1, 2\)"),
    "array": (np.array([[0.0, 4.0], [3.0, 10.0]]), "overlap"),
}


@pytest.mark.parametrize("case", BAD)
def test_ranges_that_are_none(case):
    ranges, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Truncated(Exponential(0.25), ranges)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0, 2], [1, 3]], "bin 0 ends at 2.0, bin 1 begins at 1.0"),
        ([[0, 0]], "bin 0 goes from 0.0 to 0.0"),
        (np.zeros((3, 3)), r"shape \(n \+ 1,\), or \(n, 2\)"),
    ],
)
def test_bins_that_are_none(edges, message):
    with pytest.raises(ValueError, match=message):
        sidebands().bin_integrals(edges)


def model(p):
    peak = Truncated(Normal(3.0, 1.0), SIDES)
    return Mixture([peak, sidebands(p["tau"])], yields=[p["s"], p["b"]])


FINE = np.concatenate([np.stack([e[:-1], e[1:]], axis=1) for e in (np.linspace(*ends, 801) for ends in SIDES)])
START = {"tau": mx.Parameter(4.0, lower=0.1), "s": mx.Parameter(50.0, lower=0.0), "b": mx.Parameter(500.0, lower=0.0)}
UNBINNED = mx.ExtendedUnbinnedNLL(distribution=model, range=SIDES)


@pytest.mark.slow
def test_asimov_data_are_those_of_fine_bins():
    data = mx.asimov(UNBINNED, START)
    np.testing.assert_allclose(data.total, 550.0, rtol=1e-12)
    result = mx.fit(UNBINNED, START, data)
    np.testing.assert_allclose(result.values, [500.0, 50.0, 4.0], rtol=1e-7)
    p = [BASE.cdf(FINE[:, 1]) - BASE.cdf(FINE[:, 0]), stats.norm(3).cdf(FINE[:, 1]) - stats.norm(3).cdf(FINE[:, 0])]
    b, s = (a / np.sum(a) for a in p)
    step = 1e-5  # the Fisher information of the bins, from the closed form of their shapes
    shifted = [np.exp(-FINE / (4 + sign * step)) for sign in (1, -1)]
    up, down = ((a[:, 0] - a[:, 1]) / np.sum(a[:, 0] - a[:, 1]) for a in shifted)
    slopes = np.stack([b, s, 500 * (up - down) / (2 * step)])
    errors = np.sqrt(np.diagonal(np.linalg.inv(slopes / (500 * b + 50 * s) @ slopes.T)))
    np.testing.assert_allclose(result.errors, errors, rtol=2e-6)


MASK = np.array([True, True, False, False, True, True])
MU = np.array([30.0, 20.0, 12.0, 11.0, 9.0, 8.0])
SEEN = np.array([33.0, 18.0, np.nan, np.nan, 5.0, 9.0])


def shape(p):
    return p["mu"] * jnp.asarray(MU)


BLINDED = {"poisson": mx.PoissonNLL(shape, mask=MASK), "binned": mx.BinnedNLL(lambda p: MU ** p["mu"], mask=MASK)}
ONE = {"mu": mx.Parameter(0.9, lower=0.0, upper=5.0)}


@pytest.mark.slow
def test_blinded_bins_count_for_nothing():
    """What stands in them may be anything; the closed form is that of the others."""
    nll, used = BLINDED["poisson"], SEEN[MASK]
    results = [mx.fit(nll, ONE, np.where(MASK, SEEN, blind)) for blind in (np.nan, 0.0, 1e6)]
    for result in results:
        np.testing.assert_allclose(result.values, np.sum(used) / np.sum(MU[MASK]), rtol=1e-9)
        np.testing.assert_allclose(result.errors, np.sqrt(np.sum(used)) / np.sum(MU[MASK]), rtol=1e-7)
    fitted = np.sum(used) / np.sum(MU[MASK]) * MU[MASK]
    deviance = 2 * np.sum(fitted - used + used * np.log(used / fitted))
    good = mx.goodness_of_fit(nll, results[0], SEEN, toys=200, key=jax.random.key(1))
    np.testing.assert_allclose(good.chi2, deviance, rtol=1e-9)
    assert int(good.ndof) == 3
    assert int(good.num_failed) == 0
    assert abs(float(good.p_value) - stats.chi2.sf(deviance, 3)) < 0.1


def test_the_limit_does_not_look_at_blinded_bins():
    """Asymptotic CLs of the bins that count (Cowan et al. 2011, eqs. 16 and 62 to 66), by SciPy."""
    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.asarray(MU) + 10.0, mask=MASK)
    seen = np.array([14.0, 12.0, np.nan, np.nan, 10.0, 9.0])
    limits = [float(mx.upper_limit(nll, ONE, np.where(MASK, seen, blind), "mu").observed) for blind in (np.nan, 1e6)]
    assert limits[0] == limits[1]
    s, b = MU[MASK], 10.0

    def ratio(n, mu):
        value = lambda mu: np.sum(mu * s + b - n * np.log(mu * s + b))  # noqa: E731
        best = optimize.minimize_scalar(value, bounds=(0.0, 5.0), method="bounded", options={"xatol": 1e-12})
        return max(2 * (value(mu) - min(best.fun, value(0.0))), 0.0)

    def above(mu):
        q, a = np.sqrt(ratio(seen[MASK], mu)), np.sqrt(ratio(np.full(4, b), mu))
        high = q > a
        both = (q**2 + a**2) / (2 * a) if high else q
        alone = (q**2 - a**2) / (2 * a) if high else q - a
        return stats.norm.sf(both) / stats.norm.sf(alone) - 0.05

    np.testing.assert_allclose(limits[0], optimize.brentq(above, 0.05, 3.0), rtol=1e-6)


def test_blinded_bins_of_a_shape():
    nll = BLINDED["binned"]
    start = {"mu": mx.Parameter(1.0, lower=0.0, upper=5.0)}
    result = mx.fit(nll, start, SEEN)
    p = MU[MASK] ** float(result.values[0])
    p = p / np.sum(p)
    slope = np.log(MU[MASK]) - np.sum(p * np.log(MU[MASK]))
    np.testing.assert_allclose(np.sum(SEEN[MASK] * slope), 0.0, atol=1e-7)  # the maximum, by its equation
    assert int(result.ndof) == 2
    toys = np.asarray(mx.sample(nll, result.params, jax.random.key(2), 50, data=SEEN))
    np.testing.assert_allclose(np.sum(toys, axis=1), np.sum(SEEN[MASK]))
    assert np.all(toys[:, ~MASK] == 0)


def test_the_weights_of_blinded_bins_are_not_looked_at():
    """An empty bin of a weighted histogram takes its scale from the others, of those that count."""
    value, variance = np.array([30.0, 0.0, 900.0, 500.0, 0.0, 8.0]), np.array([30.0, 0.0, 9e5, 5e5, 0.0, 8.0])
    nll = BLINDED["poisson"]
    term = nll.terms({"mu": 1.0}, mx.Counts(value, variance))[4]
    np.testing.assert_allclose(term, 9.0, rtol=1e-12)  # mu of an unweighted empty bin
    unknown = mx.Counts(np.where(MASK, value, np.nan), np.where(MASK, variance, np.nan))
    np.testing.assert_allclose(nll({"mu": 1.0}, unknown), nll({"mu": 1.0}, mx.Counts(value, variance)), rtol=1e-14)
    result = mx.fit(nll, ONE, unknown)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, 38.0 / np.sum(MU[MASK]), rtol=1e-9)


@pytest.mark.slow
def test_pictures_of_bins_with_gaps():
    import matplotlib.pyplot as plt

    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.array([4.0, 9.0, 3.0, 2.0]))
    counts = np.array([5.0, 8.0, 2.0, 4.0])
    result = mx.fit(nll, ONE, counts)
    main, _ = mx.plot.data_and_model(nll, result, counts, edges=ROWS)
    steps = next(p for p in main.patches if p.get_label() == "Model").get_data()
    np.testing.assert_allclose(steps.edges, [0, 1, 4, 6, 7, 9, 10])
    np.testing.assert_allclose(
        steps.values, float(result.values[0]) * np.array([4, 9, np.nan, 3, np.nan, 2]), rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"or have shape \(4, 2\)"):
        mx.plot.data_and_model(nll, result, counts, edges=ROWS[:3])
    x = np.asarray(model({"tau": 4.0, "s": 50.0, "b": 500.0}).sample(jax.random.key(4), (550,)))
    fitted = mx.fit(UNBINNED, START, x)
    main, _below = mx.plot.data_and_model(UNBINNED, fitted, x, edges=[[0.0, 2.0], [2.0, 4.0], [6.0, 10.0]])
    steps = next(p for p in main.patches if p.get_label() == "Model").get_data()
    assert np.isnan(steps.values[2])
    np.testing.assert_allclose(np.nansum(steps.values), 550.0, rtol=1e-6)
    plt.close("all")
