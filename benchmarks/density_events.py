"""What each density costs for 10⁵ events: time to compile and to run the value, the gradient and the Hessian.

The likelihood is `mx.UnbinnedNLL(distribution=...)` at one point, on one core. Beside it stands minus the sum of the
log of the density as a user of JAX writes it, and the log of the density of numba-stats, the value alone, as it has no
derivatives. Values and gradients must agree.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammaln

from ._common import Row, Table, fresh, main
from ._contestants import mx
from ._density_rows import add_times, two_tables

EVENTS, REPEATS = 100_000, 11
LOW, HIGH = 1.0, 11.0
D = mx.distributions


class Pair(NamedTuple):
    distribution: Callable[..., Any]
    by_hand: Callable[[Any, Any], Any] | None  # log of the density, of the parameters and the events
    at: tuple[float, ...]
    numba_stats: Callable[[Any], Any] | None = None


def events(n: int = EVENTS) -> np.ndarray:
    """A peak on a uniform background: some events far in each tail."""
    rng = np.random.default_rng(1)
    peak = rng.normal(5.0, 1.0, n // 2)
    return rng.permutation(np.concatenate([np.clip(peak, LOW, HIGH), rng.uniform(LOW, HIGH, n - n // 2)]))


def _normal(x: Any, t: Any) -> Any:
    return -0.5 * ((t - x[0]) / x[1]) ** 2 - jnp.log(x[1] * np.sqrt(2 * np.pi))


def _cut(x: Any, t: Any) -> Any:
    cdf = lambda e: 0.5 * (1 + erf((e - x[0]) / (x[1] * np.sqrt(2))))  # noqa: E731
    return _normal(x, t) - jnp.log(cdf(HIGH) - cdf(LOW))


def _exponential(rate: Any, t: Any) -> Any:
    return -rate * t + jnp.log(rate / (jnp.exp(-rate * LOW) - jnp.exp(-rate * HIGH)))


def _peak_on_slope(x: Any, t: Any) -> Any:
    peak, slope = jnp.exp(_normal(x, t)), jnp.exp(_exponential(x[2], t))
    return jnp.log((x[3] * peak + x[4] * slope) / (x[3] + x[4]))


def _crystal_ball(x: Any, t: Any) -> Any:
    mu, sigma, alpha, n = x
    z = (t - mu) / sigma
    power = n * jnp.log(n / alpha) - 0.5 * alpha**2 - n * jnp.log(n / alpha - alpha - jnp.minimum(z, -alpha))
    tail = n / (alpha * (n - 1)) * jnp.exp(-0.5 * alpha**2)
    norm = sigma * (tail + np.sqrt(np.pi / 2) * (1 + erf(alpha / np.sqrt(2))))
    return jnp.where(z > -alpha, -0.5 * z**2, power) - jnp.log(norm)


def _chebyshev(x: Any, t: Any) -> Any:
    u = 0.2 * (t - 6.0)
    return jnp.log(1 + x[0] * u + x[1] * (2 * u**2 - 1)) - jnp.log(10.0 * (1 - x[1] / 3))


def _student(x: Any, t: Any) -> Any:
    mu, sigma, df = x
    norm = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * jnp.log(df * np.pi) - jnp.log(sigma)
    return norm - 0.5 * (df + 1) * jnp.log1p(((t - mu) / sigma) ** 2 / df)


def pairs() -> dict[str, Pair]:
    from numba_stats import crystalball, gamma, lognorm, norm, t, truncexpon, truncnorm, voigt

    return {
        "Normal": Pair(D.Normal, _normal, (5.0, 1.2), lambda x: norm.logpdf(x, 5.0, 1.2)),
        "TruncatedNormal": Pair(
            lambda m, s: D.TruncatedNormal(m, s, LOW, HIGH),
            _cut,
            (5.0, 2.5),
            lambda x: truncnorm.logpdf(x, LOW, HIGH, 5.0, 2.5),
        ),
        "Exponential, on a range": Pair(
            lambda r: D.Exponential(r, LOW, HIGH),
            lambda x, t: _exponential(x[0], t),
            (0.3,),
            lambda x: truncexpon.logpdf(x, LOW, HIGH, 0.0, 1 / 0.3),
        ),
        "Mixture: Normal, Exponential": Pair(
            lambda m, s, r, a, b: D.Mixture([D.Normal(m, s), D.Exponential(r, LOW, HIGH)], yields=[a, b]),
            _peak_on_slope,
            (5.0, 1.2, 0.3, 500.0, 3000.0),
        ),
        "LogNormal": Pair(
            D.LogNormal,
            lambda x, t: _normal(x, jnp.log(t)) - jnp.log(t),
            (1.4, 0.4),
            lambda x: lognorm.logpdf(x, 0.4, 0.0, np.exp(1.4)),
        ),
        "Cauchy": Pair(D.Cauchy, lambda x, t: -jnp.log(np.pi * x[1]) - jnp.log1p(((t - x[0]) / x[1]) ** 2), (5.0, 0.7)),
        "StudentT": Pair(D.StudentT, _student, (5.0, 1.2, 4.0), lambda x: t.logpdf(x, 4.0, 5.0, 1.2)),
        "Gamma": Pair(
            D.Gamma,
            lambda x, t: (x[0] - 1) * jnp.log(t) - t / x[1] - gammaln(x[0]) - x[0] * jnp.log(x[1]),
            (5.0, 1.1),
            lambda x: gamma.logpdf(x, 5.0, 0.0, 1.1),
        ),
        "Chebyshev": Pair(lambda a, b: D.Chebyshev([a, b], LOW, HIGH), _chebyshev, (-0.4, 0.1)),
        "CrystalBall": Pair(
            D.CrystalBall, _crystal_ball, (7.0, 0.9, 1.3, 3.0), lambda x: crystalball.logpdf(x, 1.3, 3.0, 7.0, 0.9)
        ),
        "DoubleCrystalBall": Pair(D.DoubleCrystalBall, None, (7.0, 0.9, 1.3, 3.0, 1.5, 4.0)),
        "Voigt": Pair(D.Voigt, None, (6.0, 0.5, 0.8), lambda x: np.log(voigt.pdf(x, 0.8, 6.0, 0.5))),
        "Argus": Pair(lambda c, chi: D.Argus(c, chi), None, (12.0, 1.5)),
        "Landau": Pair(D.Landau, None, (4.0, 0.5)),
    }


def _likelihoods(pair: Pair) -> dict[str, Callable[[Any, Any], Any]]:
    nll = mx.UnbinnedNLL(distribution=lambda p: pair.distribution(*p["x"]))
    by_hand = pair.by_hand
    found: dict[str, Callable[[Any, Any], Any]] = {"": lambda x, data: nll({"x": x}, data)}
    return found if by_hand is None else found | {"_by_hand": lambda x, data: -jnp.sum(by_hand(x, data))}


def _wrong(pair: Pair, n: int = EVENTS) -> str | None:
    """What is not as by hand: values to 1e-9, gradients to 1e-7 of their size; or as numba-stats, values to 1e-9."""
    x, data = jnp.asarray(pair.at), events(n)
    found = {who: jax.jit(jax.value_and_grad(fn))(x, data) for who, fn in _likelihoods(pair).items()}
    value, gradient = found[""]
    if not np.all(np.isfinite(gradient)):
        return "not finite"
    if "_by_hand" in found:
        hand, slope = found["_by_hand"]
        size = 1e-7 * np.max(np.abs(slope))
        if not np.allclose(value, hand, rtol=1e-9) or not np.allclose(gradient, slope, rtol=1e-7, atol=size):
            return f"{found['']} is not {found['_by_hand']}"
    if pair.numba_stats is not None and not np.allclose(value, -np.sum(pair.numba_stats(data)), rtol=1e-9):
        return f"{value} is not {-np.sum(pair.numba_stats(data))}"
    return None


def one(name: str, repeats: int) -> Row:
    """One density, in a fresh process, pinned to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pair = pairs()[name]
    row: Row = {"name": name, "failed": _wrong(pair)}
    x, data = jnp.asarray(pair.at), jnp.asarray(events())
    calls: dict[str, Callable[[], Any]] = {}
    for who, nll in _likelihoods(pair).items():
        for what, fn in {"value": nll, "gradient": jax.value_and_grad(nll), "hessian": jax.hessian(nll)}.items():
            start = time.perf_counter()
            program = jax.jit(fn).lower(x, data).compile()
            row[f"compile_{what}{who}_s"] = time.perf_counter() - start
            calls[f"{what}{who}"] = lambda program=program: program(x, data)
    if pair.numba_stats is not None:
        logpdf, numbers = pair.numba_stats, np.asarray(data)
        calls["value_numba_stats"] = lambda: np.sum(logpdf(numbers))
    return add_times(row, calls, repeats, EVENTS)


def measure() -> Row:
    rows = [fresh(one, name, REPEATS) for name in pairs()]
    return {"rows": rows, "migrax_failed": any(row["failed"] for row in rows)}


def tables(record: Row) -> list[Table]:
    return two_tables(f"To run, {EVENTS:,} events, one core", record["rows"], "an event")


def check() -> list[str]:
    wrong = {name: _wrong(pair, 1000) for name, pair in pairs().items()}
    return [f"{name}: {what}" for name, what in wrong.items() if what]


if __name__ == "__main__":
    main("density_events", measure, tables, check)
