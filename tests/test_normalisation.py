"""A warning, with the integral, of densities that are not normalised where the events are."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

RNG = np.random.default_rng(0)
WAITS = RNG.exponential(2.0, 500)
TAU = {"tau": mx.Parameter(1.5, lower=0.1, upper=20.0)}


def exponential(p, x):
    return -x / p["tau"] - jnp.log(p["tau"])


def forgotten(p, x):
    return -x / p["tau"]


def test_too_large():
    with pytest.warns(UserWarning, match=r"not normalised: the integral of exp\(log_prob\).* more than 1\. "):
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


def test_extended():
    p = {"n": mx.Parameter(400.0, lower=0.0), **TAU}
    log_density = lambda p, x: jnp.log(p["n"]) + exponential(p, x)  # noqa: E731
    assert bool(mx.fit(mx.ExtendedUnbinnedNLL(log_density, lambda p: p["n"]), p, WAITS).valid)
    with pytest.warns(UserWarning, match=r"more than total\(params\) = "):
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
    "weighted and cut": (exponential, TAU, mx.Events(WAITS[WAITS < 8.0], np.full(np.sum(WAITS < 8.0), 2.0))),
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
