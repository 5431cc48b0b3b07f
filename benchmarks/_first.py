"""The likelihoods whose first answers are timed, and the calls of a session with each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from iminuit import Minuit
from jax.flatten_util import ravel_pytree

from . import _tutorial as tutorial, workspace, workspace_scaling
from ._contestants import mx

LOW, HIGH = 5.0, 5.6
CHANNELS, EVENTS = 4, 2000
FOUR = ("mu", "scale", "signal[0]", "slope[0]")  # the parameters of which MINOS is asked

Steps = list[tuple[str, Callable[[], Any]]]


def channel(p: Any, i: int) -> Any:
    """A peak with a tail, a wider one, a partly reconstructed decay beside it, and a falling background."""
    d = mx.distributions
    width = 0.012 * p["scale"] * (1 + 0.1 * i)
    peak = d.CrystalBall(p["mu"], width, p["alpha"], 3.0, LOW, HIGH)
    wide = d.TruncatedNormal(p["mu"], 2.2 * width, LOW, HIGH)
    signal, core = p["signal"][i], p["core"][i]
    components = [peak, wide, d.TruncatedNormal(p["mu"] - 0.15, p["spread"][i], LOW, HIGH)]
    components.append(d.Exponential(p["slope"][i], LOW, HIGH))
    yields = [signal * core, signal * (1 - core), p["partial"][i], p["background"][i]]
    return d.Mixture(components, yields=yields)


def channels() -> tuple[Any, Any, Any]:
    """27 parameters: three shared, six of each channel."""
    nll = mx.Joint(
        {f"c{i}": mx.ExtendedUnbinnedNLL(distribution=lambda p, i=i: channel(p, i)) for i in range(CHANNELS)}
    )
    many = lambda value, **bounds: mx.Parameter(np.full(CHANNELS, value), **bounds)  # noqa: E731
    params = {
        "mu": mx.Parameter(5.27, lower=5.2, upper=5.35),
        "scale": mx.Parameter(1.2, lower=0.3, upper=3.0),
        "alpha": mx.Parameter(1.2, lower=0.3, upper=4.0),
        "signal": many(500.0, lower=0.0),
        "core": many(0.6, lower=0.0, upper=1.0),
        "partial": many(200.0, lower=0.0),
        "background": many(900.0, lower=0.0),
        "spread": many(0.06, lower=0.02, upper=0.15),
        "slope": many(2.5),
    }
    return nll, params, {f"c{i}": _events(np.random.default_rng(i), i) for i in range(CHANNELS)}


def _events(rng: np.random.Generator, i: int) -> Any:
    width = 0.012 * (1 + 0.1 * i)
    kinds = rng.multinomial(EVENTS, [0.25, 0.1, 0.12, 0.53])
    tail = np.where(rng.uniform(size=kinds[0]) < 0.3, rng.exponential(4 * width, kinds[0]), 0.0)
    x = np.concatenate(
        [
            rng.normal(5.28, width, kinds[0]) - tail,
            rng.normal(5.28, 2.2 * width, kinds[1]),
            rng.normal(5.13, 0.05, kinds[2]),
            LOW - np.log1p(rng.uniform(size=kinds[3]) * np.expm1(-2.0 * (HIGH - LOW))) / 2.0,
        ]
    )
    return jnp.asarray(x[(x > LOW) & (x < HIGH)])


def tutorial_case(nll: Any) -> tuple[Any, Any, Any]:
    return nll, tutorial.params(tutorial.START), jnp.asarray(tutorial.COUNTS, float)


CASES: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "the tutorial's formula, 3 parameters": lambda: tutorial_case(tutorial.nll),
    "the same with mx.distributions": lambda: tutorial_case(tutorial.stable_nll),
    "four channels of mixtures, 27 parameters": channels,
    "sbottom, 64 parameters": lambda: mx.io.from_pyhf(workspace.document()),
    "a workspace of 500 parameters": lambda: mx.io.from_pyhf(workspace_scaling.synthetic(256)),
}
TUTORIALS = tuple(CASES)[:2]
BESIDE_IMINUIT = tuple(CASES)[:3]


def ours(case: str) -> tuple[Steps, Callable[[], Any]]:
    """The steps of a session with migrax, and the values that the fit has found."""
    kept: dict[str, Any] = {}

    def read() -> None:
        kept["problem"] = CASES[case]()

    def fit() -> str:
        kept["result"] = mx.fit(*kept["problem"])
        return str(kept["result"])

    def of_fit(call: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
        return lambda: call(kept["problem"][0], kept["result"], kept["problem"][2], *args, **options)

    poi = "mu_SIG"
    steps: Steps = [("read", read), ("fit", fit)]
    if case in TUTORIALS:
        steps += [("MINOS", of_fit(mx.minos)), ("profile of 30", of_fit(mx.profile, "mu", 30))]
        steps += [("contour of 100", of_fit(mx.contour, ("mu", "sigma"), size=100))]
    elif case in BESIDE_IMINUIT:
        steps += [("MINOS", of_fit(mx.minos, FOUR))]
    elif case.startswith("sbottom"):
        steps += [("MINOS", of_fit(mx.minos, poi)), ("limit", of_fit(mx.upper_limit, poi))]
        steps += [("impacts", of_fit(mx.impacts, poi))]
    return steps, lambda: np.asarray(kept["result"].values)


def iminuits(case: str) -> tuple[Steps, Callable[[], Any]]:
    """The same with iminuit, given the same likelihood with jitted value and gradient of a vector."""
    nll, params, data = CASES[case]()
    start, unravel = ravel_pytree(mx.resolve(params))
    value = jax.jit(lambda x: nll(unravel(x), data))
    gradient = jax.jit(jax.grad(lambda x: nll(unravel(x), data)))
    names = mx.names(params)
    fitted = Minuit(value, np.asarray(start), grad=lambda x: np.asarray(gradient(x)), name=names)
    fitted.errordef = Minuit.LIKELIHOOD
    result_like = mx.io.to_iminuit(nll, params, data)
    for name in names:
        fitted.limits[name] = result_like.limits[name]

    def fit() -> Any:
        fitted.migrad()
        fitted.hesse()
        return str(fitted.params)

    steps: Steps = [("fit", fit)]
    if case in TUTORIALS:
        steps += [("MINOS", lambda: fitted.minos())]
        steps += [("profile of 30", lambda: fitted.mnprofile("mu", size=30))]
        steps += [("contour of 100", lambda: fitted.mncontour("mu", "sigma", size=100))]
    else:
        steps += [("MINOS", lambda: fitted.minos(*FOUR))]
    return steps, lambda: np.asarray(fitted.values)


def minimum(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and errors that all have to find: Newton's steps from migrax's fit, by derivatives of JAX."""
    nll, params, data = CASES[case]()
    result = mx.fit(nll, params, data)
    _, unravel = ravel_pytree(mx.resolve(params))
    x = np.asarray(ravel_pytree(mx.resolve(result.params))[0])
    if case not in BESIDE_IMINUIT:  # their constants stand among the parameters
        return np.asarray(result.values), np.asarray(result.errors)
    fn = lambda x: nll(unravel(x), data)  # noqa: E731
    gradient, hessian = jax.grad(fn)(x), jax.hessian(fn)(x)
    step = np.linalg.solve(hessian, gradient)
    return x - step, np.sqrt(np.diag(np.linalg.inv(hessian)))
