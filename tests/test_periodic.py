"""Parameters with a period, and fits of phases without one: closed forms of a modulation and its correlated nuisance.

`nll = h (1 - cos(d - d0)) + (b - 1 - 0.3 sin(d - d0))² / 2`: minimised over `b` it is `h (1 - cos(d - d0))`, so that an
error of `d` ends at arccos(1 - 1 / (2 h)), and there is no such place for h < 1/4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

TURN = 2 * np.pi
P = mx.Parameter


def modulation(p, data):
    off = p["d"] - data["d0"]
    return data["h"] * (1 - jnp.cos(off)) + 0.5 * (p["b"] - 1 - 0.3 * jnp.sin(off)) ** 2


def data(h=50.0, d0=3.05):
    return {"h": h, "d0": d0}


def start(d=0.0, **kwargs):
    return {"d": P(d, **(kwargs or {"period": TURN})), "b": P(0.0)}


@pytest.mark.float32
@pytest.mark.parametrize("given", [0.0, 2.0, -3.0, 100.0])
def test_the_value_is_in_the_period_wherever_the_start_is(given):
    result = mx.fit(modulation, start(given), data())
    assert result.valid
    # the Hessian by d is h, and b takes nothing of it
    np.testing.assert_allclose(result["d"].value, 3.05, atol=1e-4)
    np.testing.assert_allclose(result["d"].error, 1 / np.sqrt(50), rtol=1e-4)
    assert not np.any(result.at_limit)
    assert np.isneginf(result["d"].lower)


@pytest.mark.parametrize(
    ("lower", "d0", "right"),
    [(None, 4.0, 4.0 - TURN), (0.0, -1.0, TURN - 1), (-20.0, 3.05, 3.05 - 3 * TURN), (2.9, 3.05, 3.05)],
)
def test_which_period(lower, d0, right):
    result = mx.fit(modulation, start(1.0, lower=lower, period=TURN), data(d0=d0))
    assert result.valid
    np.testing.assert_allclose(result["d"].value, right, atol=1e-6)
    again = mx.fit(modulation, result.params, data(d0=d0))
    np.testing.assert_allclose(again["d"].value, right, atol=1e-6)


def _vector(p, d0):
    angle, line = p["v"][:2], p["v"][2]
    return 30 * jnp.sum(1 - jnp.cos(angle * jnp.array([1.0, jnp.pi / 180]) - d0)) + 0.5 * (line - 50) ** 2


def test_vectors_have_a_period_for_each_entry():
    v = P([0.0, 10.0, 0.0], period=[TURN, 360.0, np.inf])
    fits = jax.vmap(lambda d0: mx.fit(_vector, {"v": v}, d0))(jnp.array([3.0, -1.0, 4.0]))
    assert np.all(fits.valid)
    right = [[3.0, np.degrees(3.0), 50], [-1.0, np.degrees(-1.0), 50], [4 - TURN, np.degrees(4.0) - 360, 50]]
    np.testing.assert_allclose(fits.values, right, atol=1e-4)
    one = P([0.0, 10.0, 0.0], period=[TURN, 360.0, np.inf], fixed=[True, False, False])
    result = mx.fit(_vector, {"v": one}, 4.0)
    np.testing.assert_allclose(result.values, right[2][1:], atol=1e-4)


@pytest.mark.slow
def test_derivatives_pass_the_end_of_the_period():
    """The minimum moves with d0, also where it was wrapped."""
    value = lambda d0: mx.fit(modulation, start(), data(d0=d0))["d"].value  # noqa: E731
    for d0 in (3.05, 4.0):
        np.testing.assert_allclose(jax.grad(value)(d0), 1.0, atol=1e-6)
    change = lambda turn: mx.fit(modulation, start(0.5, period=turn), data())["b"].value  # noqa: E731
    np.testing.assert_allclose(jax.grad(change)(TURN), 0.0, atol=1e-9)


@pytest.mark.float32
def test_minos_goes_beyond_the_end_of_the_period():
    result = mx.fit(modulation, start(), data())
    errors = mx.minos(modulation, result, data(), "d")
    right = np.arccos(1 - 0.5 / 50)
    np.testing.assert_allclose(errors["d"][:2], [-right, right], atol=1e-3)
    np.testing.assert_allclose(errors.upper_points[0, list(result.names).index("d")], 3.05 + right - TURN, atol=1e-3)


@pytest.mark.parametrize("h", [0.3, 0.27])
def test_minos_far_round(h):
    """Where the curvature at the minimum says little: the crossing is near the top, at 2.3 and 2.6 of 3.14."""
    result = mx.fit(modulation, start(), data(h))
    errors = mx.minos(modulation, result, data(h), "d")
    right = np.arccos(1 - 0.5 / h)
    np.testing.assert_allclose(np.ravel(errors["d"][:2]), [-right, right], atol=1e-6)


@pytest.mark.slow
def test_minos_all_round():
    result = mx.fit(modulation, start(), data(0.2))
    errors = mx.minos(modulation, result, data(0.2), "d")
    assert errors.lower_status[0] == errors.upper_status[0] == mx.Side.AT_LIMIT
    assert errors.valid[0]
    np.testing.assert_allclose([errors.lower[0], errors.upper[0]], [-np.pi, np.pi], rtol=1e-12)
    assert np.isnan(errors.upper_points[0, list(result.names).index("b")])
    derivative = jax.grad(lambda d0: mx.minos(modulation, result, data(0.2, d0), "d").upper[0])(3.05)
    np.testing.assert_allclose(derivative, 0.0, atol=1e-9)


def test_contours_profiles_and_impacts():
    result = mx.fit(modulation, start(), data())
    d, b = (list(result.names).index(name) for name in "db")
    contour = mx.contour(modulation, result, data(), ("d", "b"), cl=0.68, size=16)
    x, y = contour.points[:, d], contour.points[:, b]
    assert np.max(np.abs(x - 3.05)) < 0.4  # in one piece, beyond the end of the period
    at = {"d": x, "b": y}
    np.testing.assert_allclose(jax.vmap(lambda p: modulation(p, data()))(at), -np.log(1 - 0.68), rtol=1e-6)
    # just before the end of the period, over which b drags d by 0.3 / h to each side
    end = data(d0=np.pi - 1e-3)
    near = mx.fit(modulation, result.params, end)
    profile = mx.profile(modulation, near, end, "b", jnp.array([0.2, 1.0, 1.8]))
    assert np.all(profile.valid)
    assert np.all(np.abs(profile.points[:, d]) <= np.pi)
    assert profile.points[0, d] > 0 > profile.points[2, d]
    impacts = mx.impacts(modulation, near, end, "d", ["b"])
    np.testing.assert_allclose([impacts.postfit_down[0], impacts.postfit_up[0]], [-0.3 / 50, 0.3 / 50], rtol=0.01)
    along = mx.profile(modulation, result, data(), "d", jnp.array([-4.0, 0.0, 3.05, 3.05 + TURN]))
    np.testing.assert_allclose(along.rise, 100 * (1 - np.cos(np.asarray(along.grid[0]) - 3.05)), atol=1e-9)
    np.testing.assert_allclose(along.points[:, b], 1 + 0.3 * np.sin(np.asarray(along.grid[0]) - 3.05), atol=1e-6)


def _log_prob(p, x):
    return jnp.log((1 + p["A"] * jnp.cos(x - p["d"])) / TURN)


class Wave:
    """A histogram of a modulation, drawn by the library."""

    def __call__(self, p):
        x = (jnp.arange(24) + 0.5) * TURN / 24
        return 100 * (1 + 0.5 * jnp.cos(x - p["d"]))


WAVE = mx.PoissonNLL(Wave())


@pytest.mark.slow
def test_toys_and_their_pulls_go_round():
    """Half of the fits lie beyond the end of the period; the pulls are those of a normal distribution all the same."""
    params = {"d": P(np.pi - 1e-3, period=TURN)}
    fits = mx.fit_toys(WAVE, params, mx.Toys(400, jax.random.key(1)))
    assert np.mean(fits.valid) == 1
    assert np.all(np.abs(fits.values) <= np.pi)
    assert 0.4 < np.mean(fits.values < 0) < 0.6
    for study in (mx.pull_study(fits, params), mx.pull_study(WAVE, params, mx.Toys(400, jax.random.key(1)))):
        assert abs(study.mean[0]) < 4 * study.mean_error[0]
        assert abs(study.width[0] - 1) < 4 * study.width_error[0]


# Without a period


def _events(amplitude, d, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-np.pi, np.pi, 40 * n)
    return x[rng.uniform(0, 1 + amplitude, x.size) < 1 + amplitude * np.cos(x - d)][:n]


def _cosine(p, d0):
    return 500 * (1 - jnp.cos(p["d"] - d0))


@pytest.mark.grid
@pytest.mark.parametrize("solver", [mx.Migrad(), mx.Newton()], ids=["Migrad", "Newton"])
def test_a_vanishing_curvature_does_not_send_a_phase_far_away(solver):
    """From the inflection of a cosine and from beside it, where Newton's step is of any length."""
    beside = jnp.concatenate([jnp.zeros(1), jnp.logspace(-16, -1, 31), -jnp.logspace(-16, -1, 31)])
    starts = 3.05 - np.pi / 2 + beside
    fits = jax.vmap(lambda d: mx.fit(_cosine, {"d": d}, 3.05, solver=solver))(starts)
    assert np.all(fits.valid)
    np.testing.assert_allclose(np.cos(np.asarray(fits.values) - 3.05), 1, atol=1e-9)
    assert np.max(np.abs(fits.values - 3.05)) < 5 * TURN
    if isinstance(solver, mx.Migrad):
        np.testing.assert_allclose(fits.values[:, 0], 3.05, atol=1e-6)


