"""Input that makes no sense is refused at once, with the name, what was given and what was expected."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx

P = mx.Parameter
SHARED = P(1.0)


def nll(p, d):
    return 0.5 * jnp.sum((p["a"] - d) ** 2)


DATA = jnp.array([1.0, 2.0])
CASES = {
    # what is wrong: (call, exception, words of the message)
    "array NLL": (lambda: mx.fit(lambda p, d: (p["a"] - d) ** 2, {"a": 1.0}, DATA), ValueError, r"shape \(2,\); sum"),
    "complex NLL": (lambda: mx.fit(lambda p, d: p["a"] * 1j, {"a": 1.0}, DATA), TypeError, "complex"),
    "NLL is None": (lambda: mx.fit(lambda p, d: None, {"a": 1.0}, DATA), TypeError, "one real number, got NoneType"),
    "NLL not callable": (lambda: mx.fit(3.0, {"a": 1.0}, DATA), TypeError, "callable"),  # pyright: ignore
    "empty tree": (lambda: mx.fit(nll, {}, DATA), ValueError, "empty"),
    "nothing free": (lambda: mx.fit(nll, {"a": P(1.0, fixed=True)}, DATA), ValueError, "no free parameter: 'a'"),
    "only integers": (lambda: mx.fit(nll, {"a": 1}, DATA), ValueError, "integers do not float. Write 1.0"),
    "an integer among floats": (
        lambda: mx.fit(nll, {"a": 1.0, "b": 2}, DATA),
        TypeError,
        r"'b' is the integer 2.*2\.0",
    ),
    "a result for params": (lambda: mx.fit(nll, RESULT, DATA), TypeError, r"pass result\.params"),
    "a tuple for counts": (
        lambda: mx.fit(mx.PoissonNLL(lambda p: p["a"] * jnp.ones(3)), {"a": 1.0}, (jnp.ones(3), jnp.ones(4))),
        TypeError,
        "array of counts as data, got tuple",
    ),
    "only strings": (lambda: mx.fit(nll, {"a": "one"}, DATA), ValueError, "no free parameter"),
    "boolean Parameter": (lambda: P(True), TypeError, "bool"),
    "complex Parameter": (lambda: P(1j), TypeError, "complex"),
    "complex parameter": (lambda: mx.fit(nll, {"a": jnp.array(1j)}, DATA), TypeError, "'a'.*complex"),
    "lower above upper": (lambda: P(1.0, 2.0, 0.0), ValueError, r"2\. and 0\."),
    "lower is upper": (lambda: P(1.0, 1.0, 1.0), ValueError, "below the upper"),
    "lower above upper in one entry": (lambda: P(jnp.ones(2), jnp.array([0.0, 3.0]), 2.0), ValueError, "below"),
    "NaN bound": (lambda: P(1.0, lower=float("nan")), ValueError, "lower bound is NaN"),
    "bound of another shape": (lambda: P(1.0, lower=jnp.zeros(3)), ValueError, r"\(3,\).*\(\)"),
    "outside": (lambda: mx.fit(nll, {"a": P(3.0, 0.0, 1.0)}, DATA), ValueError, r"'a'.*3\.0 is not in \[0\.0, 1\.0\]"),
    "outside in one entry": (
        lambda: mx.fit(nll, {"a": P(jnp.array([0.5, -1.0]), lower=0.0)}, DATA),
        ValueError,
        r"'a\[1\]'.*-1\.0 is not in \[0\.0, inf\]",
    ),
    "NaN start": (lambda: mx.fit(nll, {"a": P(float("nan"))}, DATA), ValueError, "start of 'a' is nan"),
    "infinite start entry": (
        lambda: mx.fit(nll, {"a": jnp.array([1.0, jnp.inf])}, DATA),
        ValueError,
        r"start of 'a\[1\]' is inf",
    ),
    "NaN in a fixed parameter": (
        lambda: mx.fit(nll, {"a": 1.0, "b": P(float("nan"), fixed=True)}, DATA),
        ValueError,
        "'b' is nan",
    ),
    "shared Parameter": (lambda: mx.fit(nll, {"a": SHARED, "b": SHARED}, DATA), ValueError, "at 'a' and 'b'"),
    "one name twice": (lambda: mx.fit(nll, {"a.b": 1.0, "a": {"b": 1.0}}, DATA), ValueError, "the name 'a.b'"),
    "up = 0": (lambda: mx.fit(nll, {"a": 1.0}, DATA, up=0.0), ValueError, "up must be positive"),
    "up < 0": (lambda: mx.fit(nll, {"a": 1.0}, DATA, up=-1.0), ValueError, "up must be positive"),
    "up is NaN": (lambda: mx.hesse(nll, {"a": 1.0}, DATA, up=float("nan")), ValueError, "up must be positive"),
    "up is a word": (lambda: mx.fit(nll, {"a": 1.0}, DATA, up="chi2"), TypeError, "up must be a number"),
    "up is an array": (lambda: mx.fit(nll, {"a": 1.0}, DATA, up=jnp.ones(2)), TypeError, "up must be a number"),
    "counts of another shape": (
        lambda: mx.fit(mx.PoissonNLL(lambda p: p["a"] * jnp.ones(3)), {"a": 1.0}, jnp.ones(4)),
        ValueError,
        r"shape \(3,\), the data \(4,\)",
    ),
    "data that do not broadcast": (
        lambda: mx.fit(lambda p, d: jnp.sum((p["a"] * jnp.ones(3) - d) ** 2), {"a": 1.0}, jnp.ones(4)),
        TypeError,
        r"\(3,\).*\(4,\)",
    ),
    "curve of another shape": (
        lambda: mx.fit(mx.LeastSquares(lambda p, x: p["a"]), {"a": 1.0}, mx.Points(jnp.ones(3), jnp.ones(3), 1.0)),
        ValueError,
        r"shape \(\), y has \(3,\)",
    ),
    "points of another shape": (lambda: mx.Points(jnp.ones(3), jnp.ones(4), 1.0), ValueError, r"\(3,\) and \(4,\)"),
    "error of another shape": (lambda: mx.Points(jnp.ones(3), jnp.ones(3), jnp.ones(2)), ValueError, "yerr"),
    "zero error": (
        lambda: mx.Points(jnp.ones(3), jnp.ones(3), jnp.array([1.0, 0.0, 1.0])),
        ValueError,
        r"yerr\[1\] is 0\.0",
    ),
    "no points": (lambda: mx.fit(mx.LeastSquares(lambda p, x: x), {"a": 1.0}, DATA), TypeError, "mx.Points"),
    "both expectations": (lambda: mx.PoissonNLL(lambda p: p, lambda p: p), TypeError, "takes one of"),
    "no expectation": (lambda: mx.PoissonNLL(), TypeError, "takes one of expected"),
    "solver is a class": (lambda: mx.fit(nll, {"a": 1.0}, DATA, solver=mx.Newton), TypeError, r"write Newton\("),
    "solver is a word": (lambda: mx.fit(nll, {"a": 1.0}, DATA, solver="migrad"), TypeError, "AbstractMinimiser"),
    "solver is a root finder": (
        lambda: mx.fit(nll, {"a": 1.0}, DATA, solver=optx.Newton(1e-6, 1e-6)),
        TypeError,
        "AbstractMinimiser",
    ),
    "covariance of another shape": (
        lambda: mx.fit(nll, {"a": 1.0}, DATA, covariance=jnp.eye(2)),
        ValueError,
        r"\(1, 1\) for 1 free parameters, got \(2, 2\)",
    ),
    "max_steps = 0": (lambda: mx.fit(nll, {"a": 1.0}, DATA, max_steps=0), ValueError, "max_steps"),
    "max_steps = 1.5": (lambda: mx.fit(nll, {"a": 1.0}, DATA, max_steps=1.5), ValueError, "max_steps"),
    "adjoint": (lambda: mx.fit(nll, {"a": 1.0}, DATA, adjoint="implicit"), TypeError, "adjoint"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case):
    call, exception, words = CASES[case]
    with pytest.raises(exception, match=words):
        call()


RESULT = mx.fit(
    lambda p, d: 0.5 * jnp.sum((p["signal"]["mu"] - d) ** 2) + 0.5 * jnp.sum(p["gamma"] ** 2) + p["k"] * 0.0,
    {"signal": {"mu": P(1.0)}, "gamma": P(jnp.ones(3)), "k": P(2.0, fixed=True)},
    DATA,
)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("signal.mo", "'signal.mo'; did you mean 'signal.mu'"),
        ("gama", "did you mean 'gamma'"),
        ("gamma[3]", r"did you mean 'gamma\[\d\]'"),
        ("zzz", r"the parameters are: 'signal.mu'|the parameters are"),
        (["k"], "picks a fixed parameter"),
        (lambda p: p["k"], "picks a fixed parameter"),
        (lambda p: (), "picked none"),
    ],
)
def test_unknown_names(where, words):
    with pytest.raises(ValueError, match=words):
        RESULT[where]


def test_up_of_our_likelihoods():
    """They are minus log L; iminuit's LeastSquares has errordef 1."""
    points = mx.Points(jnp.arange(3.0), jnp.arange(3.0), 1.0)
    with pytest.warns(UserWarning, match=r"sqrt\(2\) too large"):
        mx.fit(mx.LeastSquares(lambda p, x: p["a"] * x), {"a": 1.0}, points, up=1.0)


