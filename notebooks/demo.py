"""The main job on real input, run by `make demo`: two fits of iminuit's tutorial on automatic differentiation.

A Gaussian to a histogram of 1000 bins, with MINOS, contours, toys of it and an upper limit on a second peak; and a
polynomial to points with errors in x and y. Prints the tables, and saves one picture of all to `out/demo.png`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import migrax as mx

OUT = Path("out")


class Peak(eqx.Module):
    """A Gaussian peak in counts. The parameters float, the bin edges are constant."""

    amp: mx.Parameter
    mu: mx.Parameter
    sigma: mx.Parameter
    edges: np.ndarray

    def log_expected(self):
        shape = mx.distributions.Normal(self.mu, self.sigma)
        return jnp.log(self.amp) + shape.log_bin_integrals(self.edges)


class TwoPeaks(eqx.Module):
    """The same and a small peak whose place and width are known, of `events` counts."""

    main: Peak
    events: mx.Parameter
    shape: jax.Array

    def expected(self):
        return jnp.exp(self.main.log_expected()) + self.events * self.shape


def histogram(data: Any, profile: Any, contour: Any, pulls: Any, scan: Any) -> None:
    rng = np.random.default_rng(1)
    counts, edges = np.histogram(rng.normal(size=10_000), bins=1000)
    start = Peak(
        amp=mx.Parameter(1.5 * counts.sum(), lower=0.0),
        mu=mx.Parameter(1.0),
        sigma=mx.Parameter(2.0, lower=0.0),
        edges=edges,
    )
    nll = mx.PoissonNLL(log_expected=Peak.log_expected)

    print("A Gaussian to 1000 bins: the start", ", ".join(mx.names(start)), "is 1.5 n, 1, 2\n")
    first = clock(lambda: mx.fit(nll, start, counts))
    warm = clock(lambda: mx.fit(nll, start, counts))
    result = mx.fit(nll, start, counts)
    minos = mx.minos(nll, result, counts)
    print(minos.result)
    print("\nMINOS, all sides in one call:\n")
    print(minos)
    print(f"\nFirst call {first:.2f} s with compilation, then {1e3 * warm:.1f} ms a fit.\n")
    mx.plot.data_and_model(nll, result, counts, data, edges=edges, xlabel="x")
    mx.plot.profile(mx.profile(nll, result, counts, "amp", 30), profile, minos=minos)
    mx.plot.contour(mx.contour(nll, result, counts, ("mu", "sigma"), cl=(0.68, 0.95)), contour)
    toys(nll, result, pulls)
    limit(result.params, counts, scan)


def toys(nll: mx.PoissonNLL, result: mx.FitResult, ax: Any) -> None:
    print("Toys of the fitted model, each with its MINOS errors:\n")
    study = mx.Toys(2000, jax.random.key(1))
    fits = mx.fit_toys(nll, result.params, study, covariance=result.covariance, minos=True, progress=True)
    pulls = mx.pull_study(fits, result.params)
    print(pulls)
    print(mx.coverage_study(fits, result.params), "\n")
    mx.plot.pulls(pulls, "sigma", ax)


def limit(fitted: Peak, counts: np.ndarray, ax: Any) -> None:
    print("An upper limit on the events of a second peak at 1.5, of width 0.1:\n")
    shape = mx.distributions.Normal(1.5, 0.1).bin_integrals(fitted.edges)
    params = TwoPeaks(fitted, events=mx.Parameter(10.0, lower=0.0), shape=shape)
    nll = mx.PoissonNLL(TwoPeaks.expected)
    result = mx.fit(nll, params, counts)
    found = mx.upper_limit(nll, result, counts, "events")
    print(found, "\n")
    values = np.linspace(0.0, 1.2 * float(found.expected[-1]), 61)
    mx.plot.cls_scan([mx.hypotest(nll, result, counts, "events", n) for n in values], ax)
    ax.set_xlabel("events of a second peak")


def polynomial(ax: Any) -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(-4, 7, 30)
    y = x**2 + 2 * x + 3
    x = x + rng.normal(0, 0.5, x.size)
    y = y + rng.normal(0, 5, y.size)
    points = mx.Points(x, y, yerr=5.0, xerr=0.5)
    nll = mx.LeastSquares(lambda p, x: jnp.polyval(p["b"], x))

    print("A polynomial to points with errors in x and y:\n")
    result = mx.fit(nll, {"b": jnp.zeros(3)}, points)
    print(result)
    print(result.covariance, "\n")
    mx.plot.data_and_model(nll, result, points, ax, xlabel="x")
    ax.set_title(f"χ² / ndof = {float(result.chi2):.1f} / {result.ndof}")


def clock(call: Callable[[], mx.FitResult]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call().nll)
    return time.perf_counter() - start


def main() -> None:
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    data, *others = figure.subfigures(2, 3, wspace=0.05, hspace=0.05).ravel()
    profile, contour, points, pulls, scan = (part.subplots() for part in others)
    histogram(data.subplots(2, sharex=True, height_ratios=(3, 1)), profile, contour, pulls, scan)
    polynomial(points)
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "demo.png", dpi=100)
    print(f"Picture: {OUT / 'demo.png'}")


if __name__ == "__main__":
    main()
