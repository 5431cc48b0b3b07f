"""An analysis tuned by the gradient of its expected limit: a cut, and a small network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

_rng = np.random.default_rng(4)
SIGNAL, BACKGROUND = jnp.asarray(_rng.normal(1.2, 0.5, 2000)), jnp.asarray(_rng.exponential(0.6, 4000))
EXPECTED_SIGNAL, EXPECTED_BACKGROUND, SOFT = 20.0, 400.0, 0.1


@jax.jit
def expected_limit(score_of_signal, score_of_background):
    """The median limit on the signal strength of a counting experiment above a soft threshold at 0, whose background
    is known to 10 %."""
    passing = lambda score: jnp.mean(jax.nn.sigmoid(score / SOFT))  # noqa: E731
    signal = EXPECTED_SIGNAL * passing(score_of_signal)
    background = EXPECTED_BACKGROUND * passing(score_of_background)
    nll = mx.Joint(
        {
            "n": mx.PoissonNLL(lambda p: (p["mu"] * signal + p["b"] * background)[None]),
            "b": mx.NormalConstraint("b", 0.1),
        }
    )
    params = {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(1.0, lower=0.01)}
    data = {"n": background[None], "b": jnp.asarray(1.0)}
    return mx.upper_limit(nll, params, data, "mu").expected[2]


@jax.jit
@jax.value_and_grad
def of_cut(cut):
    return expected_limit(SIGNAL - cut, BACKGROUND - cut)


@pytest.mark.slow
def test_a_cut():
    """Gradient descent ends where the lowest point of a scan is."""
    scan = np.linspace(0.2, 1.8, 33)
    limits = [float(of_cut(c)[0]) for c in scan]
    lowest = int(np.argmin(limits))
    assert 2 < lowest < 30
    top = np.polyfit(scan[lowest - 2 : lowest + 3], limits[lowest - 2 : lowest + 3], 2)
    best = -0.5 * top[1] / top[0]
    cut = 0.4
    for _ in range(60):
        cut = cut - 0.3 * float(of_cut(cut)[1])
    np.testing.assert_allclose(cut, best, atol=0.01)
    np.testing.assert_allclose(of_cut(cut)[0], np.polyval(top, best), rtol=1e-4)
    h = 1e-4
    numeric = (float(of_cut(0.7 + h)[0]) - float(of_cut(0.7 - h)[0])) / (2 * h)
    np.testing.assert_allclose(of_cut(0.7)[1], numeric, rtol=1e-4)


@pytest.mark.slow
def test_a_network():
    """Its weights, trained on the expected limit alone from a bad start, do better than the best cut: the signal has an
    upper end, too."""
    best = min(float(of_cut(c)[0]) for c in np.linspace(0.8, 1.2, 5))
    network = eqx.nn.MLP("scalar", "scalar", 4, 1, jnp.tanh, key=jax.random.key(0), dtype=float)
    dynamic, static = eqx.partition(network, eqx.is_array)

    @jax.jit
    @jax.value_and_grad
    def loss(dynamic):
        score = jax.vmap(eqx.combine(dynamic, static))
        return expected_limit(score(SIGNAL), score(BACKGROUND))

    first = float(loss(dynamic)[0])
    speed = jax.tree.map(jnp.zeros_like, dynamic)
    for _ in range(80):  # steps of one length, with momentum
        gradient = loss(dynamic)[1]
        length = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        speed = jax.tree.map(lambda v, g: 0.8 * v - 0.02 * g / length, speed, gradient)  # noqa: B023
        dynamic = jax.tree.map(jnp.add, dynamic, speed)
    last = float(loss(dynamic)[0])
    assert first > 1.5 * best
    assert last < 0.98 * best
