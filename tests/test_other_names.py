"""What users of iminuit, SciPy and zfit write out of habit: the error says what it is here."""

import copy
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._hints import other_packages

P = mx.Parameter
X = np.random.default_rng(3).normal(1.0, 2.0, 100)
COUNTS, EDGES = np.histogram(X, 5)
PARAMS = {"mu": P(0.0), "sigma": P(1.0, lower=0.0)}
NLL = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x))


def line(x, a):
    return a * x


@pytest.fixture(scope="module")
def result():
    return mx.fit(NLL, PARAMS, X)


CALLS = {
    "limits": (lambda: P(1.0, limits=(0, 2)), r"mx.Parameter has no argument 'limits': write .*lower=0.0, upper=1.0"),
    "min": (lambda: P(1.0, min=0), "'min': it is lower"),
    "near": (lambda: P(1.0, uper=2.0), r"'uper'\. Did you mean 'upper'\?"),
    "name": (lambda: P("mu", 1.0, 0.0, 2.0), r"begins with its value, got 'mu': .*\{'mu': mx.Parameter\(1.0\)\}"),
    "bounds": (lambda: mx.fit(NLL, PARAMS, X, bounds=[(0, 1)]), "mx.fit has no argument 'bounds': it belongs to each"),
    "errordef": (lambda: mx.fit(NLL, PARAMS, X, errordef=1), "'errordef': it is up"),
    "starts": (lambda: mx.fit(NLL, mu=0.0, sigma=1.0), r"no argument 'mu'\. The starts are one tree"),
    "fit near": (lambda: mx.fit(NLL, PARAMS, X, max_step=3), r"Did you mean 'max_steps'\?"),
    "points": (lambda: mx.LeastSquares(EDGES, COUNTS, 0.1, line), r"Write mx.fit\(mx.LeastSquares\(model\)"),
    "points last": (lambda: mx.LeastSquares(lambda p, x: x, EDGES, COUNTS, 0.1), "LeastSquares takes no data"),
    "events": (lambda: mx.UnbinnedNLL(X, lambda x, mu: x), "mx.UnbinnedNLL takes no data: the fit does"),
    "counts": (lambda: mx.BinnedNLL(COUNTS, EDGES, lambda x, mu: x), "mx.BinnedNLL takes no data"),
    "a list": (lambda: mx.PoissonNLL([1, 2], EDGES, line), r"mx.fit\(mx.PoissonNLL\(expected\), params, n\)"),
    "one too many": (lambda: mx.fit(NLL, PARAMS, X, quiet=True), r"mx.fit has no argument 'quiet'$"),
    "constraint by name": (
        lambda: mx.NormalConstraint("mu", value=1.0, error=0.1),
        "mx.NormalConstraint takes no data",
    ),
    "a tuple": (lambda: mx.UnbinnedNLL((1.0, 2.0), lambda x, mu: x), "mx.UnbinnedNLL takes no data"),
    "constraint": (lambda: mx.NormalConstraint("mu", 1.0, 0.1), r"mx.fit\(mx.NormalConstraint\('x', error\)"),
    "template": (lambda: mx.TemplateNLL(COUNTS, EDGES, [COUNTS, COUNTS]), r"mx.fit\(mx.TemplateNLL\("),
}


