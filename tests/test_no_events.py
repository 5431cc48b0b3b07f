"""Zero observed events are a result: the likelihood of an unbinned fit is then exp(-total)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax.distributions import Mixture, Normal, Uniform

NONE = np.zeros(0)
ONE = {"s": mx.Parameter(1.0, lower=0.0)}
BOTH = {"s": mx.Parameter(0.5, lower=0.0), "b": mx.Parameter(1.0, lower=0.0)}


def model(p):
    return Mixture([Normal(0.5, 0.1), Uniform(0.0, 1.0)], yields=[p["s"], p["b"]])


YIELD = mx.ExtendedUnbinnedNLL(distribution=lambda p: Mixture([Uniform(0.0, 1.0)], yields=[p["s"]]))
MIXTURE = mx.ExtendedUnbinnedNLL(distribution=model, range=(0.0, 1.0))
SHAPE = mx.UnbinnedNLL(distribution=lambda p: Normal(p["mu"], 1.0))
DATA = {
    "an array": NONE,
    "events": mx.Events(NONE),
    "weights": mx.Events(NONE, NONE),
    "masked": mx.Events(np.full(3, np.nan), mask=np.zeros(3, bool)),
    "on disk": mx.OnDisk(NONE),
    "weights on disk": mx.OnDisk((NONE, NONE)),
    "an iterator": mx.OnDisk(lambda: iter([NONE])),
    "chunks without a row": mx.OnDisk(lambda: iter([NONE, NONE])),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", DATA)
def test_the_likelihood_is_that_of_the_number(case):
    """-log L = s, whose slope is 1."""
    value, slope = jax.value_and_grad(lambda s: YIELD({"s": s}, DATA[case]))(2.5)
    assert float(value) == 2.5
    assert float(slope) == 1.0
    assert YIELD.complaints({"s": 2.5}, DATA[case]) == []
    assert float(SHAPE({"mu": 1.0}, DATA[case])) == 0.0


def test_chunks_and_two_observables():
    chunked = mx.ExtendedUnbinnedNLL(lambda p, x: jnp.log(p["s"]) - jnp.sum(x, axis=1), lambda p: p["s"], chunk_size=7)
    assert float(chunked({"s": 2.5}, np.zeros((0, 2)))) == 2.5
    some = mx.OnDisk(lambda: iter([np.full(2, 0.5), NONE, np.full(1, 0.25)]))  # a chunk without events among others
    np.testing.assert_allclose(YIELD({"s": 2.5}, some), 2.5 - 3 * np.log(2.5), rtol=1e-14)


def test_a_yield_goes_to_its_bound():
    result = mx.fit(YIELD, ONE, NONE)
    assert bool(result.valid)
    assert bool(result.at_limit[0])
    np.testing.assert_allclose(result.values, 0.0, atol=1e-9)
    minos = mx.minos(YIELD, result, NONE)
    np.testing.assert_allclose(minos.upper, 0.5, rtol=1e-6)  # where -log L has risen by 1/2
    profile = mx.profile(YIELD, result, NONE, "s", np.array([1.0, 2.0]))
    np.testing.assert_allclose(profile.rise, [2.0, 4.0], rtol=1e-9)  # in units of an error's


@pytest.mark.slow
def test_the_limit_by_toys_is_the_closed_form():
    """CLs is P(0 | s) / P(0 | 0) = exp(-s): 0.05 at 2.996."""
    s = -np.log(0.05)
    found = mx.hypotest(YIELD, ONE, NONE, "s", s, calculator=mx.Toys(4000, jax.random.key(0)))
    assert abs(float(found.cls) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_the_asymptotic_limit():
    """q = q_A = 2 s, so that CLs = 2 (1 - Phi(sqrt(2 s))): 1.96² / 2 (Cowan et al. 2011, eq. 66)."""
    np.testing.assert_allclose(mx.upper_limit(YIELD, ONE, NONE, "s").observed, 1.9599639845**2 / 2, rtol=1e-6)


def test_with_a_control_region():
    """Counts of 3 with the mean b: 2 b - 3 log b is least at 1.5, with an error of sqrt(3) / 2."""
    joint = mx.Joint((MIXTURE, mx.PoissonNLL(lambda p: p["b"] * jnp.ones(1))))
    result = mx.fit(joint, BOTH, (NONE, np.array([3.0])))
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [1.5, 0.0], atol=1e-7)
    np.testing.assert_allclose(result.errors, [np.sqrt(0.75), 0.0], rtol=1e-6)


def test_a_shape_is_not_determined():
    result = mx.fit(SHAPE, {"mu": mx.Parameter(1.0)}, NONE)
    assert int(result.status) == int(mx.Status.FLAT_DIRECTION)
    assert "Along mu" in result.message


@pytest.mark.slow
def test_toys_and_asimov_data():
    toys = mx.sample(MIXTURE, {"s": 0.2, "b": 0.3}, jax.random.key(1), 20)
    fits = mx.fit_toys(MIXTURE, BOTH, toys)
    assert np.any(np.asarray(toys.total) == 0)
    assert np.all(np.asarray(fits.valid))
    np.testing.assert_allclose(np.sum(fits.values, axis=1), toys.total, atol=1e-6)
    assert mx.sample(SHAPE, {"mu": 1.0}, jax.random.key(0), data=NONE).shape == (0,)
    for nll, params, data in ((YIELD, {"s": 0.0}, None), (SHAPE, {"mu": 1.0}, NONE)):
        assert float(mx.asimov(nll, params, data=data).total) == 0.0


@pytest.mark.slow
def test_pictures():
    import matplotlib.pyplot as plt

    result = mx.fit(MIXTURE, BOTH, NONE)
    main, _ = mx.plot.data_and_model(MIXTURE, result, NONE)
    np.testing.assert_allclose(main.get_xlim(), (0.0, 1.0))
    with pytest.raises(ValueError, match="say edges="):
        mx.plot.data_and_model(YIELD, mx.fit(YIELD, ONE, NONE), NONE)
    plt.close("all")
