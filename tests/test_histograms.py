"""Histograms of other packages, as data."""

import boost_histogram as bh
import hist
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

RNG = np.random.default_rng(7)
X, W = RNG.normal(1.0, 1.0, 500), RNG.uniform(0.5, 1.5, 500)
EDGES = np.linspace(-2.0, 4.0, 13)
INSIDE = np.histogram(X, EDGES)[0]


class Plottable:
    """The least that UHI's protocol asks for."""

    kind = "COUNT"

    class Axis:
        traits = None

        def __len__(self):
            return 12

        def __getitem__(self, i):
            return EDGES[i], EDGES[i + 1]

    axes = (Axis(),)

    def values(self):
        return INSIDE

    def variances(self):
        return INSIDE

    def counts(self):
        return INSIDE


PLAIN = {
    "hist": lambda: hist.Hist(hist.axis.Regular(12, -2, 4)).fill(X),
    "hist of integers": lambda: hist.Hist(hist.axis.Regular(12, -2, 4), storage=hist.storage.Int64()).fill(X),
    "variable": lambda: hist.Hist(hist.axis.Variable(EDGES)).fill(X),
    "boost": lambda: bh.Histogram(bh.axis.Regular(12, -2, 4)).fill(X),
    "unit weights": lambda: hist.Hist(hist.axis.Regular(12, -2, 4), storage=hist.storage.Weight()).fill(X),
    "numpy": lambda: np.histogram(X, EDGES),
    "protocol": Plottable,
}


@pytest.mark.parametrize("kind", PLAIN)
def test_counts(kind):
    counts, edges = mx.io.from_histogram(PLAIN[kind]())
    assert not isinstance(counts, mx.Counts)
    np.testing.assert_array_equal(counts, INSIDE)
    np.testing.assert_allclose(edges, EDGES, atol=1e-15)


def test_weights():
    h = hist.Hist(hist.axis.Regular(12, -2, 4), storage=hist.storage.Weight()).fill(X, weight=W)
    counts, edges = mx.io.from_histogram(h)
    np.testing.assert_allclose(counts.value, np.histogram(X, EDGES, weights=W)[0], rtol=1e-12)
    np.testing.assert_allclose(counts.variance, np.histogram(X, EDGES, weights=W**2)[0], rtol=1e-12)
    shape = mx.BinnedNLL(
        log_expected=lambda p: mx.distributions.Normal(p["mu"], 1.0).log_bin_integrals(edges),
    )
    result = mx.fit(shape, {"mu": 0.0}, counts)
    assert abs(float(result.values[0]) - 1.0) < 4 * float(result.errors[0])
    # uniform weights from 0.5 to 1.5: errors grow by sqrt(13/12)
    plain = mx.fit(shape, {"mu": 0.0}, jnp.asarray(INSIDE, float))
    np.testing.assert_allclose(result.errors / plain.errors, np.sqrt(13 / 12), rtol=0.03)


def test_two_axes_and_discrete_ones():
    h = hist.Hist(hist.axis.Regular(3, 0, 3), hist.axis.Integer(2, 5), hist.axis.StrCategory(["a", "b"]))
    h.fill([0.5, 1.5, 1.5], [2, 4, 4], ["a", "b", "b"])
    counts, edges = mx.io.from_histogram(h)
    assert counts.shape == (3, 3, 2)
    assert float(counts[1, 2, 1]) == 2.0
    np.testing.assert_allclose(edges[0], [0, 1, 2, 3])
    np.testing.assert_allclose(edges[1], [2, 3, 4, 5] if isinstance(h.axes[1][0], tuple) else [1.5, 2.5, 3.5, 4.5])
    np.testing.assert_allclose(edges[2], [0, 1, 2])
    counts, edges = mx.io.from_histogram(np.histogram2d(X, W, (EDGES, [0.5, 1.0, 1.5])))
    assert counts.shape == (12, 2)
    assert len(edges) == 2


def test_weights_without_squares_are_said():
    h = hist.Hist(hist.axis.Regular(12, -2, 4)).fill(X, weight=W)
    with pytest.warns(UserWarning, match="keeps no sums of their squares"):
        mx.io.from_histogram(h)


BAD = {
    "array": (lambda: mx.io.from_histogram(INSIDE), TypeError, "no histogram of the plottable protocol: ndarray"),
    "profile": (
        lambda: mx.io.from_histogram(
            hist.Hist(hist.axis.Regular(3, 0, 1), storage=hist.storage.Mean()).fill([0.5], sample=[1.0])
        ),
        TypeError,
        "of the kind MEAN",
    ),
    "edges": (lambda: mx.io.from_histogram((INSIDE, EDGES[1:])), ValueError, r"edges for \(11,\)"),
    "width": (
        lambda: mx.io.from_histogram((np.ones(2), np.array([0.0, 1.0, 1.0]))),
        ValueError,
        "bin 1 of axis 0 has no width",
    ),
    "given as data": (
        lambda: mx.fit(mx.PoissonNLL(lambda p: p["mu"]), {"mu": 1.0}, hist.Hist(hist.axis.Regular(3, 0, 1))),
        TypeError,
        r"mx.io.from_histogram\(histogram\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