@pytest.mark.parametrize("case", CALLS)
def test_calls(case):
    call, message = CALLS[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_what_is_right_goes_through():
    assert P(value=1.0, lower=0.0, upper=2.0, fixed=True).fixed
    assert bool(mx.fit(nll=NLL, params=PARAMS, data=X, hesse=False).valid)
    assert mx.LeastSquares(lambda p, x: p["a"] * x).model is not None
    assert mx.NormalConstraint(["mu", "sigma"], jnp.array([0.1, 0.2])).width.shape == (2,)  # arrays, but no data


@pytest.mark.parametrize(
    ("name", "message"),
    [("ExtendedBinnedNLL", "it is mx.PoissonNLL here"), ("migrad", "mx.fit"), ("MINOS", "Did you mean 'minos'")],
)
def test_names_of_the_module(name, message):
    with pytest.raises(AttributeError, match=rf"module 'migrax' has no attribute '{name}'.*{message}"):
        getattr(mx, name)
    assert not hasattr(mx, name)


def test_a_name_that_nothing_is_near_to():
    with pytest.raises(AttributeError, match=r"module 'migrax.plot' has no attribute 'qwertz'$"):
        _ = mx.plot.qwertz


@pytest.mark.parametrize("name", [*other_packages._RESULT, *other_packages._FUNCTIONS])
def test_names_of_a_result(result, name):
    assert not hasattr(result, name)
    with pytest.raises(AttributeError, match=rf"a FitResult has no '{name}': (here it is|it knows nothing)"):
        getattr(result, name)


def test_what_the_messages_name_is_there(result):
    """The attributes and the calls that the messages tell to write, written."""
    result = mx.minos(NLL, result, X).result
    for said in other_packages._RESULT.values():
        for part in said.split(" of ")[0].replace(" and ", ", ").replace(" or ", ", ").split(", "):
            code = part if part.startswith("result") else "result." + part.lstrip(".")
            eval(code, {"result": result})
    for code in other_packages._FUNCTIONS.values():
        if not code.startswith("mx.plot"):
            eval(code, {"mx": mx, "result": result, "nll": NLL, "data": X})
    for ours in other_packages.LIKELIHOODS.values():
        assert hasattr(mx, ours)


@pytest.mark.parametrize("code", [code for code in other_packages._FUNCTIONS.values() if code.startswith("mx.plot")])
def test_the_pictures_that_the_messages_name_are_there(result, code):
    plt = pytest.importorskip("matplotlib.pyplot")
    eval(code, {"mx": mx, "result": result, "nll": NLL, "data": X})
    plt.close("all")


def test_a_result_can_still_be_asked_what_jax_asks(result):
    assert not hasattr(result, "__jax_array__")
    assert len(jax.tree.leaves(result)) > 5
    with pytest.raises(AttributeError, match="Did you mean 'values'"):
        _ = result.valuse


def test_a_hint_is_given_once(result):
    """Python would add a second one to an uncaught error that knows its object."""
    for ask in (lambda: result.valuse, lambda: mx.MINOS):
        with pytest.raises(AttributeError) as raised:
            ask()
        assert "".join(traceback.format_exception_only(raised.value)).count("Did you mean") == 1


def test_a_property_of_a_result_that_fails_says_why():
    with pytest.raises(AttributeError, match="_params"):
        _ = object.__new__(mx.FitResult).params


def test_classes_of_users_may_have_these_names():
    class Template(mx.Likelihood):
        def __init__(self, shape):
            super().__init__(lambda p, d: jnp.sum((d - p["n"] * shape) ** 2))

    assert bool(mx.fit(Template(jnp.ones(3)), {"n": 1.0}, jnp.array([2.0, 2.5, 3.0])).valid)


def test_copies_of_views():
    m = mx.Minuit(NLL, PARAMS, X)
    for made in (copy.copy(m.values), copy.deepcopy({"v": m.values})["v"]):
        assert made["mu"] == m.values["mu"]


@pytest.mark.parametrize(
    ("nll", "params", "data", "error"),
    [
        (lambda p, d: jnp.sum(d[0][0] - p["mu"]) + "a", {"mu": 0.0}, ([X, X], X), "unsupported operand"),
        (lambda p, d: jnp.summ(d), {"mu": 0.0}, None, "summ"),
        (lambda p, d: None, {"mu": 0.0}, None, r"is its `return` missing"),
        (lambda x, d: x.foo, 1.0, X, "foo"),
        (lambda p, d: p + d["x"], 1.0, {}, "'x'"),
        (mx.PoissonNLL(lambda p: p["data"] * jnp.ones(3)), {"data": 1.0}, jnp.ones(4), "shape"),
        (lambda p, d: jnp.ones(3) + jnp.ones(4) + p["d"], {"d": 1.0}, X, "shapes"),
        (lambda p, d: p.means + d, {"mu": 1.0}, (), "means"),
    ],
)
def test_no_note_where_nothing_is_known(nll, params, data, error):
    with pytest.raises((TypeError, AttributeError, ValueError, KeyError), match=error) as raised:
        mx.fit(nll, params, data)
    notes = "\n".join(getattr(raised.value, "__notes__", ()))
    assert "migrax: " not in notes or "raised inside the likelihood" in notes


def test_a_hint_that_fails_is_none():
    class Odd:
        __name__ = None

        def __call__(self, mu, x):
            return mu + "a"

    with pytest.raises(TypeError, match=r"unsupported operand|concatenate"):
        mx.fit(Odd(), {"mu": 0.0}, X)


def test_a_plain_number_beside_a_parameter_is_shown_as_a_constant():
    found = mx.fit(NLL, {"mu": 0.5, "sigma": P(1.0, lower=0.0), "n": 3, "a": jnp.ones(4)}, X)
    assert "Constant, as they are no mx.Parameter: mu = 0.5\n" in str(found) + "\n"
    assert "<p>Constant, as they are no mx.Parameter: mu = 0.5</p>" in found._repr_html_()
    assert "Constant" not in str(mx.fit(NLL, PARAMS, X)) + str(mx.fit(NLL, {"mu": 0.5, "sigma": 1.0}, X))
    many = {f"c{i:02}": 1.0 for i in range(11)}
    assert "c07 = 1, 3 more" in str(mx.fit(NLL, {**PARAMS, **many}, X))


def test_minuit():
    m = mx.Minuit(NLL, {"mu": 0.5, "sigma": P(1.0, lower=0.0)}, X)
    assert "Constant, as they are no mx.Parameter: mu = 0.5" in str(m)
    with pytest.raises(ValueError, match=r"'mu' is a constant: beside an mx.Parameter only mx.Parameters float"):
        _ = m.values["mu"]
    with pytest.raises(AttributeError, match=r"a ValueView has no attribute 'sigma': write m.values\['sigma'\]"):
        _ = m.values.sigma
    with pytest.raises(AttributeError, match=r"mx.Minuit has no up: it is called errordef"):
        _ = m.up
    m.migrad(ncall=1)
    assert not m.valid
    assert "a larger ncall" in str(m)
    assert "max_steps" not in str(m)


NOTES = {
    "arguments": (lambda mu, sigma: mu**2, PARAMS, None, r"mu is the whole tree of parameters: write lambda p, data"),
    "swapped": (mx.UnbinnedNLL(lambda x, p: x - p["mu"]), {"mu": 0.0}, X, "take the parameters first"),
    "tuple of data": (lambda p, d: jnp.sum((d - p["mu"]) ** 2), {"mu": 0.0}, (1.0, 2.0), "data is a tuple of separate"),
    "list of starts": (lambda p, d: jnp.sum((p - 1) ** 2), [0.0, 1.0], None, "params is a list of separate numbers"),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes(case):
    nll, params, data, message = NOTES[case]
    with pytest.raises((TypeError, ValueError, AttributeError)) as raised:
        mx.fit(nll, params, data)
    assert message in "\n".join(raised.value.__notes__)


def test_a_density_in_place_of_its_logarithm():
    nll = mx.UnbinnedNLL(lambda p, x: jnp.exp(mx.distributions.Normal(p["mu"], 1.0).log_prob(x)))
    with pytest.warns(UserWarning, match=r"Is this the density\? Its logarithm is to be returned. Values and errors"):
        mx.fit(nll, {"mu": 1.0}, X)


def test_a_logarithm_that_is_positive_everywhere_is_no_density():
    x = jnp.linspace(0.0, 0.08, 200)
    with pytest.warns(UserWarning, match="the density is not normalised") as caught:
        mx.fit(mx.UnbinnedNLL(lambda p, x: 3 - x / p["tau"]), {"tau": P(0.05, lower=0.04, upper=0.1)}, x)
    assert "Is this the density" not in str(caught[0].message)


def test_the_data_where_a_parameter_is_picked(result):
    with pytest.raises(TypeError, match=r"got an array of shape \(100,\): do data stand here"):
        mx.profile(NLL, result, "mu", X)
    with pytest.raises(TypeError, match=r"got array\(\['mu'\]"):
        mx.fix(PARAMS, np.array(["mu"]), 1.0)


def test_a_message_is_no_thing_for_jit(result):
    with pytest.raises(TypeError, match=r"message is text, which cannot be computed inside jit"):
        jax.jit(lambda x: mx.fit(NLL, PARAMS, x).message)(X)


def test_starts_in_float32_for_data_in_float64():
    early = jax.tree.map(lambda x: x.astype(jnp.float32), PARAMS)
    with pytest.warns(UserWarning, match=r"the start of 'mu' is float32.*its data are float64") as caught:
        found = mx.fit(NLL, early, X)
    assert caught[0].filename == __file__
    assert found.values.dtype == jnp.float32
    with pytest.warns(UserWarning, match="the start of 'mu' is float32"):
        mx.fit(NLL, {**early, "constant": 0.5}, X)
    joint = NLL + mx.NormalConstraint("mu", np.float32(1.0))
    for nll, data in ((NLL, X.astype(np.float32)), (joint, (X.astype(np.float32), 0.0))):
        assert bool(mx.fit(nll, early, data).valid)  # as it was wanted: no warning


@pytest.mark.parametrize("upper", [None, 10.0])
def test_a_start_on_a_bound_where_the_likelihood_is_not_finite(result, upper):
    """A width of 0: iminuit ends there with NaN; here the start is moved off the bound."""
    found = mx.fit(NLL, {"mu": P(0.0), "sigma": P(0.0, lower=0.0, upper=upper)}, X)
    assert bool(found.valid), found.message
    np.testing.assert_allclose(found.values, result.values, rtol=1e-8)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e6), (np.float64, 1e38)])
