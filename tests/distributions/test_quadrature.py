"""The quadratures of densities against closed forms and mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

from migrax.distributions._quadrature import log_decay, log_panels, log_tail, log_unimodal

INF = float("inf")


def log_gauss(p, t):
    return -0.5 * t**2 / p


def log_sech(p, t):
    return -p * t - jnp.log1p(jnp.exp(-2 * t))


def log_student(p, t):
    return -0.5 * (p + 1) * jnp.log1p(t**2)


def log_power(p, t):
    return -(1 + p) * jnp.log1p(t)


def log_gamma(p, t):
    return (p - 1) * jnp.log(t) - t


def exact(fn, p, low, high):
    """The same functions in mpmath."""
    p, low, high = mpmath.mpf(p), mpmath.mpf(low), mpmath.mpf(high)
    if fn is log_gauss:
        s = mpmath.sqrt(2 * p)
        return mpmath.log(s * mpmath.sqrt(mpmath.pi) / 2 * (mpmath.erfc(low / s) - mpmath.erfc(high / s)))
    if fn is log_power:
        return mpmath.log(((1 + low) ** -p - (1 + high) ** -p) / p)
    if fn is log_gamma:
        if high - low < 0.1:
            return mpmath.log(mpmath.quad(lambda t: mpmath.exp((p - 1) * mpmath.log(t) - t), [low, high]))
        return mpmath.log(mpmath.gammainc(p, low, high))
    if fn is log_student:
        half = lambda t: t * mpmath.hyp2f1(0.5, (p + 1) / 2, 1.5, -(t**2))  # noqa: E731
        whole = mpmath.sqrt(mpmath.pi) / 2 * mpmath.gamma(p / 2) / mpmath.gamma((p + 1) / 2)
        return mpmath.log((whole if mpmath.isinf(high) else half(high)) - (half(low) if low else 0))
    breaks = [low, 0.3, 1, 3, 10, 30, 100] if mpmath.isinf(high) else [low, high]
    return mpmath.log(mpmath.quad(lambda t: mpmath.exp(-p * t) / (1 + mpmath.exp(-2 * t)), breaks))


def compare(got, fn, p, low, high):
    """Values, and two derivatives by the parameter."""
    with mpmath.workdps(50):
        reference = [mpmath.diff(lambda p: exact(fn, p, low, high), mpmath.mpf(p), n) for n in range(3)]
    ours = (got, jax.grad(got), jax.grad(jax.grad(got)))
    for n, (derivative, value) in enumerate(zip(ours, reference, strict=True)):
        error = abs(float(jax.jit(derivative)(float(p))) - value) / max(1, abs(value))
        assert error < (2e-14, 1e-12, 1e-11)[n], (n, float(error))


@pytest.mark.grid
@pytest.mark.parametrize(
    ("fn", "p", "length", "scale", "near", "far"),
    [
        (log_gauss, 1.0, INF, 1.0, 1e-17, 1e24),
        (log_gauss, 1.0, INF, 2.0, 1e-17, 1e24),
        (log_gauss, 1.0, 0.01, 1.0, 1e-17, 1e24),
        (log_gauss, 1.0, 5.0, 1.0, 1e-17, 1e24),
        (log_gauss, 1.0, 300.0, 1.0, 1e-17, 1e24),
        (log_sech, 1.0, INF, 1.0, 1e-17, 1e24),
        (log_student, 1.0, INF, 0.1, 1e-17, 1e24),  # Cauchy, with a bad guess of the scale
        (log_student, 1.0, 1e3, 1.0, 1e-17, 1e24),
        (log_power, 0.1, INF, 1.0, 1e-17, 1e150),  # t^-1.1 is half of its integral beyond t = 1e3
        (log_power, 0.1, 1e4, 1.0, 1e-17, 1e24),
        (log_gamma, 0.15, INF, 1.0, 1e-120, 1e24),  # t^-0.85 at 0
        (log_gamma, 0.5, 0.5, 1.0, 1e-34, 1e24),
    ],
)
def test_log_decay(fn, p, length, scale, near, far):
    compare(lambda p: log_decay(lambda t: fn(p, t), length, scale, near, far), fn, p, 0.0, length)


@pytest.mark.parametrize(
    ("fn", "p", "low", "high", "panels"),
    [
        (log_gauss, 1.0, -0.5, 2.0, 1),
        (log_gauss, 1.0, 0.0, 12.0, 4),
        (log_student, 3.0, -0.6, 0.6, 1),
        (log_gamma, 7.5, 30.0, 30.001, 1),
    ],
)
def test_log_panels(fn, p, low, high, panels):
    compare(lambda p: log_panels(lambda t: fn(p, t), low, high, panels), fn, p, low, high)


@pytest.mark.slow
def test_derivatives_by_the_ends_and_empty_intervals():
    """Minus the density over the integral; nothing at all where there is no interval."""
    f = lambda x: log_tail(lambda t: -0.5 * t**2, x, 0.2, "above")  # noqa: E731
    x = 4.0
    hazard = np.exp(stats.norm.logpdf(x) - stats.norm.logsf(x))
    np.testing.assert_allclose(f(x), stats.norm.logsf(x) + 0.5 * np.log(2 * np.pi), rtol=1e-14)
    np.testing.assert_allclose(jax.grad(f)(x), -hazard, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(jax.grad(f))(x), -hazard * (hazard - x), rtol=1e-11)
    below = log_tail(lambda t: -0.5 * t**2, -x, 0.2, "below")
    np.testing.assert_allclose(below, f(x), rtol=1e-14)
    with pytest.raises(ValueError, match="side must be"):
        log_tail(lambda t: t, 0.0, 1.0, "left")  # pyright: ignore[reportArgumentType]
    square = lambda t: -(t**2)  # noqa: E731
    for g in (
        lambda v: log_panels(square, v, 1.0),
        lambda v: log_decay(square, 1 - v, 1.0),
        lambda v: log_unimodal(square, v, 1.0, 0.0),
    ):
        for at in (1.0, 2.0):
            assert np.isneginf(g(at))
            assert jax.grad(g)(at) == 0
            assert jax.hessian(g)(at) == 0


@pytest.mark.slow
def test_log_unimodal():
    """Any interval of a gamma density, in one call: narrow ones, those around the mode, far ones, the whole."""
    low = jnp.array([-INF, -INF, 0.5, 7.999, 8.5, 20.0, 20.0, 200.0, -50.0, 3.0])
    high = jnp.array([INF, 2.0, 1.0, 8.0, 30.0, 20.0 + 1e-9, INF, INF, -1.0, 12.0])
    k = 9.0

    def got(k, low, high):
        # of log t, where it falls from its mode like exp(k x) to the left
        density = lambda x: k * x - jnp.exp(x)  # noqa: E731
        ends = [jnp.where(v > 0, jnp.log(jnp.where(v > 0, v, 1.0)), -INF) for v in (low, high)]
        return log_unimodal(density, *ends, jnp.log(k))

    values = got(k, low, high)
    slopes = jax.jacfwd(got)(k, low, high)
    in_ends = jax.grad(lambda ends: got(k, *ends)[9], 0)((low, high))
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        a, b = max(mpmath.mpf(float(a)), 0), mpmath.mpf(float(b))
        if b <= 0:
            assert np.isneginf(values[i])
            continue
        fn = lambda k, a=a, b=b: exact(log_gamma, k, a, b)  # noqa: E731
        with mpmath.workdps(50):
            value, slope = fn(k), mpmath.diff(fn, mpmath.mpf(k))
        # the width of the narrowest one is known to 1e-7 from its ends
        tolerance = 1e-6 if b - a < 1e-8 else 1e-13
        np.testing.assert_allclose(values[i], float(value), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(slopes[i], float(slope), rtol=1e-11)
    with mpmath.workdps(30):
        expected = [-float(mpmath.exp((k - 1) * mpmath.log(3) - 3 - exact(log_gamma, k, 3, 12)))]
    np.testing.assert_allclose(in_ends[0][9], expected[0], rtol=1e-12)


@pytest.mark.float32
def test_float32():
    one = jnp.float32(1.0)
    for got in (
        log_decay(lambda t: -2 * jnp.log1p(t), jnp.inf * one, one, far=1e150),
        log_decay(lambda t: -t, jnp.inf * one, one),
        log_panels(lambda t: 0 * t, 0 * one, one),
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, 0.0, atol=1e-6)
