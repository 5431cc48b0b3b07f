"""What new users hand over: tables, lists, integers, units, dataclasses; and what they do with results."""

import copy
import dataclasses
import importlib.metadata
import json
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx

X = np.array([1.0, 2.0, 6.0])  # mean 3, so that the fit is 3 ± 1/sqrt(3)
START = {"mu": mx.Parameter(0.0)}


def nll(p, data):
    return 0.5 * jnp.sum((data - p["mu"]) ** 2)


def of_table(p, d):
    return nll(p, d["m"])


class Column:
    """As pandas' Series in what is looked at."""

    def __init__(self, numbers):
        self._numbers = np.asarray(numbers)
        self.dtype = self._numbers.dtype

    def to_numpy(self):
        return self._numbers

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._numbers, dtype)

    __hash__ = None


class Table:
    """As pandas' DataFrame."""

    def __init__(self, **columns):
        self._columns = {name: Column(c) for name, c in columns.items()}
        self.columns = list(columns)

    def __getitem__(self, name):
        return self._columns[name]

    def to_numpy(self):
        return np.stack([c.to_numpy() for c in self._columns.values()], axis=1)

    __hash__ = None


TABLE = Table(m=X, label=np.array(["a", "b", "c"]), n=[1, 2, 3])
TAKEN = {
    "a column": (nll, Column(X)),
    "a column of integers": (nll, Column(X.astype(int))),
    "of a dictionary": (of_table, {"m": Column(X)}),
    "a table": (of_table, TABLE),
    "a list": (nll, [1.0, 2, 6]),
    "a list in a dictionary": (of_table, {"m": [1, 2, 6]}),
    "integers": (nll, X.astype(int)),
    "a column in a likelihood": (
        mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], 1.0).log_prob(x)),
        Column(X),
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_data_are_taken(case):
    function, data = TAKEN[case]
    for start in (0.0, 4, np.int32(7), jnp.array(-1)):
        found = mx.fit(function, {"mu": mx.Parameter(start)}, data)
        np.testing.assert_allclose(found.values, [3.0], rtol=1e-12)
    np.testing.assert_allclose(mx.hesse(function, found.params, data).errors, [1 / np.sqrt(3)], rtol=1e-9)


def test_tables_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"m": X, "label": list("abc"), "k": pandas.array([1, 2, 3], dtype="Int64")})
    for function, data in ((of_table, frame), (nll, frame["m"]), (of_table, {"m": frame["m"]})):
        np.testing.assert_allclose(mx.fit(function, START, data).values, [3.0])
    np.testing.assert_allclose(mx.fit(lambda p, _: nll(p, frame["m"].to_numpy()), START).values, [3.0])
    assert "NaN" in mx.fit(nll, START, pandas.Series([1.0, None, 3.0])).message


def test_columns_of_something_else():
    with pytest.raises(TypeError, match=r"data\['m'\] is a Column of object that holds something else than numbers"):
        mx.fit(of_table, START, {"m": Column(np.array([1.0, "a"], dtype=object))})
    with pytest.raises(TypeError, match=r"data is a Table without a column of numbers: \['label'\]"):
        mx.fit(of_table, START, Table(label=["a", "b"]))


def test_lists_of_a_joint():
    two = mx.Joint((mx.NormalConstraint("mu", 1.0), mx.NormalConstraint("mu", 1.0)))
    np.testing.assert_allclose(mx.fit(two, START, [1.0, 3.0]).values, [2.0])


def test_integers_of_parameters():
    p = mx.Parameter(4, lower=0)
    assert p.value.dtype == p.lower.dtype == jnp.result_type(float)
    assert mx.Parameter(np.arange(3)).value.tolist() == [0.0, 1.0, 2.0]


class Quantity(np.ndarray):
    """As astropy's."""

    unit = "km"

    def to_value(self, unit):
        return np.asarray(self)


class OfPint:
    magnitude, units = 3.0, "metre"


QUANTITY = X.view(Quantity)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: mx.fit(nll, START, q),
        lambda q: mx.fit(of_table, START, {"m": q}),
        lambda q: mx.Parameter(q),
        lambda q: mx.Parameter(np.zeros(3), lower=q),
        lambda q: mx.Events(q),
        lambda q: mx.Events(X, weight=q),
        lambda q: mx.Points(X, q, 1.0),
        lambda q: mx.Points(X, X, q),
    ],
)
@pytest.mark.parametrize(("q", "message"), [(QUANTITY, r"unit 'km'.*to_value\('km'\)"), (OfPint(), "m_as")])
def test_units_are_refused_by_name(call, q, message):
    with pytest.raises(TypeError, match=message):
        call(q)


def test_a_function_of_separate_arguments():
    with pytest.raises(TypeError) as info:
        mx.fit(lambda mu, sigma: mu**2 / sigma, {"mu": 1.0, "sigma": 1.0})
    assert "write lambda p, data: nll(p['mu'], p['sigma'])" in info.value.__notes__[0]
    with pytest.raises(TypeError) as info:
        mx.fit(lambda m, s: (X - m) ** 2 / s, {"mu": 1.0, "sigma": 1.0})
    assert "m is params, a dictionary: take its entries, such as p['mu'], p['sigma']" in info.value.__notes__[0]


