"""Template fits beside `iminuit.cost.Template`: 100 bins, three templates with statistical errors, three yields.

Method "da" is in both and must give the same minimum; migrax's full Barlow-Beeston ("bb", one profiled parameter for
each bin of each template, 300 in all) has no counterpart in iminuit: its peer is the same likelihood with all 303
parameters floating, by iminuit with the jitted JAX gradient. Warm, minimum and covariance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from iminuit import Minuit, cost
from jax.scipy.special import xlogy

from ._common import Row, Table, main, race
from ._contestants import MINUIT_SAME, SAME, mx

BINS, REPEATS = 100, 15
YIELDS = np.array([400.0, 1500.0, 800.0])
NAMES = ("a", "b", "c")


def problem(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, templates of some thousand simulated events, and counts."""
    rng = np.random.default_rng(seed)
    edges = np.linspace(0.0, 10.0, BINS + 1)
    x = 0.5 * (edges[1:] + edges[:-1])
    shapes = np.array([np.exp(-0.5 * ((x - 4.0) / 0.6) ** 2), np.exp(-x / 4.0), 1 + 0.05 * x])
    shapes /= shapes.sum(axis=1, keepdims=True)
    templates = rng.poisson(shapes * np.array([[2000.0], [5000.0], [3000.0]])).astype(float)
    return edges, templates, rng.poisson(YIELDS @ shapes).astype(float)


def migrax_fit(method: str, templates: np.ndarray, counts: Any) -> Any:
    components = dict(zip(NAMES, templates, strict=True))
    params = {name: mx.Parameter(1000.0, lower=0.0) for name in NAMES}
    return mx.fit(mx.TemplateNLL(components, method=method), params, counts)


def iminuit_da(edges: np.ndarray, templates: np.ndarray, counts: np.ndarray) -> Minuit:
    fitted = Minuit(cost.Template(counts, edges, list(templates), name=NAMES, method="da"), *[1000.0] * 3)
    fitted.limits = (0, None)
    fitted.migrad()
    fitted.hesse()
    return fitted


def everything(p: Any, templates: Any, counts: Any) -> Any:
    """Barlow and Beeston's likelihood of the yields and the 300 true contents of the templates, saturated."""
    yields, true = p[:3], p[3:].reshape(templates.shape)
    mu = (yields / jnp.sum(templates, axis=1)) @ true
    poisson = lambda n, mu: mu - n + xlogy(n, jnp.where(n > 0, n, 1.0) / mu)  # noqa: E731
    return jnp.sum(poisson(counts, mu)) + jnp.sum(poisson(templates, true))


_VALUE, _GRADIENT = jax.jit(everything), jax.jit(jax.grad(everything))


def iminuit_everything(templates: np.ndarray, counts: np.ndarray) -> Minuit:
    start = np.concatenate([np.full(3, 1000.0), np.maximum(templates, 0.5).ravel()])
    fcn: Any = lambda p: _VALUE(p, templates, counts)  # noqa: E731
    grad: Any = lambda p: _GRADIENT(p, templates, counts)  # noqa: E731
    fitted = Minuit(fcn, start, grad=grad)
    fitted.errordef, fitted.limits = Minuit.LIKELIHOOD, (0, None)
    fitted.migrad(ncall=100_000)
    fitted.hesse()
    return fitted


def _rows() -> tuple[list[Row], dict[str, Any]]:
    edges, templates, counts = problem()
    calls = {
        "migrax, da": lambda _: migrax_fit("da", templates, counts).values,
        "iminuit, da": lambda _: np.array(iminuit_da(edges, templates, counts).values),
        "migrax, bb": lambda _: migrax_fit("bb", templates, counts).values,
        "iminuit, bb as 303 parameters": lambda _: np.array(iminuit_everything(templates, counts).values)[:3],
    }
    rows = []
    for mine, peer in (("migrax, da", "iminuit, da"), ("migrax, bb", "iminuit, bb as 303 parameters")):
        result = migrax_fit(mine[-2:], templates, counts)
        apart = float(np.max(np.abs(calls[peer](0) - result.values) / result.errors))
        wrong = None if bool(result.valid) and apart < MINUIT_SAME + SAME else f"{apart:.2g} errors apart"
        rows += [{"name": mine, "apart": apart, "failed": wrong}, {"name": peer, "apart": apart, "failed": None}]
    return rows, calls


def measure() -> Row:
    rows, calls = _rows()
    times = race(calls, REPEATS)
    for row, peer in zip(rows, (1, 1, 3, 3), strict=True):
        row["time"] = times[row["name"]].record()
        row["ratio"] = times[rows[peer]["name"]].median / times[row["name"]].median
    return {"rows": rows, "migrax_failed": any(row["failed"] for row in rows)}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "time": "a fit", "ratio": "faster than iminuit", "apart": "apart, errors"}
    title = f"Template fits, {BINS} bins, three templates"
    return [Table(title, record["rows"], columns | {"failed": "failed"}, chart=("time",))]


def check() -> list[str]:
    return [f"{row['name']}: {row['failed']}" for row in _rows()[0] if row["failed"]]


if __name__ == "__main__":
    main("template_fit", measure, tables, check)
