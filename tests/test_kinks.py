"""Minima and starts on kinks: interpolation codes 0 and 1 at 0, and functions that say where theirs are.

The references minimise a NumPy likelihood by SciPy, in each orthant of the kinked parameters apart, where it is smooth.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import migrax as mx

SIGNAL, BACKGROUND = np.array([2.0, 5.0, 8.0, 4.0]), np.array([50.0, 40.0, 30.0, 20.0])
# templates that move the yields the same way on both sides make kinks in the likelihood, convex and concave ones
LOW, HIGH = np.array([49.0, 39.0, 30.0, 19.5]), np.array([60.0, 43.0, 36.0, 23.0])
FACTORS = (0.97, 1.25)


def workspace(poi_up=20.0):
    sample = {"name": "bkg", "data": BACKGROUND.tolist(), "modifiers": [
        {"name": "shape", "type": "histosys", "data": {"lo_data": LOW.tolist(), "hi_data": HIGH.tolist()}},
        {"name": "norm", "type": "normsys", "data": {"lo": FACTORS[0], "hi": FACTORS[1]}},
    ]}  # fmt: skip
    signal = {"name": "sig", "data": SIGNAL.tolist(), "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]}
    parameters = [{"name": "mu", "bounds": [[-2.0, poi_up]], "inits": [0.5]}]
    return {
        "channels": [{"name": "SR", "samples": [signal, sample]}],
        "observations": [{"name": "SR", "data": BACKGROUND.tolist()}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


NLL, PARAMS, DATA = mx.io.from_pyhf(workspace(), interpolation={"normsys": "code1", "histosys": "code0"})
COUNTS = [BACKGROUND, *(np.random.default_rng(k).poisson(BACKGROUND).astype(float) for k in (1, 3, 4, 5))]


def data_of(counts):
    return {"main": {"SR": jnp.asarray(counts)}, "aux": DATA["aux"]}


def numpy_nll(x, counts):
    """Relative to the saturated model: mu, norm, shape."""
    mu, norm, shape = x
    template = BACKGROUND + (shape * (HIGH - BACKGROUND) if shape >= 0 else shape * (BACKGROUND - LOW))
    factor = FACTORS[1] ** norm if norm >= 0 else FACTORS[0] ** -norm
    nu = mu * SIGNAL + factor * template
    if np.any(nu <= 0):
        return 1e10
    return np.sum(nu - counts - counts * np.log(nu / np.where(counts > 0, counts, 1.0))) + 0.5 * (norm**2 + shape**2)


def reference(counts, mu=None):
    """The lowest NLL, of the orthants that each are smooth, and where."""
    best = None
    for signs in itertools.product((1, -1), repeat=2):
        box = [(0, 5) if s > 0 else (-5, 0) for s in signs]
        if mu is None:
            fn, box = (lambda x: numpy_nll(x, counts)), [(-2, 20), *box]
        else:
            fn = lambda x: numpy_nll((mu, *x), counts)  # noqa: E731
        for size in (0.1, 1.0):
            start = [*([0.3] if mu is None else []), *(s * size for s in signs)]
            found = scipy.optimize.minimize(fn, start, bounds=box, method="L-BFGS-B", options={"ftol": 1e-15})
            found = scipy.optimize.minimize(fn, found.x, bounds=box, method="Nelder-Mead",
                                            options={"xatol": 1e-9, "fatol": 1e-13})  # fmt: skip
            if best is None or found.fun < best.fun:
                best = found
    return best.fun, best.x


def starts(n):
    """Starts around the nominal values; the first one is these, on both kinks."""
    rng = np.random.default_rng(7)
    moved = {k: np.concatenate([[float(p.value)], float(p.value) + rng.normal(size=n - 1)]) for k, p in PARAMS.items()}
    moved["mu"] = np.abs(moved["mu"])
    return {k: mx.Parameter(jnp.asarray(v), lower=PARAMS[k].lower, upper=PARAMS[k].upper) for k, v in moved.items()}


@pytest.fixture(scope="module")
def many():
    """Fits from 12 starts each of nominal and Poisson data."""
    values = {k: p.value for k, p in starts(12).items()}

    def one(value, counts):
        params = {k: mx.Parameter(v, lower=PARAMS[k].lower, upper=PARAMS[k].upper) for k, v in value.items()}
        return mx.fit(NLL, params, data_of(counts))

    each = jax.vmap(jax.vmap(one, in_axes=(0, None)), in_axes=(None, 0))
    return jax.jit(each)(values, jnp.asarray(np.stack(COUNTS)))


def test_fits_from_any_start_are_valid_minima(many):
    assert np.all(np.asarray(many.valid)), np.bincount(np.ravel(many.status))
    constant = float(NLL.constant(data_of(BACKGROUND)))
    for k, counts in enumerate(COUNTS):
        constant = float(NLL.constant(data_of(counts)))
        found = np.asarray(many.nll[k]) - constant
        lowest, _ = reference(counts)
        assert np.min(found) == pytest.approx(lowest, abs=1e-6)
        for x, value in zip(np.asarray(many.values[k]), found, strict=True):
            assert numpy_nll(x, counts) == pytest.approx(value, abs=1e-9)
            # no way down, along no direction
            rng = np.random.default_rng(0)
            near = [numpy_nll(x + 1e-4 * d, counts) for d in rng.normal(size=(200, 3))]
            assert min(near) > value - 1e-10


def test_a_parameter_on_its_kink_is_there_exactly(many):
    on = np.asarray(many.values[..., 1:]) == 0
    assert np.any(on[1:]), "none of the data has its minimum on a kink"
    # those where the slope jumps; only the curvature does in nominal data
    assert np.array_equal(np.asarray(many.on_kink[1:, :, 1:]), on[1:])
    assert not np.any(many.on_kink[0])
    assert not np.any(many.on_kink[..., 0])
    assert not np.any(np.asarray(many.at_limit[..., 1:]))


def test_errors_on_a_kink_are_second_differences_over_one_error():
    """By the profile of the NumPy likelihood: at plus and minus one error it has risen by UP on average, to the second
    order that a covariance knows of."""

    def nll(params, data):
        a, b = params["a"], params["b"]
        return 2.0 * jnp.abs(a) + 0.5 * jnp.where(a > 0, 3.0, 1.0) * a**2 + 0.5 * (b - 0.7 * a - data) ** 2 * 4

    kinked = mx.Likelihood(nll, kinks={"a": 0.0})
    result = mx.fit(kinked, {"a": 0.4, "b": 0.1}, jnp.array(1.5))
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [0.0, 1.5], atol=1e-12)
    assert result.on_kink.tolist() == [True, False]
    line = "On a kink (the slope jumps there; MINOS gives each side's error): a"
    assert line in repr(result)
    assert line.replace("'", "&#x27;") in result._repr_html_()
    # with b minimised 2|a| + a^2 remains, on average: 2 t + t^2 = 1/2
    t = np.sqrt(1.5) - 1
    assert float(result["a"].error) == pytest.approx(t, rel=1e-10)
    # b at a given a has the variance 1/4, and follows a with the slope 0.7
    assert float(result["b"].error) == pytest.approx(np.sqrt(0.25 + 0.49 * t**2), rel=1e-10)


@pytest.mark.parametrize("kind", ["minimum", "ridge", "oblique"])
def test_only_a_minimum_is_called_one(kind):
    """A kink that is a ridge is left, and so is a kink that a slope along it leads away from."""

    def nll(params, data):
        a, b = params["a"], params["b"]
        smooth = 0.5 * ((a - 0.3) ** 2 + (b - data) ** 2)
        return {
            "minimum": smooth + 2 * jnp.abs(a),
            "ridge": smooth - 2 * jnp.abs(a),
            "oblique": smooth + jnp.abs(a) + 0.5 * (a - b) ** 2,
        }[kind]

    result = mx.fit(mx.Likelihood(nll, kinks={"a": 0.0}), {"a": 0.0, "b": 0.0}, jnp.array(1.2))
    assert bool(result.valid)
    expected = {"minimum": [0.0, 1.2], "ridge": [2.3, 1.2], "oblique": [0.0, 0.6]}[kind]
    np.testing.assert_allclose(result.values, expected, atol=1e-9)


def test_a_way_down_between_the_axes_is_seen():
    """Along each axis the origin is a minimum, and along a = b it is not: other kinks, |a| = |b|, go through it."""

    def nll(params, data):
        a, b = params["a"], params["b"]
        return jnp.abs(a) + jnp.abs(b) - 3 * jnp.minimum(jnp.abs(a), jnp.abs(b)) + data * (a**2 + b**2)

    result = mx.fit(mx.Likelihood(nll, kinks={"a": 0.0, "b": 0.0}), {"a": 0.0, "b": 0.0}, jnp.array(1.0))
    at_origin = np.allclose(result.values, 0.0, atol=1e-3)
    assert not (bool(result.valid) and at_origin)


def test_hesse_on_a_kink_is_that_of_the_fit():
    result = mx.fit(NLL, PARAMS, data_of(COUNTS[2]))
    assert np.any(np.asarray(result.values[1:]) == 0)
    again = mx.hesse(NLL, result.params, data_of(COUNTS[2]))
    np.testing.assert_allclose(
        again.matrix, result.covariance.matrix, rtol=1e-6
    )  # the fit's is before its last Newton step


def test_several_kinks_of_a_vector():
    """The lasso with an orthogonal design: soft thresholds."""
    y = jnp.array([2.0, -0.3, 0.6, -1.7, 0.0])

    def nll(params, data):
        b = params["b"]
        return 0.5 * jnp.sum((b - data) ** 2) + 0.8 * jnp.sum(jnp.abs(b))

    result = mx.fit(mx.Likelihood(nll, kinks={"b": [0.0]}), {"b": jnp.full(5, 0.1)}, y)
    assert bool(result.valid)
    np.testing.assert_allclose(result["b"].value, [1.2, 0.0, 0.0, -0.9, 0.0], atol=1e-10)


def test_morph_at_an_inner_anchor():
    edges = jnp.linspace(0.0, 1.0, 5)
    templates = [jnp.array(c) for c in ([40.0, 42.0, 33.0, 22.0], [50.0, 40.0, 30.0, 20.0], [41.0, 41.0, 36.0, 25.0])]
    shapes = [mx.distributions.HistogramTemplate(c, edges) for c in templates]
    counts = mx.PoissonNLL(lambda p: mx.distributions.Morph(shapes, [1.0, 2.0, 3.5], p["m"]).counts)
    result = mx.fit(
        mx.Likelihood(counts, kinks={"m": [1.0, 2.0, 3.5]}), {"m": 2.9}, jnp.array([52.0, 39.0, 29.0, 19.0])
    )
    assert bool(result.valid)
    assert float(result["m"].value) == 2.0


@pytest.mark.slow
def test_limit_and_minos_against_scipy():
    for k in (0, 2):
        counts, data = COUNTS[k], data_of(COUNTS[k])
        limit = mx.upper_limit(NLL, PARAMS, data, "mu")
        assert bool(limit.valid), (limit.status, limit.expected_status)
        result = mx.fit(NLL, PARAMS, data)
        lowest, at = reference(counts)
        zero, at_zero = reference(counts, 0.0)
        below = zero if at[0] < 0 else lowest
        nu = BACKGROUND + (at_zero[1] * (HIGH - BACKGROUND) if at_zero[1] >= 0 else at_zero[1] * (BACKGROUND - LOW))
        nu = nu * (FACTORS[1] ** at_zero[0] if at_zero[0] >= 0 else FACTORS[0] ** -at_zero[0])

        def q_asimov(mu, nu=nu, aux=at_zero):
            def fn(x):
                return numpy_nll((mu, *x), nu) - 0.5 * np.sum(x**2) + 0.5 * np.sum((x - aux) ** 2)

            best = np.inf
            for signs in itertools.product((1, -1), repeat=2):
                box = [(0, 5) if s > 0 else (-5, 0) for s in signs]
                found = scipy.optimize.minimize(fn, [0.2 * s for s in signs], bounds=box, method="L-BFGS-B",
                                                options={"ftol": 1e-15})  # fmt: skip
                best = min(best, found.fun)
            return 2 * best

        def log_cls(mu, counts=counts, lowest=lowest, below=below, q_asimov=q_asimov, best=at[0]):
            q = max(2 * (reference(counts, mu)[0] - (below if best < 0 else lowest)), 0.0)
            q_a = q_asimov(mu)
            far = np.sqrt(q) if q <= q_a else (q + q_a) / (2 * np.sqrt(q_a))
            sb = scipy.stats.norm.logsf(far)
            b = scipy.stats.norm.logsf(far - np.sqrt(q_a))
            return sb - b - np.log(0.05)

        expected = scipy.optimize.brentq(log_cls, 0.2, 4.0, xtol=1e-5)
        assert float(limit.observed) == pytest.approx(expected, rel=1e-3)
        errors = mx.minos(NLL, result, data, "mu")
        assert bool(np.all(np.asarray(errors.valid)))
        rise = lambda mu: reference(COUNTS[k], mu)[0] - lowest - 0.5  # noqa: E731, B023
        start = float(result["mu"].value)
        up = scipy.optimize.brentq(rise, start, start + 3, xtol=1e-6)
        assert start + float(errors["mu"].upper[0] if errors["mu"].upper.ndim else errors["mu"].upper) == pytest.approx(
            up, abs=1e-4
        )


@pytest.mark.slow
def test_derivatives_on_a_kink():
    """d(value), d(error) and d(NLL) by the data against differences of references and of closed forms."""

    def nll(params, data):
        a, b = params["a"], params["b"]
        return 2.0 * jnp.abs(a) + 0.5 * a**2 * data[1] + 2 * (b - 0.7 * a - data[0]) ** 2

    kinked = mx.Likelihood(nll, kinks={"a": 0.0})
    fit = lambda d: mx.fit(kinked, {"a": 0.4, "b": 0.1}, d)  # noqa: E731
    d = jnp.array([1.5, 1.3])
    by_data = jax.jacobian(lambda d: fit(d).values)(d)
    np.testing.assert_allclose(by_data, [[0.0, 0.0], [1.0, 0.0]], atol=1e-10)
    # u^2 = s + 4 u for the error 1/u: s is the second derivative of |a|'s side, d[1]
    error = lambda s: 1 / (2 + np.sqrt(4 + s))  # noqa: E731
    slope = (error(1.3 + 1e-5) - error(1.3 - 1e-5)) / 2e-5
    grad = jax.grad(lambda d: fit(d)["a"].error)(d)
    np.testing.assert_allclose(grad, [0.0, slope], atol=1e-8)


@pytest.mark.slow
def test_the_derivative_of_a_limit():
    """With a parameter on its kink, against a difference. At nominal data, where the limit itself has a kink (its
    Asimov data follow other templates on either side), it is finite."""
    limit = jax.jit(lambda scale, counts: mx.upper_limit(NLL, PARAMS, data_of(scale * counts), "mu").observed)
    derivative = jax.jit(jax.grad(limit))
    counts, step = COUNTS[2], 1e-4
    two = [float(limit(1.0 + s * step, counts)) for s in (-1, 1)]
    assert float(derivative(1.0, counts)) == pytest.approx((two[1] - two[0]) / (2 * step), rel=1e-4)
    assert np.isfinite(float(derivative(1.0, BACKGROUND)))


@pytest.mark.slow
def test_toys_end_on_kinks():
    """Of 200 toys about a third has a minimum on a kink. The NLL is the lowest one of SciPy, or of another minimum."""
    drawn = mx.sample(NLL, PARAMS, jax.random.key(1), 200)
    toys = mx.fit_toys(NLL, PARAMS, drawn)
    assert np.all(np.asarray(toys.valid)), np.bincount(np.asarray(toys.status))
    assert np.mean(np.any(np.asarray(toys.values[:, 1:]) == 0, axis=1)) > 0.1


def test_likelihoods_say_where_their_kinks_are():
    assert NLL.kinks == {"norm": 0.0, "shape": 0.0}
    smooth, _, _ = mx.io.from_pyhf(workspace())
    assert smooth.kinks is None
    joint = mx.Joint({"a": mx.Likelihood(lambda p, d: p["x"] ** 2, kinks={"x": 0.0}), "b": NLL})
    assert sorted(joint.kinks) == ["norm", "shape", "x"]


def test_kinks_of_an_unknown_parameter_are_refused():
    with pytest.raises(ValueError, match="there is no parameter 'alpa'; did you mean 'alpha'"):
        mx.fit(mx.Likelihood(lambda p, d: p["alpha"] ** 2, kinks={"alpa": 0.0}), {"alpha": 1.0})
    with pytest.raises(TypeError, match="by the names of parameters"):
        mx.Likelihood(lambda p, d: p["alpha"] ** 2, kinks=[0.0])


@pytest.mark.slow
def test_a_minimum_on_kinks_where_only_the_curvature_jumps():
    """Of Asimov data: all slopes are 0 there, on either side, and the second derivatives are not the same. Rounding
    puts each parameter on one side or the other, and this is no reason to call the minimum singular."""
    rng = np.random.default_rng(3)
    up, down = (jnp.asarray(1 + 0.03 * rng.normal(size=(8, 6))) for _ in range(2))
    nominal = jnp.full(6, 30.0)

    def nll(params, data):
        alpha = params["alpha"][:, None]
        factor = jnp.prod(jnp.where(alpha >= 0, up ** jnp.abs(alpha), down ** jnp.abs(alpha)), axis=0)
        nu = 2 * params["mu"] + nominal * factor
        return jnp.sum(nu - data * jnp.log(nu)) + 0.5 * jnp.sum(params["alpha"] ** 2)

    kinked = mx.Likelihood(nll, kinks={"alpha": 0.0})

    @jax.jit
    @jax.vmap
    def many(mu, alpha):
        return mx.fit(kinked, {"mu": mx.Parameter(mu, lower=0.0, upper=50.0), "alpha": mx.Parameter(alpha)}, nominal)

    starts = jnp.asarray(np.concatenate([np.zeros((5, 8)), rng.normal(size=(15, 8))]))
    found = many(jnp.asarray(rng.uniform(0.1, 3, 20)), starts)
    assert np.all(np.asarray(found.valid)), np.bincount(np.asarray(found.status))
    assert np.all(np.asarray(found.values[:, :8]) == 0)
    np.testing.assert_allclose(found.values[:, 8], 0.0, atol=1e-12)