def test_blocks_and_indices():
    assert RESULT.covariance["gamma", "signal.mu"].shape == (3,)
    assert RESULT.covariance["gamma", "gamma"].shape == (3, 3)
    np.testing.assert_array_equal(RESULT.covariance["gamma", "gamma"], RESULT.covariance.matrix[:3, :3])
    with pytest.raises(TypeError, match="name of a parameter"):
        RESULT[0]
    assert "Parameter(" in repr(RESULT.params["gamma"])
    assert "fixed=True" in repr(RESULT.params["k"])


def test_unknown_name_in_a_covariance():
    with pytest.raises(ValueError, match=r"did you mean 'signal\.mu'"):
        RESULT.covariance["signal.m", "gamma[0]"]
    with pytest.raises(TypeError, match="two names"):
        RESULT.covariance["signal.mu"]


def test_names_and_functions_pick_the_same():
    assert RESULT.names == ("gamma[0]", "gamma[1]", "gamma[2]", "signal.mu")
    np.testing.assert_array_equal(RESULT["gamma"].value, RESULT.values[:3])
    np.testing.assert_array_equal(RESULT[lambda p: p["gamma"]].value, RESULT.values[:3])
    np.testing.assert_array_equal(RESULT[lambda p: p["gamma"][1]].value, RESULT.values[1])
    np.testing.assert_array_equal(RESULT["gamma[1]"].error, RESULT.errors[1])
    np.testing.assert_array_equal(RESULT[lambda p: p["signal"]["mu"]].value, RESULT["signal.mu"].value)
    np.testing.assert_array_equal(RESULT["signal"].value, RESULT.values[3:])
    np.testing.assert_allclose(RESULT.covariance["signal.mu", "signal.mu"], 0.5)


