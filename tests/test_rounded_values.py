"""A likelihood whose value is so large that float32 rounds away a rise by 1/2: the fit is right, as it rests on
gradients, and what would be read off its values is not found, and it is said why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = np.random.default_rng(3).normal(0.3, 1.2, 1_000_000).astype(np.float32)
DISTRIBUTION = lambda p: mx.distributions.Normal(p["mu"], p["sigma"])  # noqa: E731


def started(dtype):
    number = lambda v: jnp.asarray(v, dtype)  # noqa: E731
    return {
        "mu": mx.Parameter(number(0.0)),
        "sigma": mx.Parameter(number(1.0), lower=number(0.01), upper=number(100.0)),
    }


def check_fit(result):
    """Against the closed form."""
    assert bool(result.valid)
    assert result.values.dtype == np.float32
    mean, sigma = (float(f(X.astype(float))) for f in (np.mean, np.std))
    assert float(result["mu"].value) == pytest.approx(mean, abs=0.01 * sigma / 1000)
    assert float(result["sigma"].value) == pytest.approx(sigma, abs=0.01 * sigma / 1400)
    np.testing.assert_allclose(result.errors, [sigma / 1000, sigma / np.sqrt(2e6)], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:migrax is made for float64:UserWarning")
@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_million_events(wide):
    """All of it in float32, also where float64 is switched on."""
    with jax.enable_x64(wide):
        nll, params = mx.UnbinnedNLL(distribution=DISTRIBUTION), started(np.float32)
        result = mx.fit(nll, params, X)
        check_fit(result)
        told = r"the rounding error of the NLL \(1.6e\+06 in float32\) is nearly as large as the rise by UP = 0.5"
        with pytest.warns(UserWarning, match=f"minos: {told}"):
            minos = mx.minos(nll, result, X)
        assert np.all(np.asarray([minos.lower_status, minos.upper_status]) == int(mx.Side.FAILED))
        assert np.all(np.isnan([minos.lower, minos.upper]))
        with pytest.warns(UserWarning, match=f"profile: {told}"):
            profile = mx.profile(nll, result, X, "mu", 3)
        assert np.all(np.isnan(profile.rise))
        assert not np.any(np.asarray(profile.status) == int(mx.Status.VALID))
        scan = mx.scan(nll, result, X, "mu", 3)  # of values, to the digits that they have
        assert np.all(np.isfinite(scan.nll))
        with pytest.warns(UserWarning, match=f"a test or a limit: {told}"):
            limit = mx.upper_limit(nll, params, X, "mu")
        assert np.all(np.isnan([limit.observed, *limit.expected]))
        assert not bool(limit.valid)
        with pytest.warns(UserWarning, match=f"a test or a limit: {told}"):
            tested = mx.hypotest(nll, params, X, "mu", 0.31)
        assert np.isnan(tested.cls)
        if not wide:
            return
        with pytest.warns(UserWarning, match=f"contour: {told}"):
            contour = mx.contour(nll, result, X, ("mu", "sigma"), size=8)
        assert np.all(np.isnan(contour.points))
        with pytest.warns(UserWarning, match=f"impacts: {told}"):
            impacts = mx.impacts(nll, result, X, "mu")
        assert np.all(np.isnan(impacts.postfit_up))


def test_what_is_small_enough_is_found():
    """3·10^4 events in float32: MINOS sees the rise through the rounding."""
    few, nll = X[:30_000], mx.UnbinnedNLL(distribution=DISTRIBUTION)
    result = mx.fit(nll, started(np.float32), few)
    found, n, s = mx.minos(nll, result, few, "mu"), 30_000, float(np.std(few.astype(float)))
    # the profile likelihood is n/2 log(1 + (mu - mean)^2 / s^2)
    expected = s * np.sqrt(np.expm1(1 / n))
    np.testing.assert_allclose([found.upper[0], -found.lower[0]], expected, rtol=0.05)


@pytest.mark.filterwarnings("ignore:migrax is made for float64:UserWarning")
def test_a_million_events_in_chunks():
    with jax.enable_x64(False):
        # a sum in chunks is another program
        chunked = mx.UnbinnedNLL(distribution=DISTRIBUTION, chunk_size=10_000)
        check_fit(mx.fit(chunked, started(np.float32), X))


@pytest.mark.slow
def test_inside_of_jit_of_a_result_from_outside():
    """It is warned of while it is traced, and nothing is found."""
    params = started(np.float32)
    nll = mx.Likelihood(lambda p, d: 1e6 + 0.5 * (p["mu"] - d) ** 2 + 0.5 * (p["sigma"] - 2.0) ** 2)
    result = mx.fit(nll, params, jnp.float32(0.5))
    assert bool(result.valid)
    with pytest.warns(UserWarning, match="the rounding error of the NLL"):
        status = jax.jit(lambda d: mx.minos(nll, result, d, "mu").upper_status)(jnp.float32(0.5))
    assert np.all(np.asarray(status) == int(mx.Side.FAILED))
