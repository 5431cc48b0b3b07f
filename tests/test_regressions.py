"""What users stumbled over: one test a find."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx

X = jnp.linspace(0.0, 1.0, 15)
Y = 2.0 * X + 1.0 + 0.2 * jnp.asarray(np.random.default_rng(2).normal(size=15))


@pytest.mark.parametrize("fixed", ["no", 0.5, None, [0, 1]])
def test_fixed_is_bool(fixed):
    with pytest.raises(TypeError, match="fixed must be True or False"):
        mx.Parameter(jnp.zeros(2), fixed=fixed)


@pytest.mark.parametrize("scale", [1e8, 1e12])
def test_correlated_parameters_of_very_different_size(scale):
    """A diagonal entry of the Hessian was taken for zero beside its row, which has other units."""

    def nll(p, y):
        return 0.5 * jnp.sum(((y - p["a"] * scale * X - p["b"] / scale) / 0.2) ** 2)

    result = mx.fit(nll, {"a": 0.0, "b": 0.0}, Y)
    assert bool(result.valid), result.message
    slope, offset = np.polyfit(X, Y, 1)
    np.testing.assert_allclose(result.values * jnp.array([scale, 1 / scale]), [slope, offset], rtol=1e-8)
    assert bool(mx.hesse(nll, result.params, Y).valid)
    assert abs(float(result.covariance.correlation[0, 1]) + 0.85) < 0.1


@pytest.mark.parametrize("lower", [None, 0.0])
def test_a_cross_section_of_1e_minus_38(lower):
    """MINUIT's transform of a lower bound has the unit 1, in which such a start lies on the bound."""
    template, background = 1e40 * jnp.exp(-0.5 * ((X - 0.5) / 0.1) ** 2), 40.0

    def expected(p):
        return p["xsec"] * template + p["b"] * background

    counts = jnp.round(1.1e-38 * template + background)
    start = {"xsec": mx.Parameter(2e-38, lower), "b": mx.Parameter(1.0, lower)}
    result = mx.fit(mx.PoissonNLL(expected), start, counts)
    assert bool(result.valid), result.message
    np.testing.assert_allclose(result["xsec"].value, 1.1e-38, rtol=0.05)
    unscaled = mx.fit(
        mx.PoissonNLL(lambda p: expected({"xsec": 1e-38 * p["xsec"], "b": p["b"]})),
        {"xsec": mx.Parameter(2.0, lower), "b": mx.Parameter(1.0, lower)},
        counts,
    )
    np.testing.assert_allclose(1e38 * result["xsec"].error, unscaled["xsec"].error, rtol=1e-6)


KINKS = {
    "|a|": lambda p, _: jnp.abs(p["a"]),
    "100 |a - 0.3|": lambda p, _: 100 * jnp.abs(p["a"] - 0.3),
    "a^2 + |a|": lambda p, _: p["a"] ** 2 + jnp.abs(p["a"]),
}


@pytest.mark.grid
@pytest.mark.parametrize("solver", [mx.Migrad(), mx.Simplex()], ids=["Migrad", "Simplex"])
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_called_one(name, solver):
    """Where nobody looks for it; a direct call does, and finds it."""
    result = jax.jit(lambda a: mx.fit(KINKS[name], {"a": a}, solver=solver))(1.0)
    assert int(result.status) == mx.Status.NOT_CONVERGED, result.message
    assert "kink" in result.message
    at = 0.3 if "0.3" in name else 0.0
    with pytest.warns(UserWarning, match=f"kinks={{'a': {at:g}}}"):
        result = mx.fit(KINKS[name], {"a": 1.0}, solver=solver)
    assert bool(result.valid)
    assert float(result["a"].value) == at


@pytest.mark.parametrize("nll", [lambda p, _: -p["a"], lambda p, _: -(p["a"] ** 2)], ids=["-a", "-a^2"])
def test_falling_for_ever_asks_for_the_sign(nll):
    result = mx.fit(nll, {"a": 1.0})
    assert int(result.status) == mx.Status.FALLS_WITHOUT_LIMIT
    assert "minus log L, with that sign" in result.message


