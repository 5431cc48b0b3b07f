"""A warning, with the integral, of densities that are not normalised where the events are."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strangers import Numpyro

import migrax as mx

RNG = np.random.default_rng(0)
WAITS = RNG.exponential(2.0, 500)
TAU = {"tau": mx.Parameter(1.5, lower=0.1, upper=20.0)}


def exponential(p, x):
    return -x / p["tau"] - jnp.log(p["tau"])


def forgotten(p, x):
    return -x / p["tau"]


def test_too_large():
    with pytest.warns(
        UserWarning, match=r"not normalised: its integral over \[.*\], where all events are, .* more than 1\. "
    ):
        mx.fit(mx.UnbinnedNLL(forgotten), TAU, WAITS)


def test_the_integral_is_the_closed_form():
    with pytest.warns(UserWarning, match="not normalised") as caught:
        result = mx.fit(mx.UnbinnedNLL(lambda p, x: jnp.log(3.0) + exponential(p, x)), TAU, WAITS)
    low, high = np.exp(-np.array([WAITS.min(), WAITS.max()]) / result.values)
    assert f"{3 * (low - high):.6g}" in str(caught[0].message)


def test_too_small():
    """Events are cut to a range that the density does not know."""
    with pytest.warns(UserWarning, match=r"is the density normalised\?.* not 1\. If"):
        mx.fit(mx.UnbinnedNLL(exponential), TAU, WAITS[WAITS < 2.0])


@pytest.mark.grid
@pytest.mark.parametrize("kind", ["weighted", "on disk", "a distribution"])
def test_too_small_of(kind):
    x = WAITS[WAITS < 2.0]
    nll, data = mx.UnbinnedNLL(exponential), x
    if kind == "weighted":
        data = mx.Events(x, np.full(x.size, 2.0))
    elif kind == "on disk":
        data = mx.OnDisk(x)
    else:
        nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Exponential(1 / p["tau"]))
    with pytest.warns(UserWarning, match=r"is the density normalised\?"):
        mx.fit(nll, TAU, data)


def test_a_range_of_the_distribution_that_is_not_that_of_the_events():
    def mixture(p):
        wide = mx.distributions.Uniform(0.0, 12.0)
        return mx.distributions.Mixture([mx.distributions.Normal(p["mu"], 0.4), wide], yields=[p["s"], p["b"]])

    x = np.concatenate([RNG.normal(4.0, 0.4, 300), RNG.uniform(0.0, 10.0, 700)])
    start = {"mu": mx.Parameter(4.0), "s": mx.Parameter(300.0, lower=0.0), "b": mx.Parameter(700.0, lower=0.0)}
    with pytest.warns(UserWarning, match=r"not the total of 1000\. If"):
        mx.fit(mx.ExtendedUnbinnedNLL(distribution=mixture), start, x)


@pytest.mark.slow
def test_a_peak_that_escapes_the_panels():
    """A distribution that normalises itself is asked at the fitted parameters how sure it is."""
    x = np.concatenate([RNG.normal(3.097, 0.0015, 600), 2 + 2.5 * RNG.random(1500)])

    def own(p):
        def log_density(x):
            return jnp.logaddexp(jnp.log(p["h"]) - 0.5 * ((x - p["mu"]) / p["sigma"]) ** 2, 0.0)

        return mx.distributions.Normalized(log_density, 2.0, 4.5)

    start = {
        "h": mx.Parameter(320.0, lower=0.0),
        "mu": mx.Parameter(3.097),
        "sigma": mx.Parameter(0.0018, lower=1e-4),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mx.fit(mx.UnbinnedNLL(distribution=own), start, x)
    assert any("give it more panels than 32" in str(warning.message) for warning in caught)


def test_weights_below_zero():
    with pytest.warns(UserWarning, match=r"weights of the events add up to -"):
        mx.fit(mx.UnbinnedNLL(exponential), TAU, mx.Events(WAITS, np.full(WAITS.size, -1.0)))


def test_extended():
    p = {"n": mx.Parameter(400.0, lower=0.0), **TAU}
    log_density = lambda p, x: jnp.log(p["n"]) + exponential(p, x)  # noqa: E731
    assert bool(mx.fit(mx.ExtendedUnbinnedNLL(log_density, lambda p: p["n"]), p, WAITS).valid)
    with pytest.warns(UserWarning, match=r"more than the total of 500"):
        mx.fit(mx.ExtendedUnbinnedNLL(lambda p, x: jnp.log(2.0) + log_density(p, x), lambda p: p["n"]), p, WAITS)


def test_two_observables_and_the_name_of_a_part():
    x = np.column_stack([WAITS, RNG.normal(size=WAITS.size)])

    def density(p, x):
        return exponential(p, x[:, 0]) - 0.5 * x[:, 1] ** 2  # without the 1/sqrt(2 pi)

    joint = mx.Joint({"decays": mx.UnbinnedNLL(density), "tau": mx.NormalConstraint("tau", 0.5)})
    with pytest.warns(UserWarning, match=r"'decays': the density is not normalised.* over \[.*\] x \["):
        mx.fit(joint, TAU, {"decays": x, "tau": 2.0})


GOOD = {
    "normalised": (exponential, TAU, WAITS),
    "a narrow peak": (
        lambda p, x: jnp.logaddexp(
            jnp.log(0.5) + mx.distributions.Normal(p["mu"], 1e-3).log_prob(x), jnp.log(0.5 / 1000)
        ),
        {"mu": mx.Parameter(300.0)},
        np.concatenate([RNG.normal(300.0, 1e-3, 500), RNG.uniform(0.0, 1000.0, 500)]),
    ),
    "masked": (exponential, TAU, mx.Events(np.append(WAITS, 1e300), mask=np.append(WAITS > 0, False))),
    "negative weights": (
        exponential,
        TAU,
        mx.Events(WAITS[WAITS < 8.0], np.where(WAITS[WAITS < 8.0] > 0.1, 1.0, -0.1)),
    ),
    "a shape that does not fit well": (
        lambda p, x: mx.distributions.Cauchy(p["tau"], 1.0).log_prob(x),
        TAU,
        RNG.normal(2.0, 1.0, 60),
    ),
    "three observables": (lambda p, x: jnp.sum(exponential(p, x), axis=1) + 1.0, TAU, np.stack([WAITS] * 3, axis=1)),
    "all events at one place": (exponential, TAU, np.full(50, 2.0)),
}


@pytest.mark.parametrize("case", GOOD)
def test_nothing_is_said(case):
    density, params, data = GOOD[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(mx.fit(mx.UnbinnedNLL(density), params, data).valid)


def test_components_of_other_libraries():
    """What has no `log_integral` is integrated by panels; a mixture of it with ours, too."""

    def mixture(p):
        return mx.distributions.Mixture([Numpyro(p["mu"], 1.0), mx.distributions.Uniform(-8.0, 8.0)], fractions=0.9)

    nll, start = mx.UnbinnedNLL(distribution=mixture), {"mu": mx.Parameter(0.1)}
    x = RNG.normal(0.0, 1.0, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(mx.fit(nll, start, np.append(x, RNG.uniform(-8.0, 8.0, 30))).valid)
    with pytest.warns(UserWarning, match=r"is the density normalised\?"):
        mx.fit(nll, start, x[np.abs(x) < 1.0])


def test_one_trace_more_and_none_under_jit():
    """The density is traced once more for it, and not again for other data of the same shape."""
    traces = []

    def density(p, x):
        traces.append(1)
        return exponential(p, x)

    nll = mx.UnbinnedNLL(density)
    mx.fit(nll, TAU, WAITS)
    first = len(traces)
    mx.fit(nll, TAU, 1.1 * WAITS)
    assert len(traces) == first
    jax.jit(lambda x: mx.fit(mx.UnbinnedNLL(forgotten), TAU, x).values)(WAITS)  # says nothing
