"""Template fits against iminuit's three methods, and Barlow-Beeston against all of its parameters fitted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit, cost
from scipy.special import gammaln

import migrax as mx

P = mx.Parameter
RNG = np.random.default_rng(1)
PEAK = np.array([0.0, 0.0, 0.1, 0.5, 0.3, 0.1, 0.0, 0.0])
FALL = np.exp(-np.arange(8) / 4) / np.sum(np.exp(-np.arange(8) / 4))
SIGNAL, BACKGROUND = RNG.poisson(200 * PEAK).astype(float), RNG.poisson(150 * FALL).astype(float)
COUNTS = RNG.poisson(100 * PEAK + 300 * FALL).astype(float)
EDGES = np.arange(9.0)
START = {"s": P(50.0, lower=0.0), "b": P(200.0, lower=0.0)}
POINT = {"s": 90.0, "b": 210.0}
# weights of mean 0.5, and a spread that differs from bin to bin
VARIANCE = BACKGROUND * np.linspace(0.3, 0.6, 8)
WEIGHTED = mx.Counts(0.5 * BACKGROUND, VARIANCE)


def saturated(n):
    return np.sum(np.where(n > 0, n * np.log(np.maximum(n, 1)), 0.0) - n - gammaln(n + 1))


@pytest.mark.grid
@pytest.mark.parametrize("method", ["da", "jsc", "asy"])
@pytest.mark.parametrize("weighted", [False, True], ids=["counts", "weighted"])
def test_as_iminuit(method, weighted):
    """Their value is twice ours; that of "asy" is -log L without the saturated model."""
    theirs = np.stack([0.5 * BACKGROUND, VARIANCE], axis=-1) if weighted else BACKGROUND
    nll = mx.TemplateNLL({"s": SIGNAL, "b": WEIGHTED if weighted else BACKGROUND}, method=method)
    c = cost.Template(COUNTS, EDGES, (theirs, SIGNAL), method=method, name=("b", "s"))
    expected = 0.5 * c(210.0, 90.0) if method != "asy" else c(210.0, 90.0) + saturated(COUNTS)
    np.testing.assert_allclose(nll(POINT, COUNTS), expected, rtol=1e-12)
    m = Minuit(c, b=200.0, s=50.0)
    m.strategy, m.tol = 2, 1e-6
    m.migrad()
    m.hesse()
    result = mx.fit(nll, START, COUNTS)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, m.values, rtol=2e-5)
    np.testing.assert_allclose(result.errors, m.errors, rtol=1e-4)


def test_a_parametric_component_as_iminuit():
    """A template beside a function without an error of its own; a bin that only the function fills."""
    cdf = lambda x, n, slope: n * (1 - np.exp(-x / slope)) / (1 - np.exp(-8 / slope))  # noqa: E731
    c = cost.Template(COUNTS, EDGES, (SIGNAL, cdf), method="da", name=("s", "n", "slope"))

    def falling(p):
        f = 1 - jnp.exp(-jnp.arange(9.0) / p["slope"])
        return p["n"] * jnp.diff(f) / f[-1]

    nll = mx.TemplateNLL({"s": SIGNAL, "falling": falling}, method="da")
    np.testing.assert_allclose(2 * nll({"s": 90.0, "n": 300.0, "slope": 4.0}, COUNTS), c(90.0, 300.0, 4.0), rtol=1e-12)
    result = mx.fit(nll, {"s": P(50.0, lower=0.0), "n": P(250.0), "slope": P(3.0, lower=0.1)}, COUNTS)
    assert bool(result.valid)


def full(p, n):
    """Barlow and Beeston's likelihood with all of its parameters."""
    expected, simulated = jnp.stack([p["As"], p["Ab"]]), jnp.array([SIGNAL, BACKGROUND])
    mu = jnp.stack([p["s"] / SIGNAL.sum(), p["b"] / BACKGROUND.sum()]) @ expected
    return mx.PoissonNLL(lambda _: mu)(p, n) + mx.PoissonNLL(lambda _: expected)(p, simulated)


