"""Profiles that have more than one branch, or fall below the minimum: against the roots of a cubic, and iminuit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit

import migrax as mx

TILT = 0.3
GRID = jnp.linspace(-2.0, 2.0, 17)


def wells(p, tilt):
    """Two wells in `b`, to which `a` is tied: where `a` is far from one of them, only the other is left."""
    return 0.5 * (p["b"] ** 2 - 1) ** 2 + tilt * p["b"] + 0.5 * (p["a"] - p["b"]) ** 2


def lowest(grid, tilt=TILT):
    """The minimum over `b`: the derivative by it is 2 b^3 - b + tilt - a."""
    values = []
    for a in np.asarray(grid):
        roots = np.roots([2, 0, -1, tilt - a])
        b = roots[np.abs(roots.imag) < 1e-9].real
        values.append(np.min(wells({"a": a, "b": b}, tilt)))
    return np.array(values)


def at(b, tilt=TILT):
    result = mx.fit(wells, {"a": b, "b": b}, tilt)
    assert result.valid
    return result


def test_the_lowest_branch_from_the_deeper_minimum():
    profile = mx.profile(wells, at(-1.0), TILT, "a", GRID)
    assert np.all(profile.valid)
    assert not profile.new_minimum
    np.testing.assert_allclose(profile.nll, lowest(GRID), atol=1e-8)


def test_below_the_minimum_it_is_said_and_followed():
    result = at(1.0)
    with pytest.warns(UserWarning, match=r"profile met a lower likelihood .* a = -1"):
        profile = mx.profile(wells, result, TILT, "a", GRID)
    assert np.all(profile.valid)
    assert profile.new_minimum
    np.testing.assert_allclose(profile.nll, lowest(GRID), atol=1e-8)
    np.testing.assert_allclose(profile.rise, 2 * (lowest(GRID) - float(result.nll)), atol=1e-8)
    assert np.min(profile.rise) < -0.8


def test_as_iminuit_from_the_deeper_minimum():
    """Minuit walks along its profile, so it stays on the branch beside the minimum, which is the lowest there."""
    m = Minuit(lambda a, b: float(wells({"a": a, "b": b}, TILT)), a=-1, b=-1)
    m.errordef, m.strategy, m.tol = 0.5, 2, 1e-4
    m.migrad()
    grid = np.linspace(-2.0, -0.5, 6)
    _, values, ok = m.mnprofile("a", grid=grid)
    assert np.all(ok)
    profile = mx.profile(wells, at(-1.0), TILT, "a", grid)
    np.testing.assert_allclose(profile.nll, values, atol=1e-5)


def test_two_parameters():
    def both(p, tilt):
        return wells(p, tilt) + 0.5 * p["c"] ** 2

    result = mx.fit(both, {"a": 1.0, "b": 1.0, "c": 0.0}, TILT)
    other = jnp.linspace(-1.0, 1.0, 3)
    with pytest.warns(UserWarning, match="a = -1.*c = 0"):
        profile = mx.profile(both, result, TILT, ("a", "c"), (GRID, other))
    right = lowest(GRID)[:, None] + 0.5 * np.asarray(other) ** 2
    np.testing.assert_allclose(profile.nll, right, atol=1e-8)


@pytest.mark.slow
def test_inside_jit_the_result_says_so():
    """There nobody can be warned, and points are fitted once: those that are lower are told."""
    result = at(1.0)
    flags = jax.jit(jax.vmap(lambda grid: mx.profile(wells, result, TILT, "a", grid).new_minimum))(
        jnp.array([[-1.8, -1.2], [0.8, 1.2]])
    )
    np.testing.assert_array_equal(flags, [True, False])


def test_scans():
    scan_along = lambda p, tilt: wells({"a": p["b"], "b": p["b"]}, tilt) + 0.5 * p["c"] ** 2  # noqa: E731
    result = mx.fit(scan_along, {"b": 1.0, "c": 0.0}, TILT)
    with pytest.warns(UserWarning, match=r"scan met a lower likelihood .* b = -1"):
        scan = mx.scan(scan_along, result, TILT, "b", jnp.array([-1.0, 0.0, 1.0]))
    assert scan.new_minimum
    np.testing.assert_allclose(scan.rise[0], 2 * (-TILT - float(result.nll)), rtol=1e-6)
    assert not mx.scan(scan_along, result, TILT, "b", jnp.array([0.5, 1.0])).new_minimum