def test_the_phase_of_events_from_the_other_side():
    """The fit of the report, of many samples: all at the next maximum (d was 306741.9, and up to 10400 in these)."""
    nll = lambda p, x: -jnp.sum(_log_prob(p, x))  # noqa: E731
    samples = jnp.stack([_events(0.5, 3.05, 500, seed) for seed in range(100)])
    params = {"d": P(0.0), "A": P(0.5, fixed=True)}
    fits = jax.vmap(lambda x: mx.fit(nll, params, x))(samples)
    assert np.all(fits.valid)
    assert np.all(np.abs(np.abs(fits.values) - 3.05) < 0.5)


# What else knows parameters


def test_it_stays_through_fix_release_and_minuit():
    p = P(1.0, lower=0.0, period=TURN)
    fixed = mx.fix({"a": p, "b": P(1.0)}, "a", -7.0)
    free = mx.release(fixed, "a")["a"]
    assert float(free.period) == TURN
    assert float(free.lower) == 0
    assert float(free.value) == -7
    assert repr(P(0.5, period=3.0)) == "Parameter(0.5, period=3.)"
    minuit = mx.Minuit(modulation, start(1.0, lower=0.0, period=TURN), data(d0=-1.0))
    minuit.migrad()
    minuit.minos("d")
    np.testing.assert_allclose(minuit.values["d"], TURN - 1, atol=1e-6)
    assert minuit.limits["d"] == (-np.inf, np.inf)
    minuit.limits["d"] = (0, 1)
    with pytest.raises(ValueError, match="has a period: it takes no limits"):
        minuit.migrad()