def test_a_minimum_between_a_bound_and_where_it_was_moved(dtype, scale):
    """The bound is moved by a hair, where the likelihood is finite: a minimum nearer to it is not reached."""
    nll = mx.PoissonNLL(lambda p: p["xs"] * dtype(scale) * jnp.array([1.0, 2.0, 3.0], dtype))
    found = mx.fit(nll, {"xs": P(dtype(0.0), lower=dtype(0.0))}, jnp.array([2.0, 3.0, 7.0], dtype))
    assert not bool(found.valid) or abs(float(found.values[0]) * scale - 2.0) < 1e-3
    assert bool(mx.fit(nll, {"xs": P(dtype(1.0 / scale), lower=dtype(0.0))}, jnp.array([2.0, 3.0, 7.0], dtype)).valid)


def test_a_start_where_nothing_is_finite_stays_where_it_is():
    found = mx.fit(NLL, {"mu": P(0.0), "sigma": P(0.0, lower=0.0)}, np.append(X, np.nan))
    assert int(found.status) == int(mx.Status.NOT_FINITE_AT_START)
    np.testing.assert_array_equal(found.values, 0.0)


def test_a_start_on_a_bound_with_nothing_beside_it():
    found = mx.fit(lambda p, _: jnp.where(p["a"] > 5.0, p["a"], jnp.nan), {"a": P(0.0, lower=0.0)})
    assert int(found.status) == int(mx.Status.NOT_FINITE_AT_START)
