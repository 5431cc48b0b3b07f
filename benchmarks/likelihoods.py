"""One value and gradient of each likelihood against the expression that a user of JAX writes by hand.

What migrax's likelihoods bring (masks, bins without events, checks, names) should cost nothing when it runs. Both are
jitted with data and parameters as arguments, must give the same value and gradient, and are timed in turn. The
hand-written expressions are those of the same function (above the saturated model where ours are), with the same
guards against log(0): without them a histogram with an empty bin is NaN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from ._common import Row, Table, main, race
from ._contestants import mx

ROWS = 100_000
REPEATS = 60
GOAL = 1.10
Params = dict[str, Any]


class Pair(NamedTuple):
    name: str
    ours: Callable[[Params, Any], Any]
    by_hand: Callable[[Params, Any], Any]
    params: Params
    data: Any


def _shape(p: Params, x: Any) -> Any:
    return p["a"] * jnp.exp(-x / p["t"]) + p["b"]


def _poisson(n: Any, mu: Any) -> Any:
    return mu - n + jnp.where(n > 0, xlogy(n, jnp.where(n > 0, n, 1.0) / mu), 0.0)


def _log_density(p: Params, x: Any) -> Any:
    return -0.5 * ((x - p["m"]) / p["s"]) ** 2 - jnp.log(p["s"]) - 0.5 * jnp.log(2 * jnp.pi)


def _da(p: Params, n: Any, templates: Any) -> Any:
    """Dembinski and Abdelmotteleb, equations 19 and 20."""
    scales = jnp.array([p["s"], p["b"]]) / jnp.sum(templates, axis=1)
    mu, variance = scales @ templates, scales**2 @ templates
    k = mu**2 / variance
    beta = (n + k) / (mu + k)
    return jnp.sum(_poisson(n, mu * beta) + k * (beta - 1 - jnp.log(beta)))


def pairs(rows: int) -> list[Pair]:
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 5.0, rows)
    truth = {"a": 20.0, "t": 1.5, "b": 5.0}
    shape = 20.0 * np.exp(-x / 1.5) + 5.0
    counts = rng.poisson(shape).astype(float)
    y, error = rng.normal(shape, 2.0), np.full(rows, 2.0)
    points = mx.Points(x, y, error)
    events, weight = rng.normal(1.0, 2.0, rows), rng.uniform(0.5, 1.5, rows)
    normal = {"m": 1.1, "s": 1.9}
    scaled = normal | {"n": 1.01 * rows}
    templates = rng.poisson(np.array([10 * np.exp(-0.5 * (x - 2) ** 2) + 1, np.full(rows, 12.0)])).astype(float)
    yields = {"s": 0.9 * templates[0].sum(), "b": 1.1 * templates[1].sum()}
    drawn = rng.poisson(templates[0] + templates[1]).astype(float)
    fractions = lambda p: _shape(p, x)  # noqa: E731

    def binned(p: Params, n: Any) -> Any:
        mu = fractions(p)
        return jnp.sum(xlogy(n, jnp.where(n > 0, n, 1.0) / (mu * (jnp.sum(n) / jnp.sum(mu)))))

    def soft_l1(p: Params, d: Any) -> Any:
        z2 = ((d.y - _shape(p, d.x)) / d.yerr) ** 2
        return jnp.sum(jnp.sqrt(1 + z2) - 1)

    return [
        Pair("PoissonNLL", mx.PoissonNLL(fractions), lambda p, n: jnp.sum(_poisson(n, fractions(p))), truth, counts),
        Pair("BinnedNLL", mx.BinnedNLL(fractions), binned, truth, counts),
        Pair("UnbinnedNLL", mx.UnbinnedNLL(_log_density), lambda p, d: -jnp.sum(_log_density(p, d)), normal, events),
        Pair(
            "UnbinnedNLL, mx.distributions",
            mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["m"], p["s"])),
            lambda p, d: -jnp.sum(_log_density(p, d)),
            normal,
            events,
        ),
        Pair(
            "UnbinnedNLL, weighted",
            mx.UnbinnedNLL(_log_density),
            lambda p, d: -jnp.sum(d.weight * _log_density(p, d.x)),
            normal,
            mx.Events(events, weight),
        ),
        Pair(
            "ExtendedUnbinnedNLL",
            mx.ExtendedUnbinnedNLL(lambda p, d: jnp.log(p["n"]) + _log_density(p, d), lambda p: p["n"]),
            lambda p, d: p["n"] - jnp.sum(jnp.log(p["n"]) + _log_density(p, d)),
            scaled,
            events,
        ),
        Pair(
            "LeastSquares",
            mx.LeastSquares(_shape),
            lambda p, d: 0.5 * jnp.sum(((d.y - _shape(p, d.x)) / d.yerr) ** 2),
            truth,
            points,
        ),
        Pair("LeastSquares, soft_l1", mx.LeastSquares(_shape, loss="soft_l1"), soft_l1, truth, points),
        Pair(
            "TemplateNLL, da",
            mx.TemplateNLL({"s": templates[0], "b": templates[1]}),
            lambda p, n: _da(p, n, templates),
            yields,
            drawn,
        ),
        Pair(
            "Joint, a constraint",
            mx.Joint({"x": mx.PoissonNLL(fractions), "t": mx.NormalConstraint("t", 0.1)}),
            lambda p, d: jnp.sum(_poisson(d["x"], fractions(p))) + 0.5 * ((p["t"] - d["t"]) / 0.1) ** 2,
            truth,
            {"x": counts, "t": jnp.asarray(1.45)},
        ),
    ]


def _jitted(fn: Callable[[Params, Any], Any]) -> Callable[[Params, Any], Any]:
    return jax.jit(jax.value_and_grad(lambda p, d: fn(p, d)))


def _compare(pair: Pair) -> Row:
    params = jax.tree.map(jnp.asarray, pair.params)
    data = jax.tree.map(jnp.asarray, pair.data)
    ours, hand = _jitted(pair.ours), _jitted(pair.by_hand)
    (value, slopes), (expected, wanted) = ours(params, data), hand(params, data)
    same = np.allclose(value, expected, rtol=1e-9) and all(
        np.allclose(slopes[k], wanted[k], rtol=1e-7, atol=1e-9 * abs(float(expected))) for k in wanted
    )
    row: Row = {"name": pair.name, "failed": None if same else f"{value} is not {expected}"}
    return row | {"_calls": {"ours": lambda _: ours(params, data), "by hand": lambda _: hand(params, data)}}


def measure() -> Row:
    rows = []
    for pair in pairs(ROWS):
        row = _compare(pair)
        times = race(row.pop("_calls"), REPEATS)
        rows.append(row | {"time": times["ours"].record(), "by_hand": times["by hand"].record()})
        rows[-1]["ratio"] = times["ours"].median / times["by hand"].median
    return {"rows": rows, "goal": GOAL, "migrax_failed": any(row["failed"] for row in rows)}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "time": "ours", "by_hand": "by hand", "ratio": "ours / by hand", "failed": "failed"}
    title = f"One value and gradient, {ROWS:,} bins, events or points (goal of the ratio: {GOAL})"
    return [Table(title, record["rows"], columns, chart=("time", "by_hand"))]


def check() -> list[str]:
    rows = [_compare(pair) for pair in pairs(1000)]
    return [f"{row['name']}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("likelihoods", measure, tables, check)