def test_barlow_beeston_is_the_profile_of_all_parameters():
    result = mx.fit(mx.TemplateNLL({"s": SIGNAL, "b": BACKGROUND}, method="bb"), START, COUNTS)
    start = {**START, "As": P(SIGNAL + 0.5, lower=0.0), "Ab": P(BACKGROUND + 0.5, lower=0.0)}
    brute = mx.fit(full, start, COUNTS)
    assert bool(result.valid & brute.valid)
    np.testing.assert_allclose(result.nll, brute.nll, rtol=1e-8)
    for name in ("s", "b"):
        np.testing.assert_allclose(result[name].value, brute[name].value, rtol=1e-6)
        np.testing.assert_allclose(result[name].error, brute[name].error, rtol=1e-5)


CORNERS = {
    "plain": ([30.0, 5.0], [[20.0, 4.0], [10.0, 3.0]], [1.5, 0.4]),
    "an empty bin of data": ([0.0, 5.0], [[20.0, 4.0], [10.0, 3.0]], [1.5, 0.4]),
    "the strongest empty": ([30.0, 90.0], [[0.0, 4.0], [10.0, 3.0]], [1.5, 0.4]),
    "the strongest empty, not asked": ([3.0, 9.0], [[0.0, 4.0], [10.0, 3.0]], [1.5, 0.4]),
    "all empty": ([7.0, 9.0], [[0.0, 4.0], [0.0, 3.0]], [1.5, 0.4]),
    "yields far too small": ([1e4, 9.0], [[2.0, 4.0], [3.0, 3.0]], [1e-6, 1e-7]),
    "yields far too large": ([1.0, 9.0], [[2e3, 4.0], [3.0, 3.0]], [1e5, 1e-7]),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", CORNERS)
def test_the_profiled_root(case):
    """Against the minimum over all A by brute force."""
    n, a, c = (jnp.array(x) for x in CORNERS[case])
    totals = jnp.sum(a, axis=1)
    nll = mx.TemplateNLL({"0": np.asarray(a[0]), "1": np.asarray(a[1])}, method="bb")
    value = nll({"0": c[0] * totals[0], "1": c[1] * totals[1]}, n)

    def brute(p, n):
        # sqrt keeps A from the corner where its derivative is infinite
        return mx.PoissonNLL(lambda _: c @ p["A"])(p, n) + mx.PoissonNLL(lambda _: p["A"])(p, a)

    # in a bin with much data only the ratio of data and strength tells where to begin
    start = jnp.maximum(a, 0.1) * jnp.where(n > 0, n / jnp.maximum(c @ jnp.maximum(a, 0.1), 1e-3), 1.0)
    best = mx.fit(brute, {"A": P(jnp.minimum(start, 1e9), lower=0.0)}, n)
    assert bool(best.valid)
    np.testing.assert_allclose(value, best.nll, rtol=1e-7, atol=1e-9)


@pytest.mark.grid
@pytest.mark.parametrize("method", ["da", "jsc", "asy", "bb"])
def test_derivatives(method):
    """First and second ones against finite differences, also with respect to the templates."""
    nll = lambda y, t: mx.TemplateNLL(  # noqa: E731
        {"s": mx.Counts(t, 0.8 * t), "b": WEIGHTED}, lambda p: {"s": p[0], "b": p[1]}, method=method
    )(y, jnp.asarray(COUNTS))
    point, template = jnp.array([90.0, 210.0]), jnp.asarray(SIGNAL) + 1.0
    for argument in (0, 1):
        f = functools.partial(*((nll,), (nll, point))[argument], **({"t": template}, {})[argument])
        x = (point, template)[argument]
        step = jnp.ones_like(x) * jnp.linspace(1.0, -0.5, x.size)
        numeric = (f(x + 1e-5 * step) - f(x - 1e-5 * step)) / 2e-5
        np.testing.assert_allclose(jax.grad(f)(x) @ step, numeric, rtol=1e-6)
        gradient = jax.jit(jax.grad(f))
        second = (gradient(x + 1e-5 * step) - gradient(x - 1e-5 * step)) / 2e-5
        np.testing.assert_allclose(jax.jit(jax.hessian(f))(x) @ step, second, rtol=1e-5, atol=1e-9)


def test_many_simulated_events_are_no_error_at_all():
    shapes = {"s": 1e12 * (PEAK + 0.01), "b": 1e12 * FALL}
    plain = mx.PoissonNLL(lambda p: p["s"] * (PEAK + 0.01) / np.sum(PEAK + 0.01) + p["b"] * FALL)
    reference = mx.fit(plain, START, COUNTS)
    for method in ("da", "jsc", "asy", "bb"):
        result = mx.fit(mx.TemplateNLL(shapes, method=method), START, COUNTS)
        np.testing.assert_allclose(result.values, reference.values, rtol=1e-5)
        np.testing.assert_allclose(result.errors, reference.errors, rtol=1e-5)
        np.testing.assert_allclose(result.nll, reference.nll, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["da", "bb"])
def test_errors_cover_what_the_templates_do(method):
    """Data and templates are drawn anew: pulls of width 1 of the yields for a known ratio of data to simulation."""
    signal, background = 0.01 + 0.9 * PEAK, FALL

    @jax.jit
    def toy(key):
        means = (0.75 * 200.0 * signal + 2.0 * 300.0 * background, 200.0 * signal, 300.0 * background)
        draws = [jax.random.poisson(k, mu) for k, mu in zip(jax.random.split(key, 3), means, strict=True)]
        n, s, b = (x.astype(float) for x in draws)
        nll = mx.TemplateNLL({"s": s, "b": b}, method=method)
        truth = jnp.array([2.0 * b.sum(), 0.75 * s.sum()])
        return mx.fit(nll, {"s": P(150.0, lower=0.0), "b": P(600.0, lower=0.0)}, n), truth

    fits, truth = jax.lax.map(toy, jax.random.split(jax.random.key(5), 600), batch_size=100)
    good = np.asarray(fits.valid)
    assert good.sum() > 590
    pulls = ((fits.values - truth) / fits.errors)[good]
    np.testing.assert_allclose(pulls.mean(axis=0), 0.0, atol=0.16)  # 4 standard errors
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=0.12)