def test_a_new_period_does_not_trace_again():
    traces = []

    def counted(p, _):
        traces.append(1)
        return 1 - jnp.cos(p["d"] - 4.0)

    values = [mx.fit(counted, {"d": P(3.0, period=turn)})["d"].value for turn in (TURN, 2 * TURN)]
    first = len(traces)
    mx.fit(counted, {"d": P(3.0, period=3 * TURN)})
    assert len(traces) == first
    np.testing.assert_allclose(values, [4 - TURN, 4], atol=1e-5)


def test_a_likelihood_without_the_period_is_not_valid_outside_of_it():
    parabola = lambda p, _: 0.5 * (p["x"] - 5.0) ** 2  # noqa: E731
    assert not mx.fit(parabola, {"x": P(0.0, period=TURN)}).valid
    inside = mx.fit(parabola, {"x": P(0.0, lower=0.0, period=TURN)})
    assert inside.valid
    assert float(inside.values[0]) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"period": 0.0}, "must be positive"),
        ({"period": -1.0}, "must be positive"),
        ({"period": np.nan}, "the period is NaN"),
        ({"period": 1.0, "upper": 2.0}, "takes no upper bound"),
        ({"period": 1.0, "lower": -np.inf}, "must be finite"),
        ({"period": [1.0, 2.0, 3.0]}, r"the period of shape \(3,\) does not broadcast"),
    ],
)
def test_bad_periods(kwargs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        P([0.0, 1.0], **kwargs)
