"""What is asked of every distribution. A test module has a table of `Case`s and runs the checks over it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from references import digits, stored
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

    def stored(self, what: str, numbers: Sequence[Callable[[], Any]]) -> list[float]:
        """Reference values of this case: see `references.stored`."""
        params = [mpmath.mpf(p) for p in self.params]
        ends = [self.log_pdf(mpmath.mpf(x), *params) for x in (self.points[0], self.points[len(self.points) // 2])]
        made_of = (self.params, self.points, self.intervals, [digits(k) for k in self.knots], self.moving)
        return stored(self.log_pdf.__module__, (made_of, [digits(y) for y in ends]), what, numbers)

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


def _log_integrals(case: Case) -> list[float]:
    """Those of the case's intervals."""
    return case.stored("log_integral", [functools.partial(exact_integral, case, a, b) for a, b in case.intervals])


@functools.cache
def _log_integral(make: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(lambda p, low, high: make(*p).log_integral(low, high))


def check_log_integral(case: Case, tolerance: float = 1e-12) -> None:
    low, high = jnp.array(case.intervals, float).T
    got = _log_integral(case.make)(jnp.array(case.params, float), low, high)
    for (a, b), value, exact in zip(case.intervals, got, _log_integrals(case), strict=True):
        if np.isinf(exact):
            assert np.isneginf(value), (a, b)
        else:
            assert abs(float(value) - exact) < tolerance * max(1, abs(exact)), (a, b, float(value), exact)


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


@functools.cache
def _derivatives(make: Callable[..., Any], moving: tuple[int, ...]) -> Callable[..., Any]:
    """One program for all cases with the same parameters."""

    def all_of_them(params: Any, x: Any, low: Any, high: Any) -> Any:
        def at(moved: Any) -> Any:
            return make(*(params.at[jnp.array(moving)].set(moved)))

        point = params[jnp.array(moving)]
        log_prob = jax.jacrev(lambda p: at(p).log_prob(x))
        return log_prob(point), jax.jacfwd(log_prob)(point), jax.jacrev(lambda p: at(p).log_integral(low, high))(point)

    return jax.jit(all_of_them)


def check_derivatives(case: Case, tolerance: float = 1e-8) -> None:
    """In the parameters: first and second ones of log_prob, first ones of log_integral."""
    low, high = jnp.array(case.intervals, float).T
    n = len(case.moving)
    first, second, jacobian = _derivatives(case.make, tuple(case.moving))(
        jnp.array(case.params, float), jnp.array(case.points, float), low, high
    )

    def compare(got: Any, exact: Any, tolerance: float, what: Any) -> None:
        scale = 1 + np.max(np.abs(exact))
        np.testing.assert_allclose(got, exact, rtol=tolerance, atol=tolerance * scale, err_msg=str(what))

    singles, pairs = [(i,) for i in range(n)], [(i, j) for i in range(n) for j in range(i + 1)]
    of = functools.partial
    densities = [of(lambda p, at: case.log_pdf(mpmath.mpf(at), *p), at=at) for at in case.points]
    slopes = case.stored("log_prob'", [of(_differences, f, case, i) for f in densities for i in singles])
    curvatures = case.stored("log_prob''", [of(_differences, f, case, ij) for f in densities for ij in pairs])
    for k, at in enumerate(case.points):
        compare(first[k], slopes[n * k :][:n], tolerance, at)
        exact = curvatures[len(pairs) * k :][: len(pairs)]
        compare([second[k][pair] for pair in pairs], exact, 100 * tolerance, at)
    # nothing and the whole have no slopes
    part = [k for k, value in enumerate(_log_integrals(case)) if np.isfinite(value) and value < -1e-25]
    integrals = [of(exact_integral, case, *case.intervals[k]) for k in part]
    slopes = case.stored("log_integral'", [of(_differences, f, case, i) for f in integrals for i in singles])
    for k, interval in enumerate(case.intervals):
        if k in part:
            compare(jacobian[k], slopes[n * part.index(k) :][:n], tolerance, interval)
        elif np.isneginf(_log_integrals(case)[k]):
            np.testing.assert_array_equal(jacobian[k], 0.0)
        else:
            np.testing.assert_array_equal(np.isfinite(jacobian[k]), True)


@functools.cache
def _bins(make: Callable[..., Any]) -> Callable[..., Any]:
    def of(params: Any, edges: Any) -> Any:
        d = make(*params)
        together = jax.vmap(lambda p: make(*p).log_bin_integrals(edges))(jnp.stack([params, params]))
        return d.bin_integrals(edges), d.cdf(edges), d.log_bin_integrals(edges), together[1]

    return jax.jit(of)


def check_bins(case: Case, edges: Sequence[float]) -> None:
    """Bins over the whole range add up to 1, the cdf grows from 0 to 1 with them, and vmap and jit change nothing."""
    p, cdf, logs, together = _bins(case.make)(jnp.array(case.params, float), jnp.asarray(edges, float))
    np.testing.assert_allclose(jnp.sum(p), 1.0, rtol=1e-13)
    np.testing.assert_allclose(cdf, jnp.append(0.0, jnp.cumsum(p)), atol=1e-13)
    np.testing.assert_allclose(together, logs, rtol=1e-12, atol=1e-14)


def check_samples(case: Case, n: int = 20_000) -> None:
    """Kolmogorov-Smirnov; and the shapes that broadcast."""
    draws = jax.jit(lambda p, key: case.make(*p).sample(key, (n,)))(case.params, jax.random.key(1))
    assert draws.shape == (n,)
    ours = jax.jit(lambda p, x: case.make(*p).cdf(x))
    cdf = case.cdf or (lambda x: np.asarray(ours(case.params, jnp.asarray(x))))
    assert stats.kstest(np.asarray(draws), cdf).pvalue > 1e-3
    lanes = lambda p: case.make(*(jnp.full((3, 1), x) for x in p))  # noqa: E731
    assert jax.eval_shape(lambda p: lanes(p).sample(jax.random.key(0), (2,)), case.params).shape == (2, 3, 1)
    assert jax.eval_shape(lambda p: lanes(p).log_prob(jnp.full((4,), case.points[0])), case.params).shape == (3, 4)


def check_finite(case: Case, far: Sequence[float]) -> None:
    """At any finite x and for any interval derivatives are finite, in float64 (also second ones) and float32; where the
    density is 0 its log is -inf, with derivatives that are 0, not NaN."""
    for dtype in (jnp.float64, jnp.float32):
        found = _finite(case.make)(jnp.array(case.params, dtype), jnp.sort(jnp.asarray(far, dtype)))
        for name, (value, in_params, in_x, hessian) in found.items():
            assert value.dtype == in_params.dtype == in_x.dtype == dtype
            assert not np.any(np.isnan(value) | np.isposinf(value)), (name, value)
            assert np.all(np.isfinite(in_params)), (name, in_params)
            assert np.all(np.isfinite(in_x)), (name, in_x)
            assert np.all(np.isfinite(hessian)), name


@functools.cache
def _finite(make: Callable[..., Any]) -> Callable[..., Any]:
    """One program for all cases with the same parameters."""

    def log_prob(p: Any, x: Any) -> Any:
        return make(*p).log_prob(x)

    def log_bins(p: Any, edges: Any) -> Any:
        return make(*p).log_bin_integrals(edges)

    def both(p: Any, x: Any) -> Any:
        def of(fn: Callable[..., Any]) -> Any:
            hessian = jnp.zeros(())  # of float32 nobody asks for one, and it takes long to compile
            if x.dtype == jnp.float64:
                hessian = jax.hessian(lambda p: jnp.sum(jnp.exp(fn(p, x))))(p)
            return fn(p, x), *jax.jacrev(fn, (0, 1))(p, x), hessian

        return {"log_prob": of(log_prob), "log_bins": of(log_bins)}

    return jax.jit(both)
