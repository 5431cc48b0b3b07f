"""J of the sandwich, part by part: each likelihood's own, beside weighted events, against closed forms and iminuit."""

import warnings

import iminuit
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import cost

import hs3
import migrax as mx

P = mx.Parameter
RANDOM = np.random.default_rng(11)
X, W = RANDOM.normal(1.0, 2.0, 300), RANDOM.uniform(0.2, 3.0, 300)
EVENTS = mx.Events(X, W)
MEAN = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mean"], 2.0).log_prob(x))
# of a weighted mean: the root of sum(w² (x - mean)²) over sum(w)
MEAN_VALUE = np.average(X, weights=W)
MEAN_ERROR = np.sqrt(np.sum(W**2 * (X - MEAN_VALUE) ** 2)) / np.sum(W)

STEPS = np.array([-1.0, 0.0, 1.0])
SLOPED = np.array([90.0, 100.0, 112.0])
LINE_X = np.arange(5.0)
LINE_Y = 1 + 2 * LINE_X + np.array([0.1, -0.2, 0.2, 0.0, -0.1])
SIMULATED = {"sig": np.array([10.0, 50.0, 100.0, 50.0, 10.0]), "bkg": np.array([100.0, 90.0, 80.0, 70.0, 60.0])}
OBSERVED = np.array([200.0, 250.0, 300.0, 240.0, 150.0])
MANY = mx.Joint(
    {
        "events": MEAN,
        "control": mx.PoissonNLL(lambda p: p["b"] * jnp.ones(1)),
        "log": mx.PoissonNLL(log_expected=lambda p: jnp.log(p["c"]) * jnp.ones(2), mask=jnp.array([True, False])),
        "sloped": mx.PoissonNLL(lambda p: p["n"] * (1 + p["k"] * STEPS)),
        "weighted": mx.PoissonNLL(lambda p: p["v"] * jnp.ones(2)),
        "shape": mx.BinnedNLL(lambda p: jnp.stack([p["f"], 1 - p["f"]])),
        "weighted shape": mx.BinnedNLL(lambda p: jnp.stack([p["h"], p["h"], 1 - 2 * p["h"]])),
        "line": mx.LeastSquares(lambda p, x: p["a0"] + p["a1"] * x),
        "template": mx.TemplateNLL(SIMULATED),
        "normal": mx.NormalConstraint("g", 0.3),
        "ratio": mx.LogNormalConstraint("r", 0.1),
        "count": mx.PoissonConstraint("tau", 5.0),
        "mine": mx.Likelihood(lambda p, d: 0.5 * ((d - p["m"]) / 0.05) ** 2, events=False),
    }
)
MANY_DATA = {
    "events": EVENTS,
    "control": jnp.array([100.0]),
    "log": jnp.array([64.0, jnp.nan]),
    "sloped": jnp.asarray(SLOPED),
    "weighted": mx.Counts([30.0, 42.0], [60.0, 105.0]),
    "shape": jnp.array([30.0, 90.0]),
    "weighted shape": mx.Counts([20.0, 0.0, 40.0], [40.0, 0.0, 80.0]),
    "line": mx.Points(LINE_X, LINE_Y, 0.3),
    "template": jnp.asarray(OBSERVED),
    "normal": 1.0,
    "ratio": 2.0,
    "count": 25.0,
    "mine": 0.4,
}
ONES = ("mean", "k", "a0", "a1", "m")
MANY_START = {name: P(0.0) for name in ONES} | {
    "b": P(90.0, lower=0.0),
    "c": P(50.0, lower=0.0),
    "n": P(90.0, lower=0.0),
    "v": P(40.0, lower=0.0),
    "f": P(0.3, lower=0.0, upper=1.0),
    "h": P(0.2, lower=0.0, upper=0.5),
    "sig": P(300.0, lower=0.0),
    "bkg": P(700.0, lower=0.0),
    "g": P(0.9),
    "r": P(1.9, lower=0.0),
    "tau": P(4.0, lower=0.0),
}


def inverse_root(information):
    return np.sqrt(np.diag(np.linalg.inv(information)))


