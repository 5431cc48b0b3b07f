"""What `mx.fit` says of the normalisation of a density: over the range that is said, or as far as events tell it."""

import re
import warnings

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import migrax as mx
from migrax.distributions import Exponential, Truncated

RNG = np.random.default_rng(1)
X = RNG.exponential(4.0, 4000)
X = X[X < 10]
SIDE = X[(X < 4) | (X > 6)]
Y = RNG.normal(size=SIDE.size)
SIDES = [(0.0, 4.0), (6.0, 10.0)]
TAU = {"tau": mx.Parameter(3.0, lower=0.1, upper=50.0)}


def over_sides(p, x):
    """A density of its sidebands alone, whose formula does not end at them."""
    t = p["tau"]
    return -x / t - jnp.log(t * (1 - jnp.exp(-4 / t) + jnp.exp(-6 / t) - jnp.exp(-10 / t)))


def over_all(p, x):
    return -x / p["tau"] - jnp.log(p["tau"] * (1 - jnp.exp(-10 / p["tau"])))


def plane(density):
    return lambda p, x: density(p, x[:, 0]) - 0.5 * x[:, 1] ** 2 - 0.5 * jnp.log(2 * jnp.pi)


def yields(density):
    return lambda p, x: jnp.log(p["n"]) + density(p, x)


def an_l(p, x):
    """Of the part of a plane that is an L: the second quarter of the box around it is left out."""
    t = p["tau"]
    below, above = 1 - jnp.exp(-4 / t), jnp.exp(-4 / t) - jnp.exp(-10 / t)
    return plane(lambda p, x: -x / t - jnp.log(t * (below + 0.5 * above)))(p, x)


RIGHT, WRONG = mx.UnbinnedNLL(over_sides), mx.UnbinnedNLL(over_all)
SAID = mx.UnbinnedNLL(over_sides, range=SIDES)
WRONGLY = mx.UnbinnedNLL(over_all, range=SIDES)
EXTENDED = {"n": mx.Parameter(500.0, lower=0.0), **TAU}
total = lambda p: p["n"]  # noqa: E731
RIGHT_N, WRONG_N = (mx.ExtendedUnbinnedNLL(yields(f), total) for f in (over_sides, over_all))
WRONGLY_N = mx.ExtendedUnbinnedNLL(yields(over_all), total, range=SIDES)
CUT = mx.UnbinnedNLL(distribution=lambda p: Truncated(Exponential(1 / p["tau"]), SIDES))
WEIGHT = RNG.uniform(0.5, 2.0, SIDE.size)
L_EVENTS = np.stack([RNG.exponential(4.0, 6000), RNG.normal(size=6000)], axis=1)
L_EVENTS = L_EVENTS[(L_EVENTS[:, 0] < 10) & ((L_EVENTS[:, 0] < 4) | (L_EVENTS[:, 1] < 0))]
MANY = RNG.exponential(4.0, 250_000)
MANY = MANY[(MANY < 10) & ((MANY < 4) | (MANY > 6))]

GOOD = {
    "sidebands": (RIGHT, SIDE),
    "sidebands, said": (SAID, SIDE),
    "sidebands, cut": (CUT, SIDE),
    "weights": (RIGHT, mx.Events(SIDE, WEIGHT)),
    "negative weights": (RIGHT, mx.Events(SIDE, np.where(np.arange(SIDE.size) < 100, -WEIGHT, WEIGHT))),
    "masked": (RIGHT, mx.Events(np.append(SIDE, 5.0), mask=np.append(SIDE > 0, False))),
    "few events": (RIGHT, SIDE[:40]),
    "many events": (RIGHT, MANY),
    "on disk, sorted": (WRONG, mx.OnDisk(np.sort(X), chunk_size=500)),
    "sidebands on disk": (RIGHT, mx.OnDisk(np.sort(SIDE), chunk_size=500)),
    "rounded": (WRONG, np.round(X[X < 9.9], 1)),
    "a column": (mx.UnbinnedNLL(lambda p, x: over_sides(p, x[:, 0])), SIDE[:, None]),
    "two observables": (mx.UnbinnedNLL(plane(over_sides)), np.stack([SIDE, Y], axis=1)),
    "two observables, said": (
        mx.UnbinnedNLL(plane(over_sides), range=(SIDES, [(-8.0, 8.0)])),
        np.stack([SIDE, Y], axis=1),
    ),
    "an L": (mx.UnbinnedNLL(an_l), L_EVENTS),
    "strips": (mx.UnbinnedNLL(lambda p, x: over_all(p, x) + jnp.log(2.0)), X[np.floor(5 * X) % 2 == 0]),
    "extended": (RIGHT_N, SIDE),
}