def test_prediction_and_pulls():
    nll = mx.TemplateNLL({"s": SIGNAL, "b": BACKGROUND})
    expected = 90 * SIGNAL / SIGNAL.sum() + 210 * BACKGROUND / BACKGROUND.sum()
    np.testing.assert_allclose(nll.prediction(POINT), expected, rtol=1e-14)
    c = cost.Template(COUNTS, EDGES, (BACKGROUND, SIGNAL), method="da", name=("b", "s"))
    np.testing.assert_allclose(nll.prediction_error(POINT), c.prediction((210.0, 90.0))[1], rtol=1e-13)
    variance = expected + nll.prediction_error(POINT) ** 2
    np.testing.assert_allclose(nll.pulls(POINT, COUNTS), (COUNTS - expected) / np.sqrt(variance), rtol=1e-13)


def test_masked_bins_do_not_count():
    mask = np.arange(8) != 3
    nll = mx.TemplateNLL({"s": SIGNAL, "b": BACKGROUND}, mask=mask)
    other = COUNTS.copy()
    other[3] = 1e6
    np.testing.assert_array_equal(nll(POINT, COUNTS), nll(POINT, other))
    c = cost.Template(COUNTS, EDGES, (BACKGROUND, SIGNAL), method="da", name=("b", "s"))
    c.mask = mask
    np.testing.assert_allclose(2 * nll(POINT, COUNTS), c(210.0, 90.0), rtol=1e-12)
    assert int(nll.ndata(COUNTS)) == 7


@pytest.mark.parametrize("method", ["da", "jsc"])
def test_data_where_all_templates_are_empty(method):
    """Such a bin is left out, as iminuit does, but not without a word."""
    hollow, signal = (np.where(np.arange(8) == 6, 0.0, template) for template in (BACKGROUND, SIGNAL))
    counts = np.where(np.arange(8) == 6, 3.0, COUNTS)
    nll = mx.TemplateNLL({"s": signal, "b": hollow}, method=method)
    with pytest.warns(UserWarning, match=r"3 events in bins that are empty in all templates \(6\)"):
        result = mx.fit(nll, START, counts)
    assert result.valid
    minuit = Minuit(cost.Template(counts, EDGES, (hollow, signal), method=method, name=("b", "s")), 200.0, 100.0)
    minuit.tol, minuit.strategy = 1e-5, 2
    minuit.migrad()
    minuit.hesse()
    np.testing.assert_allclose(result.values, minuit.values, rtol=1e-4)
    np.testing.assert_allclose(result.errors, minuit.errors, rtol=1e-3)
    assert int(nll.ndata(counts)) == 7
    assert int(result.ndof) == 5
    assert nll.complaints(result.params, np.where(np.arange(8) == 6, 0.0, COUNTS)) == []
    with_parameters = mx.TemplateNLL({"s": signal, "b": hollow}, method="bb")
    assert with_parameters.complaints(result.params, counts) == []
    assert mx.fit(with_parameters, START, counts).valid


