"""Binned likelihoods beyond plain Poisson counts: multinomial, weighted histograms, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit, cost
from scipy import stats

import migrax as mx

P = mx.Parameter
EDGES = np.linspace(-3.0, 5.0, 17)
RNG = np.random.default_rng(11)
X = RNG.normal(1.0, 1.5, 800)
WEIGHTS = RNG.uniform(0.1, 2.0, 800)
COUNTS = np.histogram(X, EDGES)[0].astype(float)
VALUE = np.histogram(X, EDGES, weights=WEIGHTS)[0]
VARIANCE = np.histogram(X, EDGES, weights=WEIGHTS**2)[0]
WEIGHTED = mx.Counts(VALUE, VARIANCE)
PAIRS = np.stack([VALUE, VARIANCE], axis=-1)
SHAPE = {"mu": P(0.5), "sigma": P(1.0, lower=0.1)}
EXTENDED = {"n": P(500.0, lower=0.0), **SHAPE}
MASK = (EDGES[:-1] < -1.0) | (EDGES[:-1] >= 1.0)


def log_shape(p):
    return mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


def log_counts(p):
    return jnp.log(p["n"]) + log_shape(p)


LIKELIHOODS = {
    "multinomial": (
        lambda mask: mx.BinnedNLL(log_expected=log_shape, mask=mask),
        lambda data: cost.BinnedNLL(data, EDGES, lambda x, mu, sigma: stats.norm.cdf(x, mu, sigma)),
        SHAPE,
    ),
    "multinomial of expected": (
        lambda mask: mx.BinnedNLL(lambda p: 3.7 * jnp.exp(log_shape(p)), mask=mask),
        lambda data: cost.BinnedNLL(data, EDGES, lambda x, mu, sigma: stats.norm.cdf(x, mu, sigma)),
        SHAPE,
    ),
    "poisson": (
        lambda mask: mx.PoissonNLL(log_expected=log_counts, mask=mask),
        lambda data: cost.ExtendedBinnedNLL(data, EDGES, lambda x, mu, n, sigma: n * stats.norm.cdf(x, mu, sigma)),
        EXTENDED,
    ),
    "poisson of expected": (
        lambda mask: mx.PoissonNLL(lambda p: jnp.exp(log_counts(p)), mask=mask),
        lambda data: cost.ExtendedBinnedNLL(data, EDGES, lambda x, mu, n, sigma: n * stats.norm.cdf(x, mu, sigma)),
        EXTENDED,
    ),
}
DATA = {"counts": (COUNTS, COUNTS), "weighted": (WEIGHTED, PAIRS)}


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_as_iminuit(kind, data, masked):
    """Values, minimum and errors; iminuit's value is twice ours.

    Its multinomial of an unmasked histogram does not normalise the probabilities to the bins, which ours does: compared
    is the masked one, and the whole with all of the density inside.
    """
    make, theirs, start = LIKELIHOODS[kind]
    ours, pairs = DATA[data]
    nll, c = make(MASK if masked else None), theirs(pairs)
    c.mask = MASK if masked else np.ones(16, bool)
    point = {name: float(p.value) for name, p in sorted(start.items())}
    np.testing.assert_allclose(2 * nll(point, ours), c(*point.values()), rtol=1e-11)
    m = Minuit(c, **point)
    m.limits["sigma"], m.tol, m.strategy = (0.1, None), 1e-5, 2
    m.migrad()
    m.hesse()
    result = mx.fit(nll, start, ours)
    assert bool(result.valid)
    np.testing.assert_allclose(2 * result.nll, m.fval, rtol=1e-7)
    np.testing.assert_allclose((result.values - np.array(m.values)) / result.errors, 0.0, atol=2e-3)
    np.testing.assert_allclose(result.errors, m.errors, rtol=5e-3)


def test_the_multinomial_is_the_poisson_shape():
    """With the total free, a Poisson fit has the same shape (S. Baker and R. D. Cousins)."""
    multinomial = mx.fit(mx.BinnedNLL(log_expected=log_shape), SHAPE, COUNTS)
    scaled = lambda p: jnp.log(p["n"]) + log_shape(p) - jax.scipy.special.logsumexp(log_shape(p))  # noqa: E731
    poisson = mx.fit(mx.PoissonNLL(log_expected=scaled), EXTENDED, COUNTS)
    np.testing.assert_allclose(multinomial.values, poisson.values[::2], rtol=1e-8)
    np.testing.assert_allclose(multinomial.errors, poisson.errors[::2], rtol=1e-7)
    np.testing.assert_allclose(multinomial.nll, poisson.nll, rtol=1e-9)
    assert int(multinomial.ndof) == int(poisson.ndof) == 13


def test_equal_weights_scale():
    """All weights 0.3: the same values, the errors of the unweighted fit, the yield scaled."""
    plain = mx.fit(mx.PoissonNLL(log_expected=log_counts), EXTENDED, COUNTS)
    scaled = mx.fit(mx.PoissonNLL(log_expected=log_counts), EXTENDED, mx.Counts(0.3 * COUNTS, 0.09 * COUNTS))
    np.testing.assert_allclose(scaled.values, plain.values * jnp.array([1.0, 0.3, 1.0]), rtol=1e-7)
    np.testing.assert_allclose(scaled.errors, plain.errors * jnp.array([1.0, 0.3, 1.0]), rtol=1e-6)
    np.testing.assert_allclose(scaled.nll, plain.nll, rtol=1e-8)


@pytest.mark.slow
def test_errors_of_weighted_histograms_cover():
    """Toys of events with a broad spectrum of weights, a tenth of them negative: pulls of width 1.

    (With a tenth of the events it is 1.1 and 1.2: in bins of few events the sum of the squared weights, taken from the
    same events, is a poor estimate of the variance.)
    """

    @jax.jit
    def toy(key):
        x_key, w_key, s_key = jax.random.split(key, 3)
        x = 1.0 + 1.5 * jax.random.normal(x_key, (10_000,))
        w = jnp.exp(0.7 * jax.random.normal(w_key, x.shape))
        w = jnp.where(jax.random.uniform(s_key, x.shape) < 0.1, -w, w)
        value = jnp.histogram(x, EDGES, weights=w)[0]
        variance = jnp.histogram(x, EDGES, weights=w**2)[0]
        start = {"n": P(10_000.0, lower=0.0), "mu": P(1.0), "sigma": P(1.5, lower=0.1)}
        return mx.fit(mx.PoissonNLL(log_expected=log_counts), start, mx.Counts(value, variance))

    fits = jax.lax.map(toy, jax.random.split(jax.random.key(2), 500), batch_size=100)
    good = np.asarray(fits.valid)
    assert good.sum() >= 498
    pulls = ((fits.values[:, ::2] - jnp.array([1.0, 1.5])) / fits.errors[:, ::2])[good]
    np.testing.assert_allclose(pulls.mean(axis=0), 0.0, atol=0.2)
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=0.1)


def test_a_bin_of_negative_weight():
    """It has a Gaussian term, smooth and bounded."""
    data = mx.Counts([5.0, -1.5, 0.0, 3.0], [6.0, 2.5, 0.0, 3.0])
    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.array([1.0, 0.2, 0.1, 0.5]))
    result = mx.fit(nll, {"mu": P(1.0, lower=0.0)}, data)
    assert bool(result.valid)
    mu = 4.0

    def poisson(n, m, scale):
        return scale * (m - n + (n * np.log(n / m) if n > 0 else 0.0))

    # the empty bin's scale is the median of the others' 5/6 and 1
    terms = [poisson(5.0, mu, 5 / 6), (0.8 + 1.5) ** 2 / 5, poisson(0.0, 0.4, 11 / 12), poisson(3.0, 2.0, 1.0)]
    np.testing.assert_allclose(nll.terms({"mu": mu}, data), terms, rtol=1e-13)
    logs = mx.PoissonNLL(log_expected=lambda p: jnp.log(p["mu"] * jnp.array([1.0, 0.2, 0.1, 0.5])))
    np.testing.assert_allclose(logs.terms({"mu": mu}, data), terms, rtol=1e-13)


def test_an_empty_bin_with_no_expectation():
    """The probability 0 has a derivative, and its log has none."""
    nll = mx.BinnedNLL(lambda p: jnp.array([1.0, 2.0, 1.0]) + p["s"] * jnp.array([0.0, 1.0, -1.0]))
    result = mx.fit(nll, {"s": P(0.5, lower=0.0, upper=1.0)}, np.array([10.0, 30.0, 0.0]))
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, 1.0, rtol=1e-9)
    assert bool(result.at_limit[0])


STATUSES = {
    "an empty histogram": (mx.BinnedNLL(log_expected=log_shape), np.zeros(16), "does not determine"),
    "a negative count": (mx.BinnedNLL(log_expected=log_shape), COUNTS - COUNTS.max() / 2, r"data\[\d+\] is negative"),
    "nan": (mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(16)), np.full(16, np.nan), r"data\[0\] is not finite"),
    "no probability": (
        mx.BinnedNLL(lambda p: p["mu"] * jnp.arange(16.0)),
        np.ones(16),
        r"data\[0\] is not 0, but the model expects 0 there",
    ),
    "negative probability": (
        mx.BinnedNLL(lambda p: p["mu"] + jnp.arange(16.0) - 3.0),
        np.ones(16),
        r"expects a negative count for data\[0\]",
    ),
    "weighted and nan": (
        mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(2)),
        mx.Counts([np.nan, 1.0], [1.0, 1.0]),
        r"data.value\[0\] is not finite",
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", STATUSES)
def test_never_valid(case):
    nll, data, message = STATUSES[case]
    result = mx.fit(nll, SHAPE, data)
    assert not bool(result.valid)
    if "determine" not in message:
        np.testing.assert_equal(bool(__import__("re").search(message, result.message)), True, err_msg=result.message)


BAD = {
    "both": (lambda: mx.BinnedNLL(log_shape, log_shape), TypeError, "takes one of expected, log_expected"),
    "shape": (
        lambda: mx.fit(mx.BinnedNLL(log_expected=log_shape), SHAPE, np.ones(3)),
        ValueError,
        r"expected counts have shape \(16,\), the data \(3,\)",
    ),
    "mask": (lambda: mx.PoissonNLL(log_shape, mask=np.ones(16)), TypeError, "must hold booleans"),
    "mask shape": (
        lambda: mx.fit(mx.BinnedNLL(log_expected=log_shape, mask=np.ones(3, bool)), SHAPE, COUNTS),
        ValueError,
        r"the mask has shape \(3,\)",
    ),
    "variance": (lambda: mx.Counts([1.0, 2.0], [1.0]), ValueError, r"variance must have shape \(2,\)"),
    "negative variance": (lambda: mx.Counts([1.0, 2.0], [1.0, -1.0]), ValueError, r"variance\[1\] is -1.0"),
    "no variance": (lambda: mx.Counts([1.0, 2.0], [1.0, 0.0]), ValueError, r"variance\[1\] is 0.0 for a content of 2"),
    "a tuple": (lambda: mx.fit(mx.BinnedNLL(log_expected=log_shape), SHAPE, (1, 2)), TypeError, "got tuple"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_vmap_and_derivatives():
    toys = jnp.stack([jnp.asarray(COUNTS), jnp.asarray(COUNTS[::-1])])
    nll = mx.BinnedNLL(log_expected=log_shape)
    both = jax.vmap(lambda n: mx.fit(nll, SHAPE, n))(toys)
    np.testing.assert_allclose(both.values[0], mx.fit(nll, SHAPE, COUNTS).values, rtol=1e-8)
    jacobian = jax.jit(jax.jacrev(lambda n: mx.fit(nll, SHAPE, n).values))(toys[0])
    step = np.linspace(-1, 1, 16)
    numeric = (mx.fit(nll, SHAPE, COUNTS + 1e-4 * step).values - mx.fit(nll, SHAPE, COUNTS - 1e-4 * step).values) / 2e-4
    np.testing.assert_allclose(jacobian @ step, numeric, rtol=1e-5)


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore:migrax is made for float64")
def test_float32():
    start = jax.tree.map(jnp.float32, EXTENDED)
    data = mx.Counts(jnp.asarray(VALUE, jnp.float32), jnp.asarray(VARIANCE, jnp.float32))
    result = mx.fit(mx.PoissonNLL(log_expected=log_counts), start, data)
    assert bool(result.valid)
    assert result.values.dtype == jnp.float32
    np.testing.assert_allclose(result.values[1], VALUE.sum(), rtol=2e-2)
