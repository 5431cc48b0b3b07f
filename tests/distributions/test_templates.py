"""Densities made of pieces: histograms, lines between knots, and histograms that change with a parameter."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

import migrax as mx
from migrax.distributions import HistogramTemplate, Interpolated, Morph

INF = float("inf")
EDGES = [-1.0, 0.0, 0.5, 3.0]


def stacked(params, points):
    """Parameters of any shape on the last axis, and points in their precision."""
    values = jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, params)), axis=-1)
    return values, jnp.asarray(points, values.dtype)


def histogram(*counts):
    return HistogramTemplate(*stacked(counts, EDGES))


def interpolated(*values):
    values, knots = stacked(values, EDGES)
    return Interpolated(knots, values)


def morph(parameter, log=False):
    parameter = jnp.asarray(parameter)
    edges = jnp.asarray(EDGES, parameter.dtype)
    templates = [HistogramTemplate(jnp.asarray(c, parameter.dtype), edges) for c in CONTENTS]
    return Morph(templates, jnp.array([-1.0, 0.0, 2.0], parameter.dtype), parameter, log=log)


CONTENTS = [[4.0, 3.0, 2.0], [5.0, 4.0, 6.0], [9.0, 1.0, 7.0]]


def histogram_pdf(x, *counts):
    i = max(i for i in range(3) if x >= EDGES[i])
    return mpmath.log(counts[i] / (mpmath.mpf(EDGES[i + 1]) - EDGES[i]) / sum(counts))


def interpolated_pdf(x, *values):
    i = max(i for i in range(3) if x >= EDGES[i])
    width = [mpmath.mpf(EDGES[k + 1]) - EDGES[k] for k in range(3)]
    area = sum(width[k] * (values[k] + values[k + 1]) / 2 for k in range(3))
    return mpmath.log((values[i] + (values[i + 1] - values[i]) * (x - EDGES[i]) / width[i]) / area)


def morph_pdf(log):
    def log_pdf(x, parameter):
        i, below, above = (0, -1, 0) if parameter < 0 else (1, 0, 2)
        t = (parameter - below) / mpmath.mpf(above - below)
        pairs = zip(CONTENTS[i], CONTENTS[i + 1], strict=True)
        if log:
            contents = [a * mpmath.mpf(b / mpmath.mpf(a)) ** t for a, b in pairs]
        else:
            contents = [max(a + (b - a) * t, mpmath.mpf(0)) for a, b in pairs]
        return histogram_pdf(x, *contents)

    return log_pdf


X = [-1.0, -0.3, 0.0, 0.2, 2.9]
INTERVALS = [(-1.0, 3.0), (-INF, 0.2), (0.1, 0.1001), (-0.5, 2.0), (2.9, INF), (0.0, 0.5), (5.0, 6.0)]
KNOTS = (-1, 0, 0.5, 3)
CASES = {
    "histogram": Case(histogram, (2.0, 5.0, 0.01), histogram_pdf, X, INTERVALS, KNOTS),
    "huge": Case(histogram, (2e200, 5e200, 3e190), histogram_pdf, X, INTERVALS, KNOTS),
    "interpolated": Case(interpolated, (2.0, 5.0, 1.0, 1e-6), interpolated_pdf, X, INTERVALS, KNOTS),
    "tip": Case(
        interpolated, (0.0, 5.0, 5.0, 0.0), interpolated_pdf, [-0.999999, 0.3, 2.0], INTERVALS, KNOTS, to=[1, 2]
    ),
    "morph": Case(morph, (0.7,), morph_pdf(False), X, INTERVALS, KNOTS),
    "morph beyond": Case(morph, (-1.25,), morph_pdf(False), X, INTERVALS, KNOTS),
    "exponential morph": Case(lambda p: morph(p, log=True), (2.6,), morph_pdf(True), X, INTERVALS, KNOTS),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestPieces:
    @pytest.mark.grid
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-1.0, -0.4, 0.0, 0.3, 1.0, 3.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["histogram", "tip", "morph"])
def test_samples(name):
    checks.check_samples(CASES[name])


@pytest.mark.grid
@pytest.mark.parametrize("name", ["histogram", "tip", "morph", "exponential morph"])
def test_finite(name):
    checks.check_finite(CASES[name], [-1e4, -1.5, -1.0, -0.5, 0.0, 0.3, 3.0, 3.5, 1e4])


def test_empty_bins():
    at = jax.jit(lambda c: HistogramTemplate(c, EDGES).log_prob(jnp.array([-0.5, 0.2, 1.0])))
    counts = jnp.array([2.0, 0.0, 3.0])
    np.testing.assert_allclose(at(counts), [np.log(0.4), -np.inf, np.log(0.6 / 2.5)], rtol=1e-14)
    assert np.all(np.isfinite(jax.jit(jax.jacrev(at))(counts)))
    assert np.all(np.isnan(at(jnp.array([2.0, -1.0, 3.0])))[1])
    draws = HistogramTemplate(counts, EDGES).sample(jax.random.key(0), (2000,))
    assert not np.any((draws > 0) & (draws < 0.5))
    assert np.isnan(HistogramTemplate(counts, EDGES).log_prob(jnp.nan))
    assert HistogramTemplate([2, 0, 3], [0, 1, 2, 3]).total == 5


def test_derivatives_in_the_edges():
    def at(edges):
        d = HistogramTemplate(jnp.array([2.0, 5.0, 3.0]), edges)
        return jnp.append(d.log_prob(jnp.array([0.2, 1.0])), d.log_integral(-0.3, 1.0))

    def exact(edges):
        width = np.diff(edges)
        inner = (2 * (edges[1] + 0.3) / width[0] + 5 + 3 * (1 - edges[2]) / width[2]) / 10
        return np.log([0.5 / width[1], 0.3 / width[2], inner])

    edges = np.array(EDGES)
    got = jax.jit(jax.jacrev(at))(edges)
    h = 1e-6
    for i in range(4):
        step = h * (np.arange(4) == i)
        np.testing.assert_allclose(got[:, i], (exact(edges + step) - exact(edges - step)) / (2 * h), atol=1e-8)


def test_morph():
    at = jnp.array([-3.0, -1.0, -0.5, 0.0, 1.0, 2.0, 4.0])
    counts = morph(at).counts
    np.testing.assert_allclose(
        counts,
        [[2, 1, 0], [4, 3, 2], [4.5, 3.5, 4], [5, 4, 6], [7, 2.5, 6.5], [9, 1, 7], [13, 0, 8]],
        rtol=1e-14,
    )
    np.testing.assert_allclose(morph(at).total, np.sum(counts, axis=-1))
    by_factors = [[4 * 0.8**2, 3 * 0.75**2, 2 / 9], [20**0.5, 12**0.5, 12**0.5], [81 / 5, 1 / 4, 49 / 6]]
    np.testing.assert_allclose(morph(at[jnp.array([0, 2, 6])], log=True).counts, by_factors, rtol=1e-14)
    # clipped contents do not move; above an anchor the slope is the upper one
    slopes = jax.jit(jax.jacrev(lambda p: morph(p).counts))
    np.testing.assert_allclose(slopes(4.0), [2.0, 0.0, 0.5])
    np.testing.assert_allclose(slopes(0.0), [2.0, -1.5, 0.5])
    template = morph(0.5).template
    np.testing.assert_allclose(template.counts, morph(0.5).counts)
    empty = [HistogramTemplate([0.0, 2.0], [0.0, 1.0, 2.0]), HistogramTemplate([0.0, 4.0], [0.0, 1.0, 2.0])]
    np.testing.assert_allclose(Morph(empty, [0.0, 1.0], 0.5, log=True).counts, [0.0, 8**0.5])
    assert np.isfinite(jax.grad(lambda p: Morph(empty, [0.0, 1.0], p, log=True).total)(0.5))


def test_a_fit_finds_the_parameter():
    edges = np.linspace(0.0, 1.0, 21)
    templates = [HistogramTemplate(1000 * np.diff(stats.norm(m, 0.2).cdf(edges)), edges) for m in (0.3, 0.5, 0.7)]
    nll = mx.PoissonNLL(lambda p: Morph(templates, [-1.0, 0.0, 1.0], p["scale"]).counts)
    result = mx.fit(nll, {"scale": 0.2}, Morph(templates, [-1.0, 0.0, 1.0], 0.6).counts)
    assert result.valid
    np.testing.assert_allclose(result.params["scale"], 0.6, atol=1e-5)


E = [0.0, 1.0, 2.0]
A, WIDER = HistogramTemplate([1.0, 2.0], E), HistogramTemplate([1.0, 2.0], [0.0, 1.0, 3.0])
HALF = HistogramTemplate([0.0, 2.0], E)


@pytest.mark.parametrize(
    ("kind", "message", "make"),
    [
        (ValueError, r"counts\[1\] is -1.0", lambda: HistogramTemplate([1.0, -1.0], E)),
        (ValueError, r"counts\[1, 0\] is nan", lambda: HistogramTemplate([[1.0, 1.0], [np.nan, 1]], E)),
        (ValueError, "all counts are 0", lambda: HistogramTemplate([0.0, 0.0], E)),
        (ValueError, r"counts must have shape \(2,\), got \(3,\)", lambda: HistogramTemplate(np.ones(3), E)),
        (ValueError, "edges must be finite, got inf", lambda: HistogramTemplate([1.0], [0.0, INF])),
        (ValueError, "increasing: 1.0 is followed by 0.5", lambda: HistogramTemplate([1.0, 1.0], [0.0, 1.0, 0.5])),
        (ValueError, "one axis", lambda: HistogramTemplate([1.0], [0.0])),
        (ValueError, "3 knots, but values", lambda: Interpolated([0.0, 1.0, 2.0], [1.0, 2.0])),
        (ValueError, "all values are 0", lambda: Interpolated([0.0, 1.0], [0.0, 0.0])),
        (TypeError, "template 1 must be one HistogramTemplate", lambda: Morph([A, 1.0], [0.0, 1.0], 0.5)),
        (ValueError, "need as many anchors, got 3", lambda: Morph([A, A], [0.0, 1.0, 2.0], 0.5)),
        (ValueError, "the anchors must be increasing", lambda: Morph([A, A], [1.0, 0.0], 0.5)),
        (ValueError, "edges of template 1", lambda: Morph([A, WIDER], [0.0, 1.0], 0.5)),
        (ValueError, "bin 0 must be filled in all", lambda: Morph([A, HALF], [0.0, 1.0], 0.5, log=True)),
    ],
)  # fmt: skip
def test_nonsense(kind, message, make):
    with pytest.raises(kind, match=message):
        make()
