"""The main job on real input, run by `make demo`: two fits of iminuit's tutorial on automatic differentiation.

A Gaussian to a histogram of 1000 bins, with toys of it and an upper limit on a second peak, and a polynomial to points
with errors in x and y. Prints the tables, with the errors of MINOS, and saves the pictures to `out/`.
"""

import time
from pathlib import Path

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


def histogram() -> None:
    rng = np.random.default_rng(1)
    counts, edges = np.histogram(rng.normal(size=10_000), bins=1000)
    start = Peak(
        amp=mx.Parameter(1.5 * counts.sum(), lower=0.0),
        mu=mx.Parameter(1.0),
        sigma=mx.Parameter(2.0, lower=0.0),
        edges=edges,
    )
    nll = mx.PoissonNLL(log_expected=Peak.log_expected)

    print("A Gaussian to 1000 bins: the start", names(start), "is 1.5 n, 1, 2\n")
    first = clock(lambda: mx.fit(nll, start, counts))
    warm = clock(lambda: mx.fit(nll, start, counts))
    result = mx.fit(nll, start, counts)
    minos = mx.minos(nll, result, counts)
    print(minos.result)
    print("\nMINOS, all sides in one call:\n")
    print(minos)
    print(f"\nFirst call {first:.2f} s with compilation, then {1e3 * warm:.1f} ms a fit.\n")

    figure, (above, below) = plt.subplots(2, sharex=True, height_ratios=(3, 1), layout="constrained")
    centres, fitted = 0.5 * (edges[1:] + edges[:-1]), nll.expected_data(mx.resolve(result.params))
    above.errorbar(centres, counts, np.sqrt(counts), fmt=".", color="0.6", ms=3, elinewidth=0.5, label="data")
    above.plot(centres, fitted, color="C1", lw=2, label="fit")
    above.legend(title="\n".join(f"{n} = {v:.5g} ± {e:.3g}" for n, v, e in rows(result)))
    above.set_ylabel(f"entries / {edges[1] - edges[0]:.4f}")
    below.plot(centres, (counts - fitted) / np.sqrt(fitted), ".", color="0.4", ms=2)
    below.axhline(0, color="C1")
    below.set(xlabel="x", ylabel="pull", ylim=(-5, 5))
    save(figure, "demo_histogram.png")
    toys(nll, result)
    limit(result.params, counts)


def toys(nll: mx.PoissonNLL, result: mx.FitResult) -> None:
    print("Toys of the fitted model, each with its MINOS errors:\n")
    study = mx.Toys(2000, jax.random.key(1))
    fits = mx.fit_toys(nll, result.params, study, covariance=result.covariance, minos=True, progress=True)
    pulls = mx.pull_study(fits, result.params)
    print(pulls)
    print(mx.coverage_study(fits, result.params), "\n")

    figure, row = plt.subplots(ncols=len(pulls.names), figsize=(10, 3.2), sharey=True, layout="constrained")
    grid = np.linspace(-4, 4, 41)
    for axes, name, each, mean, width in zip(row, pulls.names, pulls.pulls.T, pulls.mean, pulls.width, strict=True):
        axes.hist(each[np.isfinite(each)], grid, density=True, color="0.8")
        axes.plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), color="C1")
        axes.set(xlabel=f"pull of {name}", title=f"{mean:.3f}, width {width:.3f}")
    save(figure, "demo_pulls.png")


def limit(fitted: Peak, counts: np.ndarray) -> None:
    print("An upper limit on the events of a second peak at 1.5, of width 0.1:\n")
    shape = mx.distributions.Normal(1.5, 0.1).bin_integrals(fitted.edges)
    params = TwoPeaks(fitted, events=mx.Parameter(10.0, lower=0.0), shape=shape)
    nll = mx.PoissonNLL(TwoPeaks.expected)
    found = mx.upper_limit(nll, params, counts, "events")
    print(found, "\n")

    values = jnp.linspace(0.0, 1.2 * float(found.expected[-1]), 61)
    tests = jax.jit(jax.vmap(lambda n: mx.hypotest(nll, params, counts, "events", n)))(values)
    figure, axes = plt.subplots(layout="constrained")
    mx.plot.cls_scan(tests, axes)
    axes.set(xlabel="events of the second peak")
    save(figure, "demo_limit.png")


def polynomial() -> None:
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
    levels = (0.68, 0.95)
    region = mx.contour(nll, result, points, ("b[1]", "b[2]"), cl=levels)
    print(region, "\n")

    figure, (axes, plane) = plt.subplots(ncols=2, figsize=(10, 4.5), layout="constrained")
    axes.errorbar(x, y, 5.0, 0.5, fmt="o", ms=3, color="0.4", label="data")
    grid = np.linspace(x.min(), x.max(), 200)
    axes.plot(grid, np.polyval(result.values, grid), color="C1", label="fit")
    axes.set(xlabel="x", ylabel="y", title=f"χ² / ndof = {float(result.chi2):.2f} / {result.ndof}")
    axes.legend()
    for x, y, level in zip(region.x, region.y, levels, strict=True):
        plane.plot(x, y, label=f"{level:.0%}")
    plane.plot(*result.values[1:], "k+", label="minimum")
    plane.set(xlabel="b[1]", ylabel="b[2]", title="contours, b[0] refitted")
    plane.legend()
    save(figure, "demo_polynomial.png")


def rows(result: mx.FitResult) -> list[tuple[str, float, float]]:
    return [(n, float(v), float(e)) for n, v, e in zip(result.names, result.values, result.errors, strict=True)]


def names(params: object) -> str:
    return ", ".join(mx.names(params))


def clock(call: object) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call().nll)  # type: ignore[operator]
    return time.perf_counter() - start


def save(figure: plt.Figure, name: str) -> None:
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / name, dpi=150)
    plt.close(figure)
    print(f"Picture: {OUT / name}\n")


if __name__ == "__main__":
    histogram()
    polynomial()