def test_each_part_knows_its_own():
    found = mx.fit(MANY, MANY_START, MANY_DATA)
    assert bool(found.valid)
    assert found.covariance.kind == "sandwich"
    errors = {name: float(found[name].error) for name in MANY_START}
    n, k = float(found["n"].value), float(found["k"].value)
    slopes = np.stack([1 + k * STEPS, n * STEPS], axis=1)
    of_sloped = inverse_root(slopes.T @ (slopes * (SLOPED / (n * (1 + k * STEPS)) ** 2)[:, None]))
    design = np.stack([np.ones(5), LINE_X], axis=1)
    of_line = inverse_root(design.T @ design / 0.3**2)
    s = np.array([0.5, 0.4])  # sums of weights over those of squares: counts of 15 and 16.8 for expectations v s
    expected = {
        "mean": MEAN_ERROR,
        "b": 10.0,
        "c": 8.0,
        "n": of_sloped[0],
        "k": of_sloped[1],
        "v": np.sqrt(15 + 16.8) / np.sum(s),
        "f": np.sqrt(0.25 * 0.75 / 120),
        "h": 0.5 * np.sqrt(2 / 9 / 30),  # 10 of 30 events, of weight 2
        "a0": of_line[0],
        "a1": of_line[1],
        "g": 0.3,
        "r": 0.2,
        "tau": 1.0,
        "m": 0.05,
    }
    for name, error in expected.items():
        np.testing.assert_allclose(errors[name], error, rtol=1e-6, err_msg=name)
    assert 0.069 < errors["k"] < 0.071
    peer = iminuit.Minuit(cost.Template(OBSERVED, np.arange(6.0), list(SIMULATED.values()), method="da"), 300, 700)
    peer.migrad()
    peer.hesse()
    np.testing.assert_allclose([errors["sig"], errors["bkg"]], peer.errors, rtol=1e-3)


# One parameter of events and of a control region: b = (sum(w) + n) / 3, so that its variance is (sum(w²) + n) / 9.
SHARED = mx.Joint(
    {
        "events": mx.ExtendedUnbinnedNLL(
            lambda p, x: jnp.log(p["b"] / np.ptp(X)) + 0.0 * x, lambda p: p["b"], range=(X.min(), X.max())
        ),
        "control": mx.PoissonNLL(lambda p: 2 * p["b"] * jnp.ones(1)),
    }
)


def shared(n, weight=W, up=0.5, upper=None):
    data = {"events": mx.Events(X, weight), "control": jnp.reshape(n, 1)}
    return mx.fit(SHARED, {"b": P(100.0, lower=1.0, upper=upper)}, data, up=up)


def test_events_and_counts_of_one_parameter():
    total, squares = np.sum(W), np.sum(W**2)
    found = shared(100.0)
    np.testing.assert_allclose(found.values[0], (total + 100) / 3, rtol=1e-8)
    np.testing.assert_allclose(found.errors[0], np.sqrt(squares + 100) / 3, rtol=1e-7)
    # weights of one are counts
    np.testing.assert_allclose(shared(100.0, np.ones(300)).errors[0], 20 / 3, rtol=1e-7)
    # negative weights, as of subtracted background
    some = np.where(np.arange(300) < 60, -0.5, 1.0)
    np.testing.assert_allclose(shared(100.0, some).errors[0], np.sqrt(np.sum(some**2) + 100) / 3, rtol=1e-7)
    np.testing.assert_allclose(shared(100.0, up=2.0).errors[0], 2 * np.sqrt(squares + 100) / 3, rtol=1e-7)
    bound = shared(100.0, upper=110.0)
    assert float(bound.errors[0]) == 0
    assert bool(bound.valid)


@pytest.mark.slow
def test_traced():
    """Under jit, vmap and grad, which are other programs."""
    counts = jnp.array([64.0, 100.0])
    squares = np.sum(W**2)
    errors, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda n: shared(n).errors[0])))(counts)
    np.testing.assert_allclose(errors, np.sqrt(squares + counts) / 3, rtol=1e-7)
    np.testing.assert_allclose(slopes, 1 / (6 * np.sqrt(squares + counts)), rtol=1e-6)