def test_an_invalid_fit_does_not_boast_of_its_covariance():
    def nll(p, y):
        return jnp.sum((y - p["a"] * jnp.exp(p["b"] * X)) ** 2) / 0.08

    result = mx.fit(nll, {"a": 5.0, "b": 3.0}, Y, max_steps=1)
    assert not bool(result.valid)
    assert "Covariance accurate" not in str(result)


def test_a_solver_without_gradients_counts_values():
    stats = mx.fit(lambda p, _: (p["a"] - 1) ** 2, {"a": 0.0}, solver=optx.NelderMead(1e-6, 1e-6)).stats
    assert int(stats["num_values"]) == int(stats["num_steps"]) > 0
    assert int(stats["num_gradients"]) == 0


def test_the_class_in_place_of_the_likelihood():
    with pytest.raises(TypeError, match=r"is the class LeastSquares: make one of it"):
        mx.fit(mx.LeastSquares, {"a": 1.0}, mx.Points(X, Y, 0.2))


def test_params_and_data_swapped():
    with pytest.raises(TypeError, match=r"the order is \(nll, params, data\)"):
        mx.fit(mx.PoissonNLL(lambda p: p["a"] * X), jnp.arange(15), {"a": mx.Parameter(1.0)})


@pytest.mark.slow
def test_zero_counts_with_a_bound_at_zero():
    """n log(mu) has no derivative at mu = 0 for n = 0; a hair beside the bound it has."""

    def nll(p, n):
        return p["mu"] - n * jnp.log(p["mu"])

    result = mx.fit(nll, {"mu": mx.Parameter(0.5, lower=0.0)}, 0.0)
    assert bool(result.valid), result.message
    assert bool(result.at_limit[0])
    assert 0 <= float(result.values[0]) < 1e-10
    lanes = jax.vmap(lambda n: mx.fit(nll, {"mu": mx.Parameter(0.5, lower=0.0)}, n))(jnp.array([0.0, 3.0]))
    assert np.all(lanes.valid)
    np.testing.assert_allclose(lanes.values[:, 0], [0.0, 3.0], atol=1e-10)


def weighted_counts():
    rng = np.random.default_rng(3)
    value = rng.uniform(50.0, 90.0, 6)
    return mx.Counts(value, value * np.array([18.0, 3.0, 9.0, 4.0, 2.0, 6.0]))


@pytest.mark.parametrize("kind", [mx.PoissonNLL, mx.BinnedNLL])
def test_asimov_data_of_weighted_counts_have_weights(kind):
    """A newcomer: errors of Asimov data were those of counts without weights, four times too small."""
    x = jnp.arange(6.0)
    nll = kind(lambda p: p["n"] * jnp.exp(-p["t"] * x) if kind is mx.PoissonNLL else jnp.exp(-p["t"] * x))
    params = {"t": mx.Parameter(0.05)} | ({"n": mx.Parameter(70.0)} if kind is mx.PoissonNLL else {})
    data = weighted_counts()
    result = mx.fit(nll, params, data)
    asimov = mx.asimov(nll, result.params, data=data)
    again = mx.fit(nll, result.params, asimov)
    np.testing.assert_allclose(again.values, result.values, rtol=1e-6)
    np.testing.assert_allclose(again.errors, result.errors, rtol=0.05)  # the contents fluctuate by a fifth


def test_toys_of_templates_are_no_goodness_of_fit():
    """A newcomer: they keep the templates, and their deviances are too small."""
    nll = mx.TemplateNLL({"a": jnp.array([5.0, 20.0, 8.0, 3.0]), "b": jnp.array([9.0, 9.0, 9.0, 9.0])})
    params = {"a": mx.Parameter(40.0, lower=0.0), "b": mx.Parameter(40.0, lower=0.0)}
    counts = jnp.array([12.0, 31.0, 17.0, 13.0])
    result = mx.fit(nll, params, counts)
    assert 0 < float(mx.goodness_of_fit(nll, result, counts).p_value) < 1
    with pytest.raises(TypeError, match="do not vary the templates"):
        mx.goodness_of_fit(nll, result, counts, toys=10, key=jax.random.key(0))
    joint = mx.Joint({"x": nll, "c": mx.NormalConstraint("a", 5.0)})
    data = {"x": counts, "c": 40.0}
    with pytest.raises(TypeError, match="do not vary the templates"):
        mx.goodness_of_fit(joint, mx.fit(joint, params, data), data, toys=10, key=jax.random.key(0))


