"""Limits, tests and errors from the shape of likelihoods of weighted events, against those of as many events as these
are worth."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import migrax as mx

P = mx.Parameter
RANDOM = np.random.default_rng(5)
X = np.concatenate([RANDOM.normal(5.0, 0.5, 30), RANDOM.uniform(0.0, 10.0, 300)])
EVENTS = mx.Events(X, np.full(330, 0.1))
PLAIN = mx.Events(X, np.ones(330))  # the likelihood without weights, by the program that those with weights have


def mixture(p):
    peak = mx.distributions.TruncatedNormal(5.0, 0.5, 0.0, 10.0)
    return mx.distributions.Mixture([peak, mx.distributions.Uniform(0.0, 10.0)], yields=[p["s"], p["b"]])


NLL = mx.ExtendedUnbinnedNLL(distribution=mixture)


def start(scale):
    return {"s": P(30.0 * scale, lower=0.0), "b": P(300.0 * scale, lower=0.0)}


def test_upper_limit():
    """Weights of 0.1 are another unit of the yields: a tenth of the limits without them."""
    weighted, plain = mx.upper_limit(NLL, start(0.1), EVENTS, "s"), mx.upper_limit(NLL, start(1.0), PLAIN, "s")
    assert bool(weighted.valid & plain.valid)
    np.testing.assert_allclose(weighted.observed, 0.1 * plain.observed, rtol=1e-7)
    np.testing.assert_allclose(weighted.expected, 0.1 * plain.expected, rtol=1e-7)
    assert float(plain.scales[""]) == 1
    np.testing.assert_allclose(weighted.scales[""], 10.0, rtol=1e-12)
    assert "Weighted events count by their effective number: the likelihood is scaled by Σw/Σw² (10)" in repr(weighted)


# A yield alone, whose likelihood ratio is that of a Poisson count of 330: 2 (s - n - n log(s / n)).
ALONE = mx.ExtendedUnbinnedNLL(
    distribution=lambda p: mx.distributions.Mixture([mx.distributions.Uniform(0.0, 10.0)], yields=[p["s"]])
)
ALONE_START = {"s": P(30.0, lower=0.0)}


def rise(s):
    return 2 * (s - 330 - 330 * np.log(s / 330))


ENDS = [0.1 * optimize.brentq(lambda s: rise(s) - 1, low, low + 100) for low in (230.0, 330.0)]


def test_interval_and_statistics():
    found = mx.interval(ALONE, ALONE_START, EVENTS, "s")
    np.testing.assert_allclose([found.lower, found.upper], ENDS, rtol=1e-8)
    np.testing.assert_allclose(found.scales[""], 10.0)
    assert mx.interval(ALONE, ALONE_START, jnp.asarray(X), "s").scales is None
    np.testing.assert_allclose(mx.TMu()(ALONE, ALONE_START, EVENTS, "s", 30.0).value, rise(300.0), rtol=1e-7)


def test_minos_and_profiles():
    """They look at the function that they are given, and say what would be right."""
    scaled = mx.effective(ALONE, EVENTS)
    assert mx.effective(ALONE, jnp.asarray(X)) is ALONE
    result = mx.fit(scaled, ALONE_START, EVENTS)
    assert result.covariance.kind == "hesse"
    np.testing.assert_allclose(result.errors, 0.1 * np.sqrt(330), rtol=1e-7)
    errors = mx.minos(scaled, result, EVENTS)
    np.testing.assert_allclose(33.0 + np.array([errors.lower[0], errors.upper[0]]), ENDS, rtol=1e-7)
    np.testing.assert_allclose(mx.profile(scaled, result, EVENTS, "s", [30.0]).rise, [rise(300.0)], rtol=1e-7)
    for kind in (True, "hesse"):  # also where the errors are not the robust ones
        raw = mx.fit(ALONE, ALONE_START, EVENTS, hesse=kind)
        with pytest.warns(UserWarning, match=r"scan uses the shape of the likelihood.*mx.effective\(nll, data\)"):
            mx.scan(ALONE, raw, EVENTS, "s", [30.0])


@pytest.mark.slow
def test_derivative_by_the_weights():
    """All weights times k: as the value tested, over k."""

    def statistic(k):
        return mx.TMu()(ALONE, ALONE_START, mx.Events(X, k * jnp.full(330, 0.1)), "s", 30.0).value

    np.testing.assert_allclose(jax.jit(jax.value_and_grad(statistic))(1.0), [rise(300.0), 60.0], rtol=1e-6)


# b of events and of a control region without weights
CONTROL = mx.Joint({"events": NLL, "control": mx.PoissonNLL(lambda p: p["ratio"] * p["b"] * jnp.ones(1))})


def test_each_part_has_its_own_factor():
    """A control region of 20 b, in the units of events without weights of 2 b."""
    count = jnp.array([590.0])
    weighted, plain = (
        mx.hypotest(
            CONTROL,
            start(scale) | {"ratio": P(2 / scale, fixed=True)},
            {"events": events, "control": count},
            "s",
            40 * scale,
        )
        for scale, events in ((0.1, EVENTS), (1.0, PLAIN))
    )
    assert bool(weighted.valid & plain.valid)
    np.testing.assert_allclose(weighted.statistic, plain.statistic, rtol=1e-6)
    np.testing.assert_allclose(weighted.cls, plain.cls, rtol=1e-6)
    np.testing.assert_allclose(weighted.best, 0.1 * plain.best, rtol=1e-6)
    assert list(weighted.scales) == ["events"]
    assert "'events': 10" in repr(weighted)


def test_weights_that_go_with_the_parameter():
    """One factor for all events is not right where the heavy ones are those of the signal."""
    heavy = np.where(np.arange(330) < 30, 1.0, 0.2)
    with pytest.warns(UserWarning, match="discovery scales .* are correlated with what 's' describes") as caught:
        mx.discovery(NLL, start(0.3), mx.Events(X, heavy), "s")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some = RANDOM.uniform(0.05, 0.15, 330)
        found = mx.discovery(NLL, start(0.1), mx.Events(X, some), "s")
    np.testing.assert_allclose(found.scales[""], np.sum(some) / np.sum(some**2), rtol=1e-12)


@pytest.mark.slow
def test_masks_disks_and_weights_that_add_up_to_nothing():
    weight = np.where(np.arange(330) < 3, -0.2, RANDOM.uniform(0.0, 0.2, 330))
    mask = np.arange(330) % 2 == 0
    kept = weight[mask]
    masked = mx.effective(ALONE, mx.Events(X, weight, mask))
    np.testing.assert_allclose(masked.factor, np.sum(kept) / np.sum(kept**2), rtol=1e-12)
    disk = mx.OnDisk((X, weight), 100)
    np.testing.assert_allclose(mx.effective(ALONE, disk).factor, np.sum(weight) / np.sum(weight**2), rtol=1e-12)
    with pytest.warns(UserWarning, match="the weights of the events add up to -"):
        found = mx.interval(ALONE, ALONE_START, mx.Events(X, -weight), "s")
    assert not bool(found.valid)
    assert np.isnan(found.upper)


def test_toys_are_refused():
    with pytest.raises(TypeError, match="cannot draw toys with weights"):
        mx.hypotest(NLL, start(0.1), EVENTS, "s", 4.0, calculator=mx.Toys(100, jax.random.key(0)))