@dataclasses.dataclass
class Unregistered:
    x: np.ndarray


def test_a_dataclass_that_jax_does_not_know():
    for call in (mx.fit, mx.hesse):
        with pytest.raises(TypeError, match=r"data\['d'\] is a Unregistered, a dataclass.*register_dataclass"):
            call(lambda p, d: nll(p, d["d"].x), START, {"d": Unregistered(X)})
    with pytest.raises(TypeError, match="register_dataclass"):
        mx.Minuit(lambda p, d: nll(p, d.x), START, Unregistered(X)).migrad()


def test_an_adjoint_that_does_not_differentiate_loops_in_loops():
    """Within bounds. Without them it works: `test_derivatives.py`."""
    bounded = {"mu": mx.Parameter(0.5, lower=-9.0)}
    with pytest.raises(TypeError, match=r"leave adjoint out \(optx.ImplicitAdjoint"):
        jax.grad(lambda d: mx.fit(nll, bounded, d, adjoint=optx.RecursiveCheckpointAdjoint()).values[0])(jnp.asarray(X))


def test_long_data_in_float32():
    data = np.full(10_000, 2.0, np.float32)
    with pytest.warns(UserWarning, match="data is float32, and the parameters are float64"):
        mx.fit(nll, START, data)


class Theirs:
    """As numpyro's Normal."""

    event_shape = ()

    def __init__(self, loc):
        self.loc = loc

    def log_prob(self, x):
        return jax.scipy.stats.norm.logpdf(x, self.loc)

    def cdf(self, x):
        return jax.scipy.stats.norm.cdf(x, self.loc)


@pytest.mark.slow
def test_a_distribution_of_another_library_is_cut():
    ours, theirs = (mx.distributions.Truncated(d, -1.0, 2.0) for d in (mx.distributions.Normal(0.5, 1.0), Theirs(0.5)))
    x = jnp.linspace(-2.0, 3.0, 11)
    # scipy.stats.truncnorm.logpdf([0.0, 1.5], -1.5, 1.5, loc=0.5)
    np.testing.assert_allclose(
        theirs.log_prob(jnp.array([0.0, 1.5])), [-0.9005133263434955, -1.2755133263434955], rtol=1e-6
    )
    np.testing.assert_allclose(theirs.log_prob(x), ours.log_prob(x), rtol=1e-12)
    assert np.isnan(mx.distributions.Truncated(Theirs(0.0), 12.0, 13.0).log_prob(12.5))  # nothing is left of the cdf
    with pytest.raises(TypeError, match="has no cdf"):
        mx.distributions.Truncated(type("Other", (), {"log_prob": abs})(), 0.0, 1.0)


RESULT_OF = {"mu": mx.Parameter(0.0), "k": mx.Parameter(2.0, fixed=True), "v": mx.Parameter(np.zeros(2))}


def _of_three(p, d):
    return nll(p, d) + 0.5 * jnp.sum((p["v"] - 1.0) ** 2)


def test_results_for_json_and_editors():
    result = mx.fit(_of_three, RESULT_OF, X)
    one = result["mu"]
    told = json.loads(
        json.dumps({"mu": one.value, "error": one.error, "at_limit": bool(one.at_limit), "k": result["k"].value})
    )
    assert told == {"mu": pytest.approx(3.0), "error": pytest.approx(1 / np.sqrt(3)), "at_limit": False, "k": 2.0}
    assert json.dumps(result["v[0]"].value) == json.dumps(float(result["v[0]"].value))
    assert {"mu", "k", "v", "v[0]", "v[1]"} == set(result._ipython_key_completions_())
    assert ("mu", "v[0]") in result.covariance._ipython_key_completions_()
    traced = jax.jit(lambda d: mx.fit(_of_three, RESULT_OF, d)["mu"].value + 1)(X)
    np.testing.assert_allclose(traced, 4.0)


def test_results_and_views_are_pickled():
    m = mx.Minuit(lambda p, d: _of_three(p, d), RESULT_OF, X)
    m.migrad()
    m.limits["mu"] = (0.0, 10.0)
    for view in (m.values, m.errors, m.limits, m.fixed):
        for again in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view), copy.copy(view)):
            assert again == view
            assert repr(again) == repr(view)
            assert again["mu"] == view["mu"]
    other = copy.deepcopy(m.values)
    other["mu"] = 7.0
    assert m.values["mu"] == pytest.approx(3.0)
    assert m.values._ipython_key_completions_() == list(m.parameters)
    result = pickle.loads(pickle.dumps(m.result))
    assert result.values.tolist() == m.result.values.tolist()
    assert isinstance(result, eqx.Module)


def test_version():
    assert mx.__version__ == importlib.metadata.version("migrax")