def said_of(nll, data):
    """From the likelihood itself, at a point near the minimum: nothing is to be compiled for a fit."""
    return nll.complaints({"tau": 4.0, "n": 3068.0}, data)


@pytest.mark.grid
@pytest.mark.parametrize("case", GOOD)
def test_nothing_is_said_of_what_is_right(case):
    assert said_of(*GOOD[case]) == []


ASKED = r"none is there\).* not .*If events are accepted in these ranges only.*say where: range=\[\(low, high\), ...\]"
BAD = {
    "sidebands": (WRONG, SIDE, ASKED),
    "weights": (WRONG, mx.Events(SIDE, WEIGHT), ASKED),
    "on disk": (WRONG, mx.OnDisk(SIDE, chunk_size=500), ASKED),
    "many events": (WRONG, MANY, ASKED),
    "extended": (WRONG_N, SIDE, ASKED),
    "two observables": (mx.UnbinnedNLL(plane(over_all)), np.stack([SIDE, Y], axis=1), ASKED),
    "said": (WRONGLY, SIDE, r"not normalised: its integral over the range \[0, 4\] and \[6, 10\] is 0\.\d+ .*not 1\."),
    "said, extended": (WRONGLY_N, SIDE, r"not normalised.* not the total of 3068\. Values and errors"),
    "too large": (
        mx.UnbinnedNLL(lambda p, x: over_sides(p, x) + 0.1, range=SIDES),
        SIDE,
        r"is 1\.10517 at .*more than 1",
    ),
    "too large without a range": (
        mx.UnbinnedNLL(lambda p, x: over_sides(p, x) + 0.1),
        SIDE,
        "not normalised.* more than 1",
    ),
    "two observables, too large": (
        mx.UnbinnedNLL(lambda p, x: plane(over_sides)(p, x) + 0.5),
        np.stack([SIDE, Y], axis=1),
        r"\(\[.*\], \[.*\]\) x \[.* is 1\.6\d+ .*more than 1",
    ),
    "events outside": (
        mx.UnbinnedNLL(over_all, range=(0.0, 9.0)),
        X,
        rf"^{np.sum(X > 9)} of {X.size} events are outside",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    nll, data, message = BAD[case]
    found = said_of(nll, data)
    assert found
    assert re.search(message, found[0])


def test_the_integral_is_the_closed_form():
    cdf = lambda x: 1 - np.exp(-np.asarray(x) / 4)  # noqa: E731
    inside = (cdf(4) + cdf(10) - cdf(6)) / cdf(10)
    assert f"is {inside:.6g} at the fitted parameters" in said_of(WRONGLY, SIDE)[0]


def test_the_fit_of_sidebands_is_that_of_scipy_and_is_not_doubted():
    def nll(t):
        return np.sum(SIDE / t) + SIDE.size * np.log(t * (1 - np.exp(-4 / t) + np.exp(-6 / t) - np.exp(-10 / t)))

    best = optimize.minimize_scalar(nll, bracket=(3.0, 5.0), tol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = mx.fit(SAID, TAU, SIDE)
    np.testing.assert_allclose(result.values, best.x, rtol=1e-6)
    step = 1e-3
    curvature = (nll(best.x + step) - 2 * best.fun + nll(best.x - step)) / step**2
    np.testing.assert_allclose(result.errors, 1 / np.sqrt(curvature), rtol=1e-4)
    with pytest.warns(UserWarning, match="the density is not normalised"):
        mx.fit(WRONGLY, TAU, SIDE)


def test_another_range_compiles_nothing():
    traces = []

    def density(p, x):
        traces.append(1)
        return over_all(p, x)

    value = eqx.filter_jit(lambda nll, x: nll({"tau": 4.0}, x))
    value(mx.UnbinnedNLL(density, range=(0.0, 10.0)), X)
    first = len(traces)
    value(mx.UnbinnedNLL(density, range=(0.0, 11.0)), X)
    assert len(traces) == first


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3.0, TypeError, "a list of these, got float"),
        ((1.0,), ValueError, r"got \(1.0,\)"),
        ((4.0, 0.0), ValueError, r"the range \(4.0, 0.0\) is empty"),
        ([(0, 10), (0, 5)], ValueError, r"overlap.*for two observables it is \(\[\(low, high\)\], \[\(low, high\)\]\)"),
        ([], ValueError, "got none"),
    ],
)
def test_ranges_that_are_none(given, error, message):
    with pytest.raises(error, match=message):
        mx.UnbinnedNLL(over_all, range=given)


def test_a_range_for_each_observable():
    nll = mx.UnbinnedNLL(over_all, range=([(0, 1)], [(0, 1)]))
    with pytest.raises(ValueError, match="range is that of 2 observables, the events have 1"):
        nll({"tau": 4.0}, X)