CHANNEL = {
    "name": "SR",
    "samples": [
        {"name": "s", "data": [10.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
        {"name": "b", "data": [50.0], "modifiers": [{"name": "shape", "type": "shapesys", "data": [5.0]}]},
    ],
}
WORKSPACE = {
    "version": "1.0.0",
    "channels": [CHANNEL],
    "observations": [{"name": "SR", "data": [70.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
}


def test_histfactory_beside_weighted_events():
    model, params, data = mx.io.from_pyhf(WORKSPACE)
    found = mx.fit(model + MEAN, params | {"mean": P(0.0)}, (data, EVENTS))
    assert found.covariance.kind == "sandwich"
    np.testing.assert_allclose(found["mean"].error, MEAN_ERROR, rtol=1e-6)
    # mu = (70 - 50 gamma) / 10 with gamma = 1 ± 0.1
    np.testing.assert_allclose(found["mu"].error, np.sqrt(70 + 25) / 10, rtol=1e-6)


def test_histfactory_channel_beside_weighted_events_in_a_document():
    """An HS3 document with both."""
    axes = [{"name": "x", "min": 0.0, "max": 2.0, "nbins": 2}]
    signal = {
        "name": "signal",
        "data": {"contents": [10.0, 15.0]},
        "modifiers": [{"name": "mu", "type": "normfactor", "parameter": "mu"}],
    }
    channel = {"name": "SR", "type": "histfactory_dist", "axes": axes, "samples": [signal]}
    density = hs3.gaussian("density", "y", "mean", "sigma")
    counts = {"name": "counts", "type": "binned", "contents": [12, 24], "axes": axes}
    events = hs3.unbinned("events", X.tolist(), hs3.axis("y", -100.0, 100.0), weights=W.tolist())
    spec = hs3.document(
        [channel, density],
        [counts, events],
        {"mu": 1.0, "mean": 0.5, "sigma": 2.0},
        ranges={"mu": (0.0, 10.0), "mean": (-5.0, 5.0)},
        const=("sigma",),
        pairs=[("SR", "counts"), ("density", "events")],
    )
    found = mx.fit(*mx.io.from_hs3(spec))
    assert found.covariance.kind == "sandwich"
    np.testing.assert_allclose(found["mu"].error, np.sqrt(36) / 25, rtol=1e-6)
    np.testing.assert_allclose(found["mean"].error, MEAN_ERROR, rtol=1e-6)


def measured(p, d):
    return 0.5 * jnp.sum(((d - p["m"]) / 0.05) ** 2)


def many_measured(p, rows):
    which, measured = rows
    return 0.5 * jnp.sum(((measured - p["g"][which]) / 0.1) ** 2)


def weighted_by_hand(p, rows):
    x, w = rows
    return jnp.sum(0.5 * w * ((x - p["mean"]) / 2.0) ** 2)


BOTH = {"mean": P(0.0), "m": P(0.0)}


def test_functions_of_no_rows_or_few():
    """Their second derivative, and a word about it."""
    for data, n in ((0.4, 1), (jnp.array([0.4, 0.5]), 2)):
        rows = "no rows" if n == 1 else "2 rows"
        with pytest.warns(UserWarning, match=f"the part '1' is a function of {rows}") as caught:
            found = mx.fit(MEAN + measured, BOTH, (EVENTS, data))
        assert caught[0].filename == __file__
        np.testing.assert_allclose(found["m"].error, 0.05 / np.sqrt(n), rtol=1e-7)
        np.testing.assert_allclose(found["mean"].error, MEAN_ERROR, rtol=1e-7)


def test_functions_of_rows():
    """Events by hand, beside counts: their rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nll = mx.PoissonNLL(lambda p: p["b"] * jnp.ones(1)) + weighted_by_hand
        start = {"mean": P(0.0), "b": P(90.0, lower=1.0)}
        found = mx.fit(nll, start, (jnp.array([100.0]), (X, W)), hesse="sandwich")
    np.testing.assert_allclose(found.errors, [10.0, MEAN_ERROR], rtol=1e-7)


def with_penalty(p, x):
    return jnp.sum(0.5 * (x - p["m"]) ** 2) + p["m"] ** 2


REFUSED = {
    # one row a parameter: the slopes are 0 at the minimum
    "a row a parameter": (
        MEAN + many_measured,
        {"mean": P(0.0), "g": P(jnp.zeros(12))},
        (EVENTS, (jnp.arange(12), jnp.linspace(0.0, 1.0, 12))),
        "decided by very few of the rows of the part '1'",
    ),
    "no sum": (MEAN + with_penalty, BOTH, (EVENTS, X), "the part '1' is not the sum over the rows"),
    "no rows": (
        MEAN + (lambda p, d: with_penalty(p, d["x"])),
        BOTH,
        (EVENTS, {"x": X, "n": 1.0}),
        "the sandwich of the part '1' takes data that are arrays with one row an event",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    nll, start, data, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        mx.fit(nll, start, data)


def test_bad_declaration():
    with pytest.raises(TypeError, match="events of Likelihood must be True, False or None"):
        mx.Likelihood(measured, events="yes")
    with pytest.raises(ValueError, match="takes data that are arrays with one row an event"):
        mx.fit(mx.Likelihood(measured, events=True), {"m": 0.0}, 0.4, hesse="sandwich")


def test_a_histogram_of_a_wrong_shape():
    """Normal, of width 1 where it is 2: robust as that of the events, the standard deviation over the root of n."""
    edges = np.linspace(-12.0, 14.0, 261)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(X, edges)[0]
    shape = mx.BinnedNLL(log_expected=lambda p: -0.5 * (centres - p["mean"]) ** 2)
    found = mx.fit(shape, {"mean": P(0.5)}, jnp.asarray(counts), hesse="sandwich")
    mean = np.average(centres, weights=counts)
    np.testing.assert_allclose(found.values[0], mean, rtol=1e-7)
    spread = np.sqrt(np.average((centres - mean) ** 2, weights=counts))
    np.testing.assert_allclose(found.errors[0], spread / np.sqrt(300), rtol=1e-7)
