"""Values, gradients and Hessians of the likelihoods that users write, by NumPy and by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
import workspaces
from migrax import distributions as D
from migrax._fit.objective import objective
from migrax._host.plan import Plan
from migrax._likelihoods.base import as_likelihood
from migrax._solvers.flat import value_grad_hessian

EDGES = jnp.linspace(0.4, 9.0, 9)
EVENTS = jnp.asarray([0.45, 0.7, 1.3, 2.2, 2.21, 3.0, 3.5, 4.4, 5.0, 6.1, 7.7, 8.9])

# what makes the density, and parameters for it
DENSITIES = {
    "Argus": (lambda p: D.Argus(10.0 + p[0], -p[1], p[2]), [0.1, 8.0, 0.6]),
    "Bernstein": (lambda p: D.Bernstein(p, 0.4, 9.0), [1.0, 2.0, 0.5, 3.0]),
    "Breit-Wigner": (lambda p: D.RelativisticBreitWigner(p[0], p[1]), [3.0, 0.8]),
    "Cauchy": (lambda p: D.Cauchy(p[0], p[1]), [3.0, 0.8]),
    "Chebyshev": (lambda p: D.Chebyshev(p, 0.4, 9.0), [0.2, -0.3, 0.1]),
    "Cruijff": (lambda p: D.Cruijff(*p, 0.4, 9.0), [4.0, 1.0, 1.5, 0.1, 0.2]),
    "Crystal Ball": (lambda p: D.DoubleCrystalBall(*p), [4.0, 1.0, 1.2, 3.0, 0.8, 4.0]),
    "Exponential": (lambda p: D.Exponential(p[0], 0.4, 9.0), [0.4]),
    "Gamma": (lambda p: D.Gamma(p[0], p[1]), [2.5, 1.3]),
    "Landau": (lambda p: D.Landau(p[0], p[1]), [2.0, 0.5]),
    "log-normal": (lambda p: D.LogNormal(p[0], p[1]), [1.0, 0.7]),
    "Mixture": (lambda p: D.Mixture([D.Normal(p[0], p[1]), D.Exponential(p[2], 0.4, 9.0)], yields=[5.0 * p[3], 4.0]),
                [4.0, 1.0, 0.3, 1.1]),
    "Moyal": (lambda p: D.Moyal(p[0], p[1]), [2.0, 0.9]),
    "Poisson": (lambda p: D.Poisson(p[0]), [3.4]),
    "QGaussian": (lambda p: D.QGaussian(p[0], p[1], p[2]), [4.0, 1.0, 1.5]),
    "Student t": (lambda p: D.StudentT(p[2], p[0], p[1]), [4.0, 1.0, 3.3]),
    "Truncated": (lambda p: D.Truncated(D.Normal(p[0], p[1]), 0.4, 9.0), [4.0, 2.0]),
    "Voigt": (lambda p: D.Voigt(p[0], p[1], p[2]), [4.0, 0.6, 0.9]),
    "Weibull": (lambda p: D.Weibull(p[0], p[1]), [1.5, 3.0]),
}  # fmt: skip


def expansion(fn):
    return lambda x, *rest: value_grad_hessian(lambda v: (fn(v, *rest), None), x, "bwd")[:3]


def compare(fn, x, *rest):
    """Value, gradient and Hessian of `fn(x, *rest)` by both, which agree to rounding."""
    closed = jax.make_jaxpr(fn)(x, *rest)
    known = {i: leaf for i, leaf in enumerate(jax.tree.leaves((x, *rest))) if i > 0}
    plan = Plan(closed, known)
    assert plan.unknown == frozenset()
    found, expected = plan(np.asarray(x)), jax.jit(fn)(x, *rest)
    scale = max(1.0, float(jnp.max(jnp.abs(expected[2]))))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * scale)
    # the gradient alone, without the Hessian's equations
    gradient = plan.only([0, 1])
    np.testing.assert_array_equal(gradient(np.asarray(x))[1], found[1])
    assert gradient.cost < plan.cost
    # at another point, from the same plan
    np.testing.assert_allclose(plan(np.asarray(1.01 * x))[0], jax.jit(fn)(1.01 * x, *rest)[0], rtol=1e-10)
    return plan


# XLA takes 5 to 20 seconds for the second derivatives of the others.
QUICK = ("Bernstein", "Cauchy", "Exponential", "Gamma", "Mixture", "Poisson", "Student t")


@pytest.mark.grid
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DENSITIES])
def test_density(name):
    make, p = DENSITIES[name]

    def nll(p, x, edges):
        density = make(p)
        events = jnp.floor(x) if name == "Poisson" else x
        value = -jnp.sum(density.log_prob(events))
        if name in ("Poisson", "Breit-Wigner"):
            return value
        mu = 40 * jnp.exp(density.log_bin_integrals(edges))
        return value + jnp.sum(mu - jnp.arange(8) * jnp.log(mu))

    compare(expansion(nll), jnp.asarray(p), EVENTS, EDGES)


MASS = jnp.concatenate([jnp.asarray(np.random.default_rng(5).normal(5.0, 0.3, 80)), jnp.linspace(4.0, 7.0, 60)])


def signal_and_background(p):
    return D.Mixture(
        [D.Truncated(D.Normal(p["mu"], p["sigma"]), 4.0, 7.0), D.Exponential(p["rate"], 4.0, 7.0)],
        yields=[p["s"], p["b"]],
    )


MASS_START = {
    "mu": mx.Parameter(5.0),
    "sigma": mx.Parameter(0.3, lower=0.05),
    "rate": mx.Parameter(0.2),
    "s": mx.Parameter(70.0, lower=0.0),
    "b": mx.Parameter(70.0, lower=0.0),
    "fixed": mx.Parameter(1.0, fixed=True),
}
POINTS = {"x": jnp.linspace(0.0, 3.0, 20), "y": jnp.linspace(1.0, 4.0, 20) ** 1.5, "yerr": jnp.full(20, 0.3)}


def line(p, x):
    return p["a"] + p["b"] * x + p["c"][0] * jnp.sin(p["c"][1] * x)


def counts(p):
    return p["mu"] * jnp.asarray([1.0, 5.0, 9.0, 2.0]) + p["bkg"] * jnp.asarray([20.0, 18.0, 15.0, 11.0])


SIMULATED = {"s": jnp.asarray([3.0, 40.0, 60.0, 5.0]), "b": jnp.asarray([90.0, 80.0, 66.0, 0.0])}
OBSERVED = jnp.asarray([21.0, 25.0, 22.0, 0.0])
FREE = {"mu": mx.Parameter(1.0), "bkg": mx.Parameter(1.0)}
YIELDS = {"s": mx.Parameter(40.0, lower=0.0), "b": mx.Parameter(50.0, lower=0.0)}

LIKELIHOODS = {
    "unbinned": (mx.ExtendedUnbinnedNLL(distribution=signal_and_background), MASS_START, MASS),
    "weighted events": (
        mx.ExtendedUnbinnedNLL(distribution=signal_and_background),
        MASS_START,
        mx.Events(MASS, jnp.linspace(0.5, 1.5, MASS.size)),
    ),
    "least squares": (
        mx.LeastSquares(line),
        {"a": mx.Parameter(1.0), "b": mx.Parameter(2.0), "c": mx.Parameter(jnp.asarray([0.1, 1.1]))},
        mx.Points(jnp.linspace(0.0, 3.0, 20), jnp.linspace(1.0, 4.0, 20) ** 1.5, jnp.full(20, 0.3)),
    ),
    "robust loss": (
        mx.LeastSquares(line, loss="soft_l1"),
        {"a": mx.Parameter(1.0), "b": mx.Parameter(2.0), "c": mx.Parameter(jnp.asarray([0.1, 1.1]))},
        mx.Points(jnp.linspace(0.0, 3.0, 20), jnp.linspace(1.0, 4.0, 20) ** 1.5, jnp.full(20, 0.3)),
    ),
    "counts": (
        mx.Joint({"main": mx.PoissonNLL(counts), "bkg": mx.NormalConstraint("bkg", jnp.asarray(0.1, float))}),
        FREE,
        {"main": OBSERVED, "bkg": jnp.asarray(1.0, float)},
    ),
    **{f"templates, {m}": (mx.TemplateNLL(SIMULATED, method=m), YIELDS, OBSERVED) for m in ("da", "jsc", "asy", "bb")},
    "a function": (
        lambda p, x: jnp.sum(jnp.log(p["tau"]) + x / p["tau"]) + 0.5 * ((p["tau"] - 5.0) / 2.0) ** 2,
        {"tau": mx.Parameter(4.0, lower=0.1)},
        MASS,
    ),
}


def objective_of(nll, params, data):
    """`fn(x, theta)` as the fit has it, and where it begins."""
    fn, theta, x, _ = objective(as_likelihood(nll), params, data, jnp.asarray(0.5))
    return fn, x, theta


@pytest.mark.grid
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood(name):
    fn, x, theta = objective_of(*LIKELIHOODS[name])
    compare(expansion(fn), x, theta)


@pytest.mark.grid
@pytest.mark.parametrize(("norm", "histo"), [("code4", "code4p"), ("code1", "code0")])
def test_workspace(norm, histo):
    spec = workspaces.workspace(
        {
            "signal region": {
                "signal": ([5.0, 9.0], [workspaces.modifier("normfactor", "mu")]),
                "background": (
                    [50.0, 60.0],
                    [
                        workspaces.modifier("normsys", "scale", {"hi": 1.1, "lo": 0.92}),
                        workspaces.modifier("histosys", "tilt", {"hi_data": [52.0, 55.0], "lo_data": [47.0, 64.0]}),
                        workspaces.modifier("staterror", "stat", [4.0, 5.0]),
                    ],
                ),
            },
        }
    )
    nll, params, data = mx.io.from_pyhf(spec, interpolation={"normsys": norm, "histosys": histo})
    fn, x, theta = objective_of(nll, params, data)
    compare(expansion(fn), x + 0.1, theta)


def test_sbottom():
    """64 parameters, as NumPy takes them: a gradient below a millisecond."""
    background, patch = workspaces.sbottom()
    nll, params, data = mx.io.from_pyhf(background, patch=patch)
    fn, x, theta = objective_of(nll, params, data)
    plan = compare(expansion(fn), x, theta)
    assert plan.only([0, 1]).cost < 2e-3


@pytest.mark.slow
def test_hs3():
    nll, params, data = mx.io.from_hs3(workspaces.read("hs3/paper/paper_product.json"))
    fn, x, theta = objective_of(nll, params, data)
    compare(expansion(fn), x, theta)


@pytest.mark.filterwarnings("ignore:migrax is made for float64:UserWarning")
def test_float32():
    with jax.enable_x64(False):
        nll = mx.ExtendedUnbinnedNLL(distribution=signal_and_background)
        start = jax.tree.map(lambda p: p.astype("float32") if hasattr(p, "astype") else p, MASS_START)
        fn, x, theta = objective_of(nll, start, MASS.astype("float32"))
        assert x.dtype == np.float32
        closed = jax.make_jaxpr(expansion(fn))(x, theta)
        known = {i: leaf for i, leaf in enumerate(jax.tree.leaves((x, theta))) if i > 0}
        plan = Plan(closed, known)
        assert plan.unknown == frozenset()
        for a, b in zip(plan(np.asarray(x)), jax.jit(expansion(fn))(x, theta), strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5 * float(jnp.max(jnp.abs(b))))