def test_a_function_that_expects_nothing_is_not_left_out():
    """Of its zero a parameter may be the reason."""
    hollow = np.where(np.arange(8) == 6, 0.0, BACKGROUND)
    counts = np.where(np.arange(8) == 6, 3.0, COUNTS)
    signal = jnp.asarray(np.where(np.arange(8) == 6, 0.0, SIGNAL / SIGNAL.sum()))
    result = mx.fit(mx.TemplateNLL({"s": lambda p: p["s"] * signal, "b": hollow}), START, counts)
    assert not bool(result.valid)
    assert "data[6] is not 0, but the model expects 0 there" in result.message


BAD = {
    "no template": (lambda: mx.TemplateNLL({}), TypeError, "takes a dictionary of templates"),
    "a list": (lambda: mx.TemplateNLL([SIGNAL]), TypeError, "takes a dictionary of templates"),
    "method": (lambda: mx.TemplateNLL({"s": SIGNAL}, method="hpd"), ValueError, "method must be one of 'da'"),
    "shapes": (lambda: mx.TemplateNLL({"s": SIGNAL, "b": np.ones(3)}), ValueError, "different shapes"),
    "empty": (lambda: mx.TemplateNLL({"s": np.zeros(3)}), ValueError, "'s' is empty"),
    "negative": (lambda: mx.TemplateNLL({"s": np.array([3.0, -1.0])}), ValueError, "'s' is negative in bin 1"),
    "nan": (lambda: mx.TemplateNLL({"s": np.array([3.0, np.nan])}), ValueError, "'s' is not finite"),
    "yields": (lambda: mx.TemplateNLL({"s": SIGNAL}, 3.0), TypeError, "the yields of TemplateNLL"),
    "no yield": (
        lambda: mx.fit(mx.TemplateNLL({"sig": SIGNAL}), START, COUNTS),
        ValueError,
        "no parameter 'sig' for the yield",
    ),
    "other yields": (
        lambda: mx.fit(mx.TemplateNLL({"s": SIGNAL}, lambda p: {"x": p["s"]}), START, COUNTS),
        ValueError,
        "a dictionary with 's', got the keys 'x'",
    ),
    "data": (lambda: mx.fit(mx.TemplateNLL({"s": SIGNAL}), {"s": 1.0}, COUNTS[:5]), ValueError, "must be the same"),
    "goodness": (
        lambda: mx.goodness_of_fit(
            mx.TemplateNLL({"s": SIGNAL, "b": BACKGROUND}, method="asy"),
            mx.fit(mx.TemplateNLL({"s": SIGNAL, "b": BACKGROUND}, method="asy"), START, COUNTS),
            COUNTS,
        ),
        TypeError,
        "no saturated model",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore:migrax is made for float64")
@pytest.mark.parametrize("method", ["da", "jsc", "asy", "bb"])
def test_float32(method):
    single = functools.partial(jnp.asarray, dtype=jnp.float32)
    nll = mx.TemplateNLL({"s": single(SIGNAL), "b": single(BACKGROUND)}, method=method)
    result = mx.fit(nll, jax.tree.map(single, START), single(COUNTS))
    assert bool(result.valid)
    assert result.values.dtype == jnp.float32
    expected = {"da": [317.15, 111.99], "jsc": [327.99, 111.48], "asy": [297.98, 116.38], "bb": [316.11, 111.89]}
    np.testing.assert_allclose(result.values, expected[method], rtol=1e-3)