def test_totals_of_many_toys():
    """A newcomer: `total` of what `mx.sample(..., n)` returns was an error of shapes."""
    mask = jnp.array([[True, True, False], [True, False, False]])
    toys = mx.Events(jnp.zeros(3), mask=mask[0])
    many = jax.vmap(lambda m: mx.Events(jnp.zeros(3), mask=m))(mask)
    assert float(toys.total) == 2
    np.testing.assert_array_equal(many.total, [2.0, 1.0])
    assert many.size == 3


STRANGERS = {
    "masked array": (
        lambda: mx.fit(mx.PoissonNLL(lambda p: p["a"] * jnp.ones(2)), {"a": 1.0}, np.ma.array([1.0, 2.0])),
        "masked array of NumPy",
    ),
    "masked events": (lambda: mx.Events(np.ma.array([1.0, 2.0], mask=[True, False])), "masked array of NumPy"),
    "counts with edges": (lambda: mx.Counts(np.histogram(np.zeros(3))), "leave out the edges"),
    "fitted to counts with edges": (
        lambda: mx.fit(mx.PoissonNLL(lambda p: p["a"] * jnp.ones(2)), {"a": 1.0}, (jnp.ones(2), jnp.arange(3.0))),
        "leave out the edges",
    ),
    "events on disk": (lambda: mx.Events(mx.OnDisk(np.zeros(3))), r"mx\.OnDisk\(\(x, weight\)\)"),
    "weighted events for the disk": (
        lambda: mx.OnDisk(mx.Events(jnp.zeros(3))),
        r"a tuple of arrays such as \(x, weight\)",
    ),
    "a result": (
        lambda: mx.PoissonNLL(lambda p: p["a"]).prediction(mx.fit(lambda p, d: (p["a"] - 1) ** 2, {"a": 0.0})),
        r"give it result\.params",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_what_newcomers_gave(case):
    call, message = STRANGERS[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_a_parameter_constrained_twice_by_one_term():
    nll = mx.NormalConstraint(["lumi", "lumi"], 0.05)
    with pytest.raises(ValueError, match="'lumi' is picked twice"):
        mx.fit(nll, {"lumi": 1.0}, jnp.ones(2))


def test_a_list_of_global_observables():
    nll = mx.Joint({"c": mx.NormalConstraint(["a", "b"], [0.05, 0.1])})
    result = mx.fit(nll, {"a": 1.0, "b": 1.0}, {"c": [1.1, 0.9]})
    np.testing.assert_allclose(result.values, [1.1, 0.9])


@pytest.mark.slow
def test_an_event_with_two_observables_is_named_by_its_row():
    box = mx.distributions.Product([mx.distributions.Uniform(0.0, 10.0), mx.distributions.Exponential(1.0)])
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Mixture([box, box], fractions=[p["f"]]))
    x = np.array([[5.0, 1.0], [5.0, -9.0]])
    result = mx.fit(nll, {"f": mx.Parameter(0.5, lower=0.0, upper=1.0)}, x)
    assert "The density is 0 at data[1]." in result.message


@pytest.mark.slow
@pytest.mark.parametrize("upper", [None, 5.0])
def test_minimum_on_a_bound_that_nothing_pushes_to(upper):
    """The unbounded minimum is on the bound to rounding: the bound was held and let go in turn ("flat direction")."""
    template = np.array([3.0, 8.0, 5.0, 2.0])
    nll = mx.PoissonNLL(lambda p: p["mu"] * template + p["b"])
    params = {"mu": mx.Parameter(1.0, lower=0.0, upper=upper), "b": mx.Parameter(20.0, lower=0.0)}
    counts = [[19, 22, 23, 24], [27, 26, 29, 26], [23, 32, 15, 34], [18, 21, 27, 24], [21, 21, 21, 21]]
    counts = jnp.asarray(counts, float)
    found = jax.vmap(lambda n: mx.fit(nll, params, n))(counts)
    assert np.all(found.valid)
    np.testing.assert_allclose(found.values[:, 0], counts.mean(axis=1), rtol=1e-8)
    np.testing.assert_allclose(found.values[:, 1], 0.0, atol=1e-7)
