"""What is asked of every distribution. A test module has a table of `Case`s and runs the checks over it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from scipy import stats

mpmath.mp.dps = 30


class Case(NamedTuple):
    """One distribution with one set of parameters."""

    make: Callable[..., Any]  # of the parameters, in their order
    params: Sequence[float]
    log_pdf: Callable[
        ..., Any
    ]  # mpmath: log_pdf(x, *params), written from the formula of the literature, not from ours
    points: Sequence[float]  # inside the support: the centre, and both tails as far as 40 sigma
    intervals: Sequence[tuple[float, float]]  # narrow, wide, far in the tails, half-infinite, the whole range
    # for mpmath.quad: the ends of the support, and where the density has its features
    knots: Sequence[Any] = (-mpmath.inf, mpmath.inf)
    cdf: Callable[[Any], Any] | None = None  # scipy's, for the samples; ours if there is none
    to: Sequence[int] | None = None  # positions of the parameters with derivatives; default all

    @property
    def moving(self) -> list[int]:
        return list(range(len(self.params)) if self.to is None else self.to)

    def at(self, moved: Any) -> list[Any]:
        """The parameters, those with derivatives moved."""
        params = list(self.params)
        for i, value in zip(self.moving, moved, strict=True):
            params[i] = value
        return params

    @property
    def start(self) -> list[float]:
        return [float(self.params[i]) for i in self.moving]


def exact_integral(case: Case, low: float, high: float, params: Sequence[Any] | None = None) -> Any:
    """log of the integral of the reference, with all digits also where it is 1e-400."""
    params = [mpmath.mpf(p) for p in (case.params if params is None else params)]
    a, b = max(mpmath.mpf(low), case.knots[0]), min(mpmath.mpf(high), case.knots[-1])
    if a >= b:
        return -mpmath.inf
    inner = [k for k in case.knots if a < k < b]
    # scaled by its largest value at hand, as mpmath's error is absolute
    ends = [a if mpmath.isfinite(a) else b - 1, b if mpmath.isfinite(b) else a + 1]
    probe = [x for x in (*ends, 0.5 * (ends[0] + ends[1]), *inner) if mpmath.isfinite(x)]
    inside = [x for x in probe if case.knots[0] < x < case.knots[-1]]
    offset = max((case.log_pdf(x, *params) for x in inside), default=mpmath.mpf(0))
    return offset + mpmath.log(mpmath.quad(lambda x: mpmath.exp(case.log_pdf(x, *params) - offset), [a, *inner, b]))


def check_log_prob(case: Case) -> None:
    got = case.make(*case.params).log_prob(jnp.array(case.points, float))
    for x, value in zip(case.points, got, strict=True):
        exact = case.log_pdf(mpmath.mpf(x), *map(mpmath.mpf, case.params))
        assert abs(float(value) - exact) < 1e-12 * max(1, abs(exact)), (x, float(value), float(exact))


def check_log_integral(case: Case, tolerance: float = 1e-12) -> None:
    low, high = jnp.array(case.intervals, float).T
    got = jax.jit(lambda p: case.make(*p).log_integral(low, high))(case.params)
    for (a, b), value in zip(case.intervals, got, strict=True):
        exact = exact_integral(case, a, b)
        if mpmath.isinf(exact):
            assert np.isneginf(value), (a, b)
        else:
            assert abs(float(value) - exact) < tolerance * max(1, abs(exact)), (a, b, float(value), float(exact))


def _differences(fn: Callable[[list[Any]], Any], case: Case, orders: tuple[int, ...]) -> float:
    """A first or second (mixed) derivative by central differences in 30 digits, exact to about 1e-12."""
    h = mpmath.mpf("1e-6")
    sizes = [mpmath.mpf(max(abs(p), 0.1)) for p in case.start]

    def at(*steps: float) -> Any:
        moved = [mpmath.mpf(p) for p in case.start]
        for i, step in zip(orders, steps, strict=True):
            moved[i] += step * h * sizes[i]
        return fn([mpmath.mpf(p) for p in case.at(moved)])

    if len(orders) == 1:
        return float((at(1) - at(-1)) / (2 * h * sizes[orders[0]]))
    i, j = orders
    return float((at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * h**2 * sizes[i] * sizes[j]))


def check_derivatives(case: Case, tolerance: float = 1e-8) -> None:
    """In the parameters: first and second ones of log_prob, first ones of log_integral."""
    x = jnp.array(case.points, float)
    low, high = jnp.array(case.intervals, float).T
    point, n = jnp.array(case.start), len(case.start)

    def log_prob(p: Any) -> Any:
        return case.make(*case.at(p)).log_prob(x)

    def log_integral(p: Any) -> Any:
        return case.make(*case.at(p)).log_integral(low, high)

    def compare(got: Any, exact: Any, tolerance: float, what: Any) -> None:
        scale = 1 + np.max(np.abs(exact))
        np.testing.assert_allclose(got, exact, rtol=tolerance, atol=tolerance * scale, err_msg=str(what))

    first = jax.jit(jax.jacrev(log_prob))(point)
    second = jax.jit(jax.jacfwd(jax.jacrev(log_prob)))(point)
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    for k, at in enumerate(case.points):
        density = functools.partial(case.log_pdf, mpmath.mpf(at))
        compare(first[k], [_differences(lambda p, f=density: f(*p), case, (i,)) for i in range(n)], tolerance, at)
        exact = [_differences(lambda p, f=density: f(*p), case, pair) for pair in pairs]
        compare([second[k][pair] for pair in pairs], exact, 100 * tolerance, at)
    jacobian = jax.jit(jax.jacrev(log_integral))(point)
    for k, (a, b) in enumerate(case.intervals):
        value = exact_integral(case, a, b)
        if mpmath.isinf(value):  # nothing
            np.testing.assert_array_equal(jacobian[k], 0.0)
            continue
        if not value < -1e-25:  # the whole
            np.testing.assert_array_equal(np.isfinite(jacobian[k]), True)
            continue
        integral = functools.partial(exact_integral, case, a, b)
        compare(jacobian[k], [_differences(integral, case, (i,)) for i in range(n)], tolerance, (a, b))


def check_bins(case: Case, edges: Sequence[float]) -> None:
    """Bins over the whole range add up to 1, the cdf grows from 0 to 1 with them, and vmap and jit change nothing."""
    d, edges = case.make(*case.params), jnp.asarray(edges, float)
    p = d.bin_integrals(edges)
    np.testing.assert_allclose(jnp.sum(p), 1.0, rtol=1e-13)
    np.testing.assert_allclose(d.cdf(edges), jnp.append(0.0, jnp.cumsum(p)), atol=1e-13)
    many = jnp.array([case.params, case.params], float)
    together = jax.jit(jax.vmap(lambda p: case.make(*p).log_bin_integrals(edges)))(many)
    np.testing.assert_allclose(together[1], d.log_bin_integrals(edges), rtol=1e-12, atol=1e-14)


def check_samples(case: Case, n: int = 20_000) -> None:
    """Kolmogorov-Smirnov; and the shapes that broadcast."""
    d = case.make(*case.params)
    draws = d.sample(jax.random.key(1), (n,))
    assert draws.shape == (n,)
    cdf = case.cdf or (lambda x: np.asarray(d.cdf(jnp.asarray(x))))
    assert stats.kstest(np.asarray(draws), cdf).pvalue > 1e-3
    lanes = case.make(*(jnp.full((3, 1), p) for p in case.params))
    assert lanes.sample(jax.random.key(0), (2,)).shape == (2, 3, 1)
    assert lanes.log_prob(jnp.full((4,), case.points[0])).shape == (3, 4)


def check_finite(case: Case, far: Sequence[float]) -> None:
    """At any finite x and for any interval derivatives are finite, in float64 and float32; where the density is 0 its
    log is -inf, with derivatives that are 0, not NaN."""
    for dtype in (jnp.float64, jnp.float32):
        point = jnp.array(case.params, dtype)
        x = jnp.sort(jnp.asarray(far, dtype))

        def log_prob(p: Any, x: Any) -> Any:
            return case.make(*p).log_prob(x)

        def log_bins(p: Any, edges: Any) -> Any:
            return case.make(*p).log_bin_integrals(edges)

        for fn in (log_prob, log_bins):
            value, (in_params, in_x) = jax.jit(lambda p, x, fn=fn: (fn(p, x), jax.jacrev(fn, (0, 1))(p, x)))(point, x)
            assert value.dtype == in_params.dtype == in_x.dtype == dtype
            assert not np.any(np.isnan(value) | np.isposinf(value)), (fn.__name__, value)
            assert np.all(np.isfinite(in_params)), (fn.__name__, in_params)
            assert np.all(np.isfinite(in_x)), (fn.__name__, in_x)
            hessian = jax.jit(jax.hessian(lambda p, x, fn=fn: jnp.sum(jnp.exp(fn(p, x)))))(point, x)
            assert np.all(np.isfinite(hessian)), fn.__name__