def test_the_bad_entry_of_the_data_is_named():
    def two(p, d):
        return 0.5 * jnp.sum((p["a"] - d["y"]) ** 2) + 0.5 * jnp.sum((p["a"] - d["z"]) ** 2)

    data = {"y": np.ones(3), "z": np.ones((2, 2))}
    data["z"][1, 0] = np.nan
    result = mx.fit(two, {"a": 0.0}, data)
    assert not bool(result.valid)
    assert mx.Status(int(result.status)) is mx.Status.NOT_FINITE_AT_START
    assert "data['z'][1, 0] is not finite" in result.message
    assert "data['z'][1, 0] is not finite" in str(result)
    data["z"][1, 0], data["y"][2] = 1.0, np.inf
    assert "data['y'][2] is not finite" in mx.fit(two, {"a": 0.0}, data).message


def test_infinite_data_that_do_no_harm_are_no_error():
    """A histogram's outer edges may be infinite."""
    edges = jnp.array([-jnp.inf, -1.0, 0.0, 1.0, jnp.inf])

    def binned(p, d):
        mu = 100.0 * mx.distributions.Normal(p["mu"], 1.0).bin_integrals(d["edges"])
        return jnp.sum(mu - d["n"] * jnp.log(mu))

    result = mx.fit(binned, {"mu": 0.3}, {"edges": edges, "n": jnp.array([16.0, 34.0, 34.0, 16.0])})
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [0.0], atol=1e-8)


def test_message_of_a_batch_says_how():
    many = jax.vmap(lambda d: mx.fit(nll, {"a": 1.0}, d))(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="a single fit"):
        _ = many.message


def test_a_result_leaves_jit_with_functions_in_the_model():
    class Model(eqx.Module):
        a: mx.Parameter
        activation: object  # a leaf that is not an array

        def nll(self, d):
            return 0.5 * jnp.sum((self.activation(self.a) - d) ** 2)

    model = Model(P(0.5), jnp.tanh)
    result = jax.jit(lambda d: mx.fit(Model.nll, model, d))(jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(result.params.a.value, np.arctanh(0.2))
    assert result.params.activation is jnp.tanh


BAD_COVARIANCES = {
    "shape": (jnp.eye(2), r"must have shape \(1, 1\) for 1 free parameters, got \(2, 2\)"),
    "negative": (-jnp.eye(1), "diagonal of variances"),
    "of others": (mx.Covariance(jnp.eye(1), jnp.array(True), ("b",)), r"of the parameters \('b',\).*\('a',\)"),
}


@pytest.mark.parametrize("case", BAD_COVARIANCES)
def test_covariance_of_something_else(case):
    covariance, message = BAD_COVARIANCES[case]
    with pytest.raises(ValueError, match=message):
        mx.fit(lambda p, d: (p["a"] - 1) ** 2, {"a": 2.0}, covariance=covariance)


def test_covariance_that_is_not_symmetric():
    with pytest.raises(ValueError, match="symmetric"):
        mx.fit(lambda p, d: jnp.sum((p["a"] - 1) ** 2), {"a": jnp.ones(2)}, covariance=[[1.0, 0.3], [0.1, 1.0]])


def test_another_result_in_place_of_parameters():
    nll, params = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(2)), {"mu": 5.0}
    data = jnp.array([4.0, 5.0])
    minos = mx.minos(nll, mx.fit(nll, params, data), data)
    for call in (mx.fit, lambda *args: mx.hypotest(*args, "mu", 1.0), mx.hesse):
        with pytest.raises(TypeError, match=r"got a Minos: pass result\.params of the fit"):
            call(nll, minos, data)
