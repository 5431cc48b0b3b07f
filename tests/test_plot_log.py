"""Pictures on logarithmic axes: their limits are those of what is drawn, whether the scale is set before or after."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import migrax as mx
from migrax.plot import data as module
from migrax.plot._picture import Picture
from pictures import new_axes

pytestmark = pytest.mark.usefixtures("close_figures")


def picture(y, model, edges, samples=None):
    """What there is to draw of counts."""
    y, model, edges = (np.asarray(a, float) for a in (y, model, edges))
    x = 0.5 * (edges[1:] + edges[:-1])
    some = {} if samples is None else {"all": model}
    return Picture(x, y, np.sqrt(y), None, 0 * y, x, model, edges, some, tuple(some), "", "Events / bin")


def drawn(scale, *args, label="", **kwargs):
    """The axes, with the scale set before or after."""
    ax = new_axes()
    if scale == "before":
        ax.set_yscale("log")
    module._draw_data(ax, picture(*args, **kwargs), label)
    if scale == "after":
        ax.set_yscale("log")
    ax.figure.canvas.draw()
    return ax


EDGES = np.arange(7.0)
FALLING = np.array([4000.0, 500.0, 60.0, 9.0, 1.0, 0.0])  # its last bins have an error that reaches zero


@pytest.mark.parametrize("samples", [None, True])
@pytest.mark.parametrize("scale", ["before", "after"])
def test_falling_counts_fill_the_axis(scale, samples):
    """From half the smallest count to above the largest: four decades, where it was a thousand."""
    ax = drawn(scale, FALLING, FALLING + 1e-9, EDGES, samples=samples)
    low, high = ax.get_ylim()
    assert 0.1 <= low <= 0.5
    assert 4063 < high < 1e6
    height = lambda y: ax.transAxes.inverted().transform(ax.transData.transform((0.0, y)))[1]  # noqa: E731
    assert 0.0 < height(1.0) < 0.2
    assert 0.6 < height(4000.0) < 0.98


def test_a_linear_axis_stays_as_it_was():
    ax = drawn(None, FALLING, FALLING, EDGES)
    np.testing.assert_allclose(ax.get_ylim(), (0.0, 1.15 * (4000 + 4000**0.5)))
    ax.plot([1.0, 2.0], [10.0, 20.0])
    ax.figure.canvas.draw()
    assert ax.get_ylim()[0] == 0.0


@pytest.mark.parametrize("scale", ["before", "after", None])
def test_no_counts_at_all(scale):
    ax = drawn(scale, np.zeros(6), np.full(6, 0.2), EDGES)
    low, high = ax.get_ylim()
    assert high > 0.2
    assert low >= 0
    if scale is not None:
        assert 1e-5 < low < 0.2


def test_differences_of_weights_below_zero_are_seen():
    ax = new_axes()
    shown = picture([4.0, 1.0], [4.0, 1.0], [0.0, 1.0, 2.0])._replace(y=np.array([4.0, -2.0]))
    module._draw_data(ax, shown, "")
    assert ax.get_ylim()[0] <= -3.0 + 1e-12


@pytest.mark.grid
@pytest.mark.parametrize("scale", ["before", "after"])
def test_a_fit_of_events(scale):
    x = np.random.default_rng(2).exponential(1.0, 3000)
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Exponential(p["rate"]))
    result = mx.fit(nll, {"rate": mx.Parameter(1.2, lower=0.0)}, x)
    ax = Figure().subplots()
    if scale == "before":
        ax.set_yscale("log")
    mx.plot.data_and_model(nll, result, x, ax, edges=np.linspace(0.0, 8.0, 33), xlabel="Time [ps]")
    if scale == "after":
        ax.set_yscale("log")
    ax.figure.canvas.draw()
    assert 0.2 < ax.get_ylim()[0] <= 0.5
    assert ax.get_ylabel() == "Events / 0.25 ps"


@pytest.mark.parametrize(
    ("edges", "label", "expected"),
    [
        (EDGES * 2.5, "Mass [GeV]", "Events / 2.5 GeV"),
        (EDGES * 2.5, "Mass (GeV)", "Events / 2.5 GeV"),
        (EDGES / 3, "Score", "Events / 0.3333"),
        (EDGES**2, "Mass [GeV]", "Events / bin"),
    ],
)
def test_the_width_of_the_bins_is_said(edges, label, expected):
    assert drawn(None, FALLING, FALLING, edges, label=label).get_ylabel() == expected


def test_numbered_bins_have_no_width():
    ax = new_axes()
    module._draw_data(ax, picture(FALLING, FALLING, EDGES - 0.5)._replace(xlabel="Bin"), "Bin")
    assert ax.get_ylabel() == "Events / bin"


LIMITS = np.array([3e-3, 0.04, 0.6, 11.0, 200.0])
MASSES = np.array([100.0, 300.0, 1000.0, 3000.0, 10000.0])


NLL = mx.PoissonNLL(lambda p: p["mu"] * jnp.array([5.0, 2.0]) + 10.0)
PARAMS, DATA = {"mu": mx.Parameter(0.5, lower=0.0, upper=20.0)}, jnp.array([12.0, 9.0])


@pytest.fixture(scope="module")
def band():
    """Limits as `jax.vmap` gives them, with numbers over five decades."""
    one = mx.upper_limit(NLL, PARAMS, DATA, "mu")
    many = jax.tree.map(lambda x: jnp.stack([x] * 5), one)
    numbers = jnp.asarray(LIMITS)
    values = (numbers, numbers[:, None] * jnp.array([0.5, 0.7, 1.0, 1.4, 2.0]))
    return eqx.tree_at(lambda m: (m.observed, m.expected), many, values)


@pytest.fixture(scope="module")
def tests():
    each = [mx.hypotest(NLL, PARAMS, DATA, "mu", mu) for mu in (0.0, 1.0, 2.0, 3.0)]
    return jax.tree.map(lambda *a: jnp.stack(a), *each)


@pytest.mark.parametrize("scale", ["before", "after"])
def test_limits_on_two_logarithmic_axes(scale, band):
    ax = new_axes()
    if scale == "before":
        ax.set(xscale="log", yscale="log")
    mx.plot.limit_band(MASSES, band, ax)
    if scale == "after":
        ax.set(xscale="log", yscale="log")
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    assert 1e-4 < low < 1.5e-3
    assert 400 < high < 1e5
    np.testing.assert_allclose(ax.get_xlim(), (100.0, 10000.0))


@pytest.mark.parametrize("scale", ["before", "after"])
def test_cls_on_a_logarithmic_axis(scale, tests):
    ax = new_axes()
    if scale == "before":
        ax.set_yscale("log")
    mx.plot.cls_scan(tests, ax)
    if scale == "after":
        ax.set_yscale("log")
    ax.figure.canvas.draw()
    least = float(min(jnp.min(tests.cls), jnp.min(tests.expected_cls)))
    low, high = ax.get_ylim()
    assert 0.05 * least < low < least
    assert 1.0 < high < 3.0
