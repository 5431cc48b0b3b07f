"""A small network trained through a fit: on the expected limit, and on the width of MINOS's interval, of histograms of
its output with twelve systematics that move the templates by interpolation code 1. Asimov data sit on their kinks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._util.jit import QUICK, quick_is_there

pytestmark = pytest.mark.slow

SYSTEMATICS, BINS, EVENTS, STEPS = 12, 10, 300, 60
RNG = np.random.default_rng(1)
SIGNAL, BACKGROUND = RNG.normal([1, 1], 1, (EVENTS, 2)), RNG.normal([-1, -1], 1, (EVENTS, 2))
UP, DOWN = (BACKGROUND + s * 0.15 * RNG.normal(size=(SYSTEMATICS, EVENTS, 2)) for s in (1, -1))
EDGES = jnp.linspace(0.0, 1.0, BINS + 1)
NOMINAL = jnp.zeros(SYSTEMATICS)


def network():
    net = eqx.nn.MLP(2, "scalar", 64, 2, final_activation=jax.nn.sigmoid, key=jax.random.key(0))
    net = jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, net)
    return eqx.partition(net, eqx.is_inexact_array)


def histogram(net, events, total):
    """By a kernel density estimate of its output."""
    output = jax.vmap(net)(jnp.asarray(events))
    counts = jnp.sum(jnp.diff(jax.scipy.special.ndtr((EDGES - output[:, None]) / 0.1), axis=1), axis=0)
    return total * counts / jnp.sum(counts) + 1e-3


def model(net):
    """The likelihood, its parameters and its Asimov data without signal."""
    signal, background = histogram(net, SIGNAL, 20.0), histogram(net, BACKGROUND, 200.0)
    up, down = (jax.vmap(lambda x: histogram(net, x, 200.0))(jnp.asarray(x)) / background for x in (UP, DOWN))

    def expected(p):
        alpha = p["alpha"][:, None]
        factor = jnp.prod(jnp.where(alpha >= 0, up ** jnp.abs(alpha), down ** jnp.abs(alpha)), axis=0)
        return {"n": p["mu"] * signal + background * factor, "aux": p["alpha"]}

    def nll(p, data):
        nu = expected(p)["n"]
        return jnp.sum(nu - data["n"] * jnp.log(nu)) + 0.5 * jnp.sum((p["alpha"] - data["aux"]) ** 2)

    draw = lambda p, key: {"n": jax.random.poisson(key, expected(p)["n"]), "aux": p["alpha"]}  # noqa: E731
    likelihood = mx.Likelihood(nll, sample=draw, expected_data=expected, kinks={"alpha": 0.0})
    return likelihood, signal, background


def expected_limit(net):
    likelihood, _, background = model(net)
    params = {"mu": mx.Parameter(1.0, lower=0.0, upper=50.0), "alpha": mx.Parameter(NOMINAL)}
    return mx.upper_limit(likelihood, params, {"n": background, "aux": NOMINAL}, "mu").expected[2]


def minos_width(net):
    likelihood, signal, background = model(net)
    params = {"mu": mx.Parameter(0.5, lower=0.0, upper=50.0), "alpha": mx.Parameter(NOMINAL)}
    data = {"n": background + signal, "aux": NOMINAL}
    result = mx.fit(likelihood, params, data)
    errors = mx.minos(likelihood, result, data, "mu")
    return errors.upper[0] - errors.lower[0]


@pytest.mark.parametrize("loss", [expected_limit, minos_width])
def test_sixty_steps(loss):
    """All are finite, the loss falls, and the first gradient is that of differences."""
    weights, static = network()

    def value(weights):
        return loss(eqx.combine(weights, static))

    # each loss is another likelihood: one program for all steps
    both = jax.jit(jax.value_and_grad(value), compiler_options=QUICK if quick_is_there() else None)

    @jax.jit
    def adam(i, weights, gradient, first, second):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
        step = lambda m, v: 0.01 * (m / (1 - 0.9**i)) / (jnp.sqrt(v / (1 - 0.999**i)) + 1e-8)  # noqa: E731
        return jax.tree.map(lambda w, m, v: w - step(m, v), weights, first, second), first, second

    start, gradient = both(weights)
    size = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    moved = lambda s: jax.tree.map(lambda w, g: w + s * g / size, weights, gradient)  # noqa: E731
    ahead, behind = (both(moved(s))[0] for s in (1e-5, -1e-5))
    assert float((ahead - behind) / 2e-5) == pytest.approx(float(size), rel=1e-4)

    first = second = jax.tree.map(jnp.zeros_like, weights)
    losses = []
    for i in range(1, STEPS + 1):
        found, gradient = both(weights)
        losses.append(float(found))
        assert np.isfinite(losses[-1]), (i, losses)
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient)), i
        weights, first, second = adam(jnp.asarray(float(i)), weights, gradient, first, second)
    assert losses[0] == float(start)
    assert losses[-1] < 0.6 * losses[0], losses
