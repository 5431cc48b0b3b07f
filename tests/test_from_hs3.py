"""HS3 documents: ROOT's numbers, pyhf's, the same likelihoods written by hand; and documents that are not right."""

import copy
import csv
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
import scipy.stats

import fuzz
import hs3
import migrax as mx
from migrax.io.hs3.expression import parse

SCANS = sorted(p.stem for p in (hs3.FOLDER / "root_scans").glob("*.json"))


@pytest.mark.parametrize("name", SCANS)
def test_scans_by_root(name):
    """Where ROOT's density underflows, ours does not."""
    nll, params, data = mx.io.from_hs3(hs3.FOLDER / "root_scans" / f"{name}.json")
    at = mx.resolve(params)
    rows = list(csv.DictReader((hs3.FOLDER / "root_scans" / f"{name}.csv").read_text().splitlines()))
    scanned = {
        key: jnp.array([float(r["value"]) if r["parameter"] == key else float(at[key]) for r in rows]) for key in at
    }
    found = np.asarray(jax.jit(jax.vmap(lambda p: nll(p, data)))(scanned))
    root = np.array([float(r["root_nll"]) for r in rows])
    seen = np.isfinite(root)
    np.testing.assert_allclose(found[seen], root[seen], rtol=1e-11, atol=1e-12)
    assert np.all(found[~seen] > 1000)
    assert np.sum(~seen) == (2 if name == "unbinned_crystalball" else 0)


@pytest.mark.grid
@pytest.mark.parametrize("name", ["paper_gaussian", "paper_product", "paper_histfactory"])
def test_models_of_the_paper(name):
    """ROOT normalises the product numerically, to 1e-4."""
    expected = hs3.read("paper/expected_root.json")[name]
    nll, params, data = mx.io.from_hs3(hs3.FOLDER / "paper" / f"{name}.json")
    at = mx.resolve(params)
    value = lambda point: 2 * float(nll(at | jax.tree.map(jnp.asarray, point, is_leaf=np.isscalar), data))  # noqa: E731
    points = [{k: np.asarray(v, float) for k, v in p.items()} for p in expected["points"]]
    reference = value({k: np.asarray(v, float) for k, v in expected["reference"].items()})
    found = [value(p) - reference for p in points]
    np.testing.assert_allclose(found, expected["twice_delta_nll"], rtol=expected["rtol"], atol=expected["atol"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["correlated", "uncorrelated"])
def test_the_same_as_from_pyhf(kind):
    name = str(hs3.FOLDER / "pairs" / f"simplemodel_{kind}-background")
    nll, params, data = mx.io.from_hs3(name + "_hs3.json")
    other, theirs, their_data = mx.io.from_pyhf(name + "_hifa.json")
    assert nll.poi == other.poi == "mu"
    assert nll.analysis == "simPdf_obsData"
    known = {"correlated": 9.6481342618, "uncorrelated": 15.387627173157}[kind]
    np.testing.assert_allclose(nll(mx.resolve(params), data), known, rtol=1e-11)
    rng = np.random.default_rng(0)
    for _ in range(20):
        mu, b = rng.uniform(0.2, 3.0), rng.uniform(0.5, 1.5, 2)
        if kind == "correlated":
            ours, at = {"alpha_correlated_bkg_uncertainty": b[0]}, {"correlated_bkg_uncertainty": b[0]}
        else:
            ours, at = {"uncorr_bkguncrt_0": b[0], "uncorr_bkguncrt_1": b[1]}, {"uncorr_bkguncrt": b}
        found = nll({"mu": mu, "Lumi": 1.0, **ours}, data)
        np.testing.assert_allclose(found, other({"mu": mu, **at}, their_data), rtol=1e-13)
    result, reference = mx.fit(nll, params, data), mx.fit(other, theirs, their_data)
    assert bool(result.valid)
    assert "Lumi" not in result.names  # it is constant
    np.testing.assert_allclose(result["mu"].error, reference["mu"].error, rtol=1e-8)
    asimov = mx.io.from_hs3(name + "_hs3.json", analysis="simPdf_asimovData")[2]
    np.testing.assert_array_equal(asimov["channels"]["main"]["model_singlechannel"], [62, 63])


def test_limit_of_a_document():
    name = str(hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background")
    nll, params, data = mx.io.from_hs3(name + "_hs3.json")
    wide = params | {f"uncorr_bkguncrt_{i}": mx.Parameter(1.0, lower=0.0, upper=10.0) for i in range(2)}
    found = mx.upper_limit(nll, wide, data, nll.poi)
    np.testing.assert_allclose(found.observed, 1.01156939, rtol=1e-5)
    assert [name for name, _, _ in nll.prefit(wide, data)] == ["uncorr_bkguncrt_0", "uncorr_bkguncrt_1"]


RNG = np.random.default_rng(3)
X, CONTROL = RNG.normal(1.0, 0.5, 60), RNG.normal(-1.0, 0.5, 40)


def simultaneous():
    """As RooFit's tutorial rf501: two samples with a common width, each a mixture; the document's has no data."""
    base = hs3.read("workspaces/rf501_simultaneouspdf.json")
    x = hs3.axis("x", -8.0, 8.0)
    return base | {
        "data": [hs3.unbinned("a", X.tolist(), x), hs3.unbinned("b", CONTROL.tolist(), x)],
        "likelihoods": [{"name": "both", "distributions": ["model", "model_ctl"], "data": ["a", "b"]}],
    }


def by_hand():
    cut = lambda mean, sigma: mx.distributions.TruncatedNormal(mean, sigma, -8.0, 8.0)  # noqa: E731

    def physics(p):
        return mx.distributions.Mixture([cut(p["mean"], p["sigma"]), cut(p["mean2"], p["sigma2"])], [p["f"]])

    def control(p):
        parts = [cut(p["mean_ctl"], p["sigma"]), cut(p["mean2_ctl"], p["sigma"])]
        return mx.distributions.Mixture(parts, [p["f_ctl"]])

    parts = {"model": mx.UnbinnedNLL(distribution=physics), "model_ctl": mx.UnbinnedNLL(distribution=control)}
    return mx.Joint(parts), {"model": jnp.asarray(X), "model_ctl": jnp.asarray(CONTROL)}


class TestFittedPoints:
    @pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
    def test_of_pyhf(self):
        path = hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background_hifa.json"
        nll, params, data = mx.io.from_pyhf(path)
        result = mx.fit(nll, params | {"mu": mx.Parameter(0.5, 0.0, 10.0, fixed=True)}, data)
        written = json.loads(json.dumps(mx.io.to_pyhf(result, path)))
        config = pyhf.Workspace(written, validate=False).model(validate=False).config
        theirs = dict(zip(config.par_names, config.suggested_init(), strict=True))
        np.testing.assert_allclose(theirs["mu"], 0.5)
        np.testing.assert_allclose(theirs["uncorr_bkguncrt[0]"], result["uncorr_bkguncrt[0]"].value, rtol=1e-14)
        assert dict(zip(config.par_names, config.suggested_fixed(), strict=True))["mu"] is True
        again = mx.io.from_pyhf(written)
        np.testing.assert_allclose(again[0](mx.resolve(again[1]), again[2]), result.nll, rtol=1e-13)
        assert mx.names(again[1]) == ("uncorr_bkguncrt[0]", "uncorr_bkguncrt[1]")
        assert json.loads(path.read_text()) != written
        with pytest.raises(ValueError, match="no measurement 'x'"):
            mx.io.to_pyhf(result, path, measurement="x")

    def test_of_hs3(self, extended):
        nll, params, data = extended
        result = mx.fit(nll, params, data)
        written = json.loads(json.dumps(mx.io.to_hs3(result, EXTENDED)))
        again = mx.io.from_hs3(written, point="fitted")
        np.testing.assert_allclose(again[0](mx.resolve(again[1]), again[2]), result.nll, rtol=1e-13)
        assert mx.names(again[1]) == mx.names(params)
        assert len(mx.io.to_hs3(result, written)["parameter_points"]) == 2
        with pytest.raises(ValueError, match="no parameter point 'x'; there are 'default_values', 'fitted'"):
            mx.io.from_hs3(written, point="x")

    @pytest.mark.slow
    def test_vectors_without_names(self):
        """ROOT's staterror names its parameters nowhere."""
        spec = hs3.read("paper/paper_histfactory.json")
        nll, params, data = mx.io.from_hs3(spec)
        vector = next(name for name, p in params.items() if p.value.ndim)
        result = mx.fit(nll, params, data)
        again, back, same = mx.io.from_hs3(mx.io.to_hs3(result, spec), point="fitted")
        np.testing.assert_array_equal(back[vector].value, result.params[vector].value)
        assert mx.names(back) == mx.names(params)
        np.testing.assert_allclose(again(mx.resolve(back), same), result.nll, rtol=1e-13)  # sums in another order
        held = mx.fit(nll, mx.fix(params, f"{vector}[0]", 1.1), data)
        back = mx.io.from_hs3(mx.io.to_hs3(held, spec), point="fitted")[1]
        assert f"{vector}[0]" not in mx.names(back)
        np.testing.assert_allclose(back[vector].value[0], 1.1)

    def test_bad_results(self):
        result = mx.fit(lambda p, d: (p - d) ** 2, jnp.array(0.5), 1.0)
        with pytest.raises(TypeError, match=r"of a likelihood of mx\.io"):
            mx.io.to_hs3(result, EXTENDED)
        with pytest.raises(TypeError, match=r"of a likelihood of mx\.io"):
            mx.io.to_pyhf(result, {})

    def test_of_another_document(self, extended):
        nll, params, data = extended
        result = mx.fit(nll, params, data)
        with pytest.raises(ValueError, match="has the parameter 'b': is it the one that was fitted"):
            mx.io.to_hs3(result, hs3.read("paper/paper_gaussian.json"))
        with pytest.raises(ValueError, match="nothing in the workspace has the parameter 'b'"):
            mx.io.to_pyhf(result, {"channels": [], "measurements": [{"name": "main", "config": {}}]})
        with pytest.raises(ValueError, match=r"is a document of HS3: read it by mx\.io\.from_hs3"):
            mx.io.from_pyhf(hs3.FOLDER / "paper" / "paper_gaussian.json")
        with pytest.raises(TypeError, match=r"a dictionary with the keys .*, got an array of shape \(3,\)"):
            mx.fit(nll, params, jnp.ones(3))


@pytest.mark.slow
def test_simultaneous_fit():
    nll, params, data = mx.io.from_hs3(simultaneous())
    other, same = by_hand()
    value = jax.value_and_grad(lambda p: nll(p, data))(mx.resolve(params))
    expected = jax.value_and_grad(lambda p: other(p, same))(mx.resolve(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), value, expected)
    assert params["f"].lower == 0.0
    assert params["f"].upper == 1.0


EXTENDED = hs3.document(
    [
        {"name": "model", "type": "mixture_dist", "summands": ["peak", "slope"], "coefficients": ["total_s", "b"]},
        hs3.gaussian("peak", mean="shifted"),
        {"name": "slope", "type": "exponential_dist", "x": "x", "c": "c"},
        hs3.gaussian("scale_constraint", x="nom_scale", mean="scale", sigma=0.1),
        {"name": "b_constraint", "type": "poisson_dist", "x": "nom_b", "mean": "tau_b"},
        {"name": "soft", "type": "lognormal_dist", "x": "s", "mu": 3.0, "sigma": 2.0},
    ],
    [hs3.unbinned("events", np.concatenate([X[X > 0] + 2, RNG.uniform(0, 5, 80)]).tolist(), hs3.axis("x", 0.0, 8.0))],
    {
        "s": 50.0,
        "b": 80.0,
        "c": 0.1,
        "mu": 3.0,
        "sigma": 0.5,
        "scale": 1.0,
        "nom_scale": 1.0,
        "nom_b": 160.0,
        "tau": 2.0,
    },
    ranges={"s": (0, 500), "b": (0, 500), "sigma": (0.1, 2.0), "scale": (0.2, 2.0), "c": (-1, 1)},
    const=("nom_scale", "nom_b", "tau"),
    poi=("s",),
    aux=("scale_constraint", "b_constraint", "soft"),
    functions=[
        {"name": "total_s", "type": "product", "factors": ["s", "scale"]},
        {"name": "tau_b", "type": "product", "factors": ["tau", "b"]},
        {"name": "shifted", "type": "generic_function", "expression": "mu + 0.5*log(scale)"},
    ],
)


def extended_by_hand(p, x):
    s = p["s"] * p["scale"]
    peak = mx.distributions.TruncatedNormal(p["mu"] + 0.5 * jnp.log(p["scale"]), p["sigma"], 0.0, 8.0)
    slope = mx.distributions.Exponential(p["c"], 0.0, 8.0)
    logs = jnp.logaddexp(jnp.log(s) + peak.log_prob(x), jnp.log(p["b"]) + slope.log_prob(x))
    value = s + p["b"] - jnp.sum(logs) - jax.scipy.stats.norm.logpdf(1.0, p["scale"], 0.1)
    value -= jax.scipy.stats.poisson.logpmf(160, 2 * p["b"])
    return value + jnp.log(2 * p["s"] * jnp.sqrt(2 * jnp.pi)) + (jnp.log(p["s"]) - 3) ** 2 / 8


@pytest.fixture(scope="module")
def extended():
    return mx.io.from_hs3(EXTENDED)


class TestExtended:
    """Yields that are functions of parameters, and constraints of three kinds."""

    def test_value(self, extended):
        nll, params, data = extended
        assert set(data) == {"model", "scale_constraint", "b_constraint", "soft"}
        assert not {"nom_scale", "nom_b"} & set(params)
        at = mx.resolve(params) | {"s": jnp.asarray(40.0), "scale": jnp.asarray(1.1)}
        np.testing.assert_allclose(nll(at, data), extended_by_hand(at, data["model"]), rtol=1e-12)

    def test_fit(self, extended):
        nll, params, data = extended
        result = mx.fit(nll, params, data)
        assert bool(result.valid)
        same = mx.fit(lambda p, d: extended_by_hand(p, d["model"]), params, data)
        np.testing.assert_allclose(result.values, same.values, rtol=1e-6)
        np.testing.assert_allclose(result.errors, same.errors, rtol=1e-5)
        assert nll.poi == "s"
        assert "model: ExtendedUnbinnedNLL" in repr(nll)

    @pytest.mark.slow
    def test_global_observables_are_data(self, extended):
        nll, params, data = extended
        toys = mx.sample(nll, params, jax.random.key(0), 4000, data=data)
        np.testing.assert_allclose(np.mean(toys["scale_constraint"]), 1.0, atol=0.1 * 4 / np.sqrt(4000))
        np.testing.assert_allclose(np.std(toys["scale_constraint"]), 0.1, rtol=0.05)
        np.testing.assert_allclose(np.var(toys["b_constraint"]), 160, rtol=0.1)
        assert toys["soft"] == ()
        fixed = mx.asimov(nll, params | {"scale": mx.Parameter(1.2)}, data=data)
        np.testing.assert_allclose(fixed["scale_constraint"], 1.2)
        np.testing.assert_allclose(fixed["b_constraint"], 160.0)
        ((name, value, error),) = nll.prefit(mx.resolve(params), data)
        assert name == "scale"
        np.testing.assert_allclose([value, error], [1.0, 0.1])

    @pytest.mark.slow
    def test_vmap(self, extended):
        nll, params, data = extended
        moved = jax.vmap(lambda m: mx.fit(nll, params, data | {"scale_constraint": m})["scale"].value)
        found = jax.jit(moved)(jnp.array([0.9, 1.0, 1.1]))
        assert np.all(np.diff(found) > 0.05)


def test_the_parameter_may_be_the_variable_of_its_constraint():
    """RooFit writes Gaussian constraints both ways round."""
    spec = copy.deepcopy(EXTENDED)
    spec["distributions"][3] = hs3.gaussian("scale_constraint", x="scale", mean="nom_scale", sigma=0.1)
    nll, params, data = mx.io.from_hs3(spec)
    first, p, d = mx.io.from_hs3(EXTENDED)
    at = mx.resolve(params) | {"scale": jnp.asarray(1.2)}
    assert set(params) == set(p)
    np.testing.assert_allclose(nll(at, data), first(at, d), rtol=1e-13)
    np.testing.assert_allclose(data["scale_constraint"], 1.0)


@pytest.mark.parametrize("other_way", [False, True], ids=["measured x", "measured mean"])
def test_a_constraint_of_a_fixed_parameter(other_way):
    """Where both are constant, what the rest depends on is the parameter. Once its value was lost."""
    names = {"x": "scale", "mean": "nom_scale"} if other_way else {"x": "nom_scale", "mean": "scale"}
    spec = copy.deepcopy(EXTENDED)
    spec["distributions"][3] = hs3.gaussian("scale_constraint", **names, sigma=0.1)
    entries = {entry["name"]: entry for entry in spec["parameter_points"][0]["parameters"]}
    entries["scale"].update(value=1.2, const=True)
    nll, params, data = mx.io.from_hs3(spec)
    assert "scale" in params
    assert "nom_scale" not in params
    assert "scale" not in mx.names(params)
    first, p, d = mx.io.from_hs3(EXTENDED)
    at = mx.resolve(p) | {"scale": jnp.asarray(1.2)}
    np.testing.assert_allclose(nll(mx.resolve(params), data), first(at, d), rtol=1e-13)


def test_a_forgotten_const_is_told():
    spec = copy.deepcopy(EXTENDED)
    entries = {entry["name"]: entry for entry in spec["parameter_points"][0]["parameters"]}
    del entries["nom_scale"]["const"]
    message = "'nom_scale' is a parameter of the constraint 'scale_constraint' alone"
    with pytest.warns(UserWarning, match=message) as told:
        mx.io.from_hs3(spec)
    assert told[0].filename == __file__


def test_an_extended_factor_stays_extended():
    """RooFit's usual layout: a model times its constraints. Once the expected number of events was lost."""
    spec = copy.deepcopy(EXTENDED)
    product = {"name": "all", "type": "product_dist", "factors": ["model", "scale_constraint"]}
    spec["distributions"].append(product)
    spec["likelihoods"][0] |= {"distributions": ["all"], "aux_distributions": ["b_constraint", "soft"]}
    nll, params, data = mx.io.from_hs3(spec)
    first, _, same = mx.io.from_hs3(EXTENDED)
    assert isinstance(nll.parts["all"], mx.ExtendedUnbinnedNLL)
    at = mx.resolve(params) | {"b": jnp.asarray(70.0)}
    np.testing.assert_allclose(nll(at, data), first(at, same), rtol=1e-13)
    spec["distributions"].append(hs3.gaussian("more"))
    product["factors"].append("more")
    with pytest.raises(ValueError, match="all: an extended factor of a product of several densities"):
        mx.io.from_hs3(spec)


def test_constraints_as_factors_count_once():
    spec = hs3.document(
        [
            {"name": "model", "type": "product_dist", "factors": ["peak", "mu_constraint"]},
            hs3.gaussian("peak"),
            hs3.gaussian("mu_constraint", x="mu", mean=0.5, sigma=0.2),
        ],
        [hs3.unbinned("events", X.tolist(), hs3.axis("x", -10, 10))],
        {"mu": 1.0, "sigma": 0.5},
        const=("sigma",),
    )
    nll, params, data = mx.io.from_hs3(spec)
    result = mx.fit(nll, params, data)
    weights = np.array([X.size / 0.25, 1 / 0.04])
    np.testing.assert_allclose(result["mu"].value, weights @ [X.mean(), 0.5] / weights.sum(), rtol=1e-8)
    np.testing.assert_allclose(result["mu"].error, weights.sum() ** -0.5, rtol=1e-6)


PARTS = {
    "uniform_dist": ({"x": "x"}, {}, mx.distributions.Uniform(0.5, 4.0)),
    "argus_dist": (
        {"mass": "x", "resonance": "m0", "slope": -2.0, "power": "p"},
        {"m0": 5.0, "p": 0.7},
        mx.distributions.Truncated(mx.distributions.Argus(5.0, -2.0, 0.7), 0.5, 4.0),
    ),
    "crystalball_dist": (
        {"m": "x", "m0": "m", **{f"{k}_{s}": v for k, v in (("sigma", 0.4), ("alpha", 1.1), ("n", 3.0)) for s in "LR"}},
        {"m": 2.0},
        mx.distributions.AsymmetricCrystalBall(2.0, 0.4, 0.4, 1.1, 3.0, 1.1, 3.0, 0.5, 4.0),
    ),
    "chebychev_dist": (
        {"x": "x", "coefficients": ["a", -0.1]},
        {"a": 0.3},
        mx.distributions.Chebyshev(jnp.array([0.3, -0.1]), 0.5, 4.0),
    ),
    "polynomial_dist": (
        {"x": "x", "coefficients": [1.0, "a", 0.2]},
        {"a": 0.5},
        mx.distributions.Normalized(lambda x: jnp.log(1 + 0.5 * x + 0.2 * x**2), 0.5, 4.0),
    ),
    "generic_dist": (
        {"expression": "ifelse(x < a, 1 + x^2, exp(-x/2))"},
        {"a": 9.0},
        mx.distributions.Normalized(lambda x: jnp.log(1 + x**2), 0.5, 4.0),
    ),
    "density_function_dist": (
        {"function": "f"},
        {"a": 0.5},
        mx.distributions.Normalized(lambda x: jnp.log(2 + 0.5 * x), 0.5, 4.0),
    ),
    "log_density_function_dist": (
        {"function": "f"},
        {"a": 0.5},
        mx.distributions.Normalized(lambda x: 2 + 0.5 * x, 0.5, 4.0),
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("kind", PARTS)
def test_other_distributions(kind):
    keys, values, expected = PARTS[kind]
    x = [0.7, 1.9, 2.2, 3.6]
    spec = hs3.document(
        [
            {"name": "d", "type": "mixture_dist", "summands": ["one", "two"], "coefficients": ["f"]},
            {"name": "one", "type": kind, **keys},
            hs3.gaussian("two", mean=1.0, sigma=2.0),
        ],
        [hs3.unbinned("events", x, hs3.axis("x", 0.5, 4.0))],
        values | {"f": 0.75},
        functions=[{"name": "f", "type": "polynomial", "x": "x", "coefficients": [2.0, "a"]}]
        if "function" in keys
        else [],
        ranges={"f": (0, 1)},
    )
    if "function" in keys:
        spec["functions"][0]["name"], spec["distributions"][1]["function"] = "line", "line"
    nll, params, data = mx.io.from_hs3(spec)
    two = mx.distributions.TruncatedNormal(1.0, 2.0, 0.5, 4.0)
    mixture = mx.distributions.Mixture([expected, two], [0.75])
    np.testing.assert_allclose(nll(mx.resolve(params), data), -jnp.sum(mixture.log_prob(jnp.array(x))), rtol=1e-10)


@pytest.mark.slow
def test_rates_and_counts():
    """Counts in bins of an extended distribution; the density at the centres as RooFit has it, and the integrals."""
    counts = [3.0, 12.0, 9.0, 2.0]
    rate = {"name": "rate", "type": "bincounts_extended_dist", "rate": "n", "dist": "peak"}
    values, ranges = {"n": 25.0, "mu": 2.0, "sigma": 0.9}, {"n": (1, 100), "sigma": (0.1, 3)}
    spec = hs3.document([rate, hs3.gaussian("peak")], [hs3.binned("c", counts, 0.0, 4.0)], values, ranges=ranges)
    p = mx.distributions.TruncatedNormal(2.0, 0.9, 0.0, 4.0).bin_integrals(jnp.arange(5.0))
    nll, params, data = mx.io.from_hs3(spec)
    exact = mx.PoissonNLL(lambda _: 25 * p)(None, jnp.array(counts))
    np.testing.assert_allclose(nll(mx.resolve(params), data), exact, rtol=1e-12)
    spec["distributions"][0]["type"] = "rate_extended_dist"
    centres = mx.io.from_hs3(spec)
    logs = mx.distributions.TruncatedNormal(2.0, 0.9, 0.0, 4.0).log_prob(jnp.arange(4) + 0.5)
    value = 25 - 26 * np.log(25) - logs @ np.array(counts)
    np.testing.assert_allclose(centres[0](mx.resolve(params), data), value, rtol=1e-12)
    toys = mx.sample(centres[0], params, jax.random.key(0), 4000, data=data)["rate"]
    at = np.exp(logs) / np.sum(np.exp(logs))
    np.testing.assert_allclose(np.mean(toys, axis=0), 25 * at, rtol=0.05)
    np.testing.assert_allclose(mx.asimov(centres[0], params, data=data)["rate"], 25 * at, rtol=1e-12)
    integrals = mx.io.from_hs3(spec, bins="integrals")
    np.testing.assert_allclose(integrals[0](mx.resolve(params), data), exact, rtol=1e-12)
    with pytest.raises(ValueError, match="bins must be"):
        mx.io.from_hs3(spec, bins="middle")


def test_several_observables_and_numbers():
    spec = hs3.document(
        [
            {"name": "both", "type": "product_dist", "factors": ["gy", "gx"]},
            hs3.gaussian("gx"),
            hs3.gaussian("gy", x="y", mean="nu"),
            hs3.gaussian("one", x="z", mean="mu", sigma=0.1),
        ],
        [
            hs3.unbinned(
                "xy", [[1.0, 2.0], [1.5, 2.5]], hs3.axis("x", -9, 9), hs3.axis("y", -9, 9), weights=[1.0, 2.0]
            ),
            {"name": "z", "type": "point", "value": 1.2},
        ],
        {"mu": 1.0, "nu": 2.0, "sigma": 0.5},
        pairs=[("both", "xy"), ("one", "z")],
    )
    nll, params, data = mx.io.from_hs3(spec)
    norm = lambda x, m: jax.scipy.stats.norm.logpdf(x, m, 0.5)  # noqa: E731
    value = -(norm(1.0, 1.0) + norm(2.0, 2.0)) - 2 * (norm(1.5, 1.0) + norm(2.5, 2.0))
    value -= jax.scipy.stats.norm.logpdf(1.2, 1.0, 0.1)
    np.testing.assert_allclose(nll(mx.resolve(params), data), value, rtol=1e-10)
    spec["likelihoods"][0]["data"][1] = 1.2
    inline = mx.io.from_hs3(spec)
    np.testing.assert_allclose(inline[0](mx.resolve(params), inline[2]), value, rtol=1e-10)


class TestHistFactory:
    """The words of HS3 that pyhf has not."""

    def spec(self, **modifier):
        base = hs3.read("paper/paper_histfactory.json")
        for sample in base["distributions"][0]["samples"]:
            for m in sample["modifiers"]:
                if m["type"] == modifier.get("type"):
                    m.update(modifier)
        return base

    def test_gaussian_staterror(self):
        nll, params, data = mx.io.from_hs3(self.spec(type="staterror", constraint="Gauss"))
        np.testing.assert_allclose(data["channels"]["aux"]["mcstat"], [1.0, 1.0])
        move = mx.resolve(params) | {"mcstat": jnp.array([1.1, 1.0])}

        def constraint(p):
            expected, n = nll.expected_data(p, data)["channels"]["main"], data["channels"]["main"]
            poisson = sum(jnp.sum(expected[name] - n[name] * jnp.log(expected[name])) for name in n)
            return float(nll(p, data) - poisson)

        np.testing.assert_allclose(
            constraint(move) - constraint(mx.resolve(params)), 0.5 * (0.1 / 0.05) ** 2, rtol=1e-9
        )

    def test_prefit_of_a_vector_without_names(self):
        nll, params, data = mx.io.from_hs3(self.spec())
        found = {name: float(error) for name, _, error in nll.prefit(mx.resolve(params), data)}
        assert found == pytest.approx({"mcstat[0]": 0.05, "mcstat[1]": 0.1, "syst1": 1, "syst2": 1, "syst3": 1})

    def test_threshold(self):
        spec = self.spec()
        spec["distributions"][0]["staterror"] = {"relThreshold": 0.07, "constraint": "Poisson"}
        _, params, _ = mx.io.from_hs3(spec)
        assert mx.names(params) == ("mcstat[1]", "mu", "syst1", "syst2", "syst3")

    def test_shapesys_of_root(self):
        """Relative errors; the same constraint."""
        spec = hs3.read("pairs/simplemodel_uncorrelated-background_hs3.json")
        nll, params, data = mx.io.from_hs3(spec)
        for m in spec["distributions"][0]["samples"][0]["modifiers"]:
            if m["type"] == "shapesys":
                m["data"]["vals"] = [3.0 / 50, 7.0 / 52]
        relative = mx.io.from_hs3(spec, shapesys="relative")
        at = mx.resolve(params) | {"uncorr_bkguncrt_0": jnp.asarray(1.04)}
        np.testing.assert_allclose(relative[0](at, relative[2]), nll(at, data), rtol=1e-12)
        spec["metadata"]["packages"] = [{"name": "ROOT", "version": "6.38"}]
        by_root = mx.io.from_hs3(spec)
        np.testing.assert_allclose(by_root[0](at, by_root[2]), nll(at, data), rtol=1e-12)

    def test_interpolation(self):
        at = {"mu": 1.0, "syst1": 0.6, "syst2": 0.0, "syst3": 0.0, "mcstat": jnp.ones(2)}
        poly, log = (mx.io.from_hs3(self.spec(type="normsys", interpolation=kind)) for kind in ("poly6", "log"))
        code4 = float(np.ravel(pyhf.interpolators.code4([[[[0.95], [1.0], [1.05]]]])(np.array([[0.6]])))[0])
        for (nll, _, _), factor in ((log, 1.05**0.6), (poly, code4)):
            yields = nll.parts["channels"].expected(at)["model_channel1"]["signal"]
            np.testing.assert_allclose(yields, 20 * factor * np.array([1, 0.5]), rtol=1e-12)
        np.testing.assert_allclose(poly[0](at, poly[2]), mx.io.from_hs3(self.spec())[0](at, poly[2]), rtol=1e-13)

    def test_a_function_for_a_parameter(self):
        spec = self.spec()
        spec["distributions"][0]["samples"][0]["modifiers"][1]["parameter"] = "strength"
        spec["functions"] = [{"name": "strength", "type": "generic_function", "expression": "mu*mu"}]
        spec["parameter_points"] = [{"name": "start", "parameters": [{"name": "mu", "value": 1.5}]}]
        nll, params, data = mx.io.from_hs3(spec)
        plain, _, _ = mx.io.from_hs3(self.spec())
        at = mx.resolve(params)
        np.testing.assert_allclose(nll(at, data), plain(at | {"mu": jnp.asarray(2.25)}, data), rtol=1e-13)


EXPRESSIONS = {
    "1 + 2*3^2^0.5": 1 + 2 * 3**2**0.5,
    "-x^2 + 2": -(1.7**2) + 2,
    "2/3": 2 / 3,
    "10 - 4 - 3": 3,
    "8 / 4 / 2": 1,
    "exp(log(x)) + sqrt(x)*abs(-y)": 1.7 + math.sqrt(1.7) * 0.4,
    "pow(x, 3) + min(x, y) - max(x,y)": 1.7**3 + 0.4 - 1.7,
    "sin(x)+cos(x)+tan(x)+asin(y)+acos(y)+atan(y)": math.sin(1.7)
    + math.cos(1.7)
    + math.tan(1.7)
    + math.asin(0.4)
    + math.acos(0.4)
    + math.atan(0.4),
    "ifelse(x > 1 && y < 1, PI, EULER)": math.pi,
    "(x == 1.7) + (x === y) + (x != y) + (x !== 1.7) + !0 + (TRUE || FALSE)": 1 + 0 + 1 + 0 + 1 + 1,
    "1.5e2 + .5 + 2.": 152.5,
    " ( ( x ) ) ": 1.7,
    "+x <= 1.7": 1,
    "x ** 2 ** 0.5 - 2": 1.7**2**0.5 - 2,
    "x > 2 ? 1 : y > 0 ? 2 : 3": 2,
    "(x > 1 ? x : y) + min(y ? 4 : 5, 6)": 1.7 + 4,
    " + ".join(["1"] * 3000): 3000,
}


@pytest.mark.parametrize("text", EXPRESSIONS, ids=lambda t: t[:30])
def test_expressions(text):
    values = {"x": jnp.asarray(1.7), "y": jnp.asarray(0.4)}
    np.testing.assert_allclose(parse(text).value(values.__getitem__), EXPRESSIONS[text], rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "not the end"),
        ("(1", "closing bracket"),
        ("1 2", "an operator or the end is wanted at character 2"),
        ("__import__('os')", "'\\(\\'os\\'\\)'|means nothing"),
        ("open(x)", "no function 'open'"),
        ("x.__class__", None),
        ("x if y else z", "an operator or the end"),
        ("x *** 2", "a number, a name or a bracket is wanted"),
        ("x ? 1", "a colon is wanted"),
        ("1 : 2", "an operator or the end"),
        ("min(x)", "min takes 2 arguments, and 1 are given"),
        ("(" * 500 + "x" + ")" * 500, "brackets in each other"),
        ("-" * 500 + "x", "brackets in each other"),
        ("x" * 30_000, "more than 20000 are not read"),
        ("x; y", "means nothing"),
    ],
    ids=lambda t: str(t)[:20],
)
def test_no_expressions(text, message):
    if message is None:
        assert parse(text).names == (text,)  # a name, of nothing in the document
        return
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_derivatives_of_expressions():
    value = lambda x: parse("ifelse(x < 0, x^2, exp(x)) * (x - 3)^3").value({"x": x}.__getitem__)  # noqa: E731
    np.testing.assert_allclose(jax.grad(value)(-2.0), 2 * -2 * -125 + 4 * 3 * 25, rtol=1e-13)


def broken(change):
    spec = copy.deepcopy(EXTENDED)
    change(spec)
    return spec


def test_the_deviance_of_a_constraint(extended):
    nll, params, data = extended
    at = mx.resolve(params) | {"scale": 1.15, "b": 85.0}
    normal, poisson = nll.parts["scale_constraint"], nll.parts["b_constraint"]
    np.testing.assert_allclose(normal.deviance(at, data["scale_constraint"]), 1.5**2, rtol=1e-10)
    logp = scipy.stats.poisson.logpmf
    expected = 2 * (logp(160, 160) - logp(160, 170))
    np.testing.assert_allclose(poisson.deviance(at, data["b_constraint"]), expected, rtol=1e-9)
    assert normal.ndata(data["scale_constraint"]) == poisson.ndata(data["b_constraint"]) == 1


def crystal_ball(s, **sides):
    s["distributions"][1].clear()
    s["distributions"][1].update(name="peak", type="crystalball_dist", m="x", m0="mu", **sides)


BROKEN = {
    "no version": (lambda s: s.pop("metadata"), "has no 'metadata'"),
    "a later version": (lambda s: s["metadata"].update(hs3_version="1.0"), "metadata.hs3_version: the version '1.0'"),
    "pyhf's": (lambda s: s.update(channels=[]), "read it by mx.io.from_pyhf"),
    "no likelihood": (
        lambda s: s.update(likelihoods=[]),
        "no likelihood in it.*it holds distributions, functions, data",
    ),
    "an unknown distribution": (
        lambda s: s["likelihoods"][0].update(distributions=["modell"]),
        r"likelihoods\[0\].distributions\[0\]: there is no distribution 'modell'",
    ),
    "an unsupported distribution": (
        lambda s: s["distributions"][1].update(type="CMS::fast_vertical"),
        r"distributions\[1\].type: 'CMS::fast_vertical', the distribution 'peak', is not supported",
    ),
    "an unsupported function": (
        lambda s: s["functions"][0].update(type="CMS::process_normalization"),
        r"functions\[0\].type: 'CMS::process_normalization', the function 'total_s', is not supported",
    ),
    "unknown data": (lambda s: s["likelihoods"][0].update(data=["other"]), "there are no data 'other'"),
    "too few data": (lambda s: s["likelihoods"][0].update(data=[]), "has 1 distributions and 0 data"),
    "an unknown parameter": (
        lambda s: s["distributions"][1].update(sigma="width"),
        "the parameter 'width' has a value in no parameter point",
    ),
    "outside its domain": (
        lambda s: s["parameter_points"][0]["parameters"][0].update(value=501),
        "the parameter 's' is 501, outside its domain from 0 to 500",
    ),
    "an expression": (
        lambda s: s["functions"][2].update(expression="mu +* 2"),
        r"functions\[2\].expression: a number, a name or a bracket is wanted at character 4",
    ),
    "a circle of functions": (
        lambda s: s["functions"][0].update(factors=["total_s"]),
        "the function 'total_s' is one of itself",
    ),
    "a circle of distributions": (
        lambda s: s["distributions"][0].update(summands=["model", "slope"]),
        "the distribution 'model' is made of itself",
    ),
    "coefficients": (
        lambda s: s["distributions"][0].update(coefficients=["b", "b", "b"]),
        r"coefficients: there are 3 for 2 summands",
    ),
    "no range": (
        lambda s: s["data"][0]["axes"][0].pop("max"),
        r"distributions\[2\]: the variable 'x' of a exponential_dist needs a range",
    ),
    "a range the wrong way": (lambda s: s["data"][0]["axes"][0].update(max=-1), "max must be above min, got 0 and -1"),
    "an entry": (lambda s: s["data"][0]["entries"].append(["x"]), r"entries\[\d+\]\[0\]: must be a number, got 'x'"),
    "columns": (lambda s: s["data"][0]["entries"].append([1.0, 2.0]), r"has 2 entries, the axes are 1"),
    "weights": (lambda s: s["data"][0].update(weights=[1.0]), "weights: has 1 entries"),
    "a type of data": (lambda s: s["data"][0].update(type="combined"), "'combined' are not supported"),
    "two of a name": (lambda s: s["distributions"].append(s["distributions"][0]), "'model' is the name at"),
    "a constraint": (
        lambda s: s["distributions"][5].update(type="mixture_dist"),
        "'mixture_dist', the constraint 'soft', is not supported",
    ),
    "a likelihood of an analysis": (lambda s: s["analyses"][0].update(likelihood="x"), "there is no likelihood 'x'"),
    "a domain of an analysis": (lambda s: s["analyses"][0].update(domains=["x"]), "there is no domain 'x'"),
    "a point of an analysis": (lambda s: s["analyses"][0].update(init="x"), "there is no parameter point 'x'"),
    "a function of ROOT": (
        lambda s: s["functions"][2].update(expression="TMath::Exp(mu)"),
        r"HS3 has exp for TMath::Exp",
    ),
    "a key of a likelihood": (
        lambda s: s["likelihoods"][0].update(aux_distribution=["soft"]),
        r"likelihoods\[0\]: 'aux_distribution' means nothing here \(is 'aux_distributions' meant\?\)",
    ),
    "a key of data": (lambda s: s["data"][0].update(weight=[1.0]), r"'weight' means nothing here \(is 'weights' meant"),
    "a key of an axis": (lambda s: s["data"][0]["axes"][0].update(minimum=0), "'minimum' means nothing here"),
    "a key of a parameter": (
        lambda s: s["parameter_points"][0]["parameters"][0].update(constant=True),
        r"parameter_points\[0\].parameters\[0\]: 'constant' means nothing here \(is 'const' meant",
    ),
    "a key of an analysis": (
        lambda s: s["analyses"][0].update(parameter_of_interest="s"),
        "'parameter_of_interest' means nothing here",
    ),
    "a key of a distribution": (
        lambda s: s["distributions"][1].update(width=1.0),
        "'width' means nothing here; there may be x, mean, sigma$",
    ),
    "a key of a mixture": (lambda s: s["distributions"][0].update(fractions=[]), "'fractions' means nothing here"),
    "a key of a function": (lambda s: s["functions"][0].update(factor=[]), r"\(is 'factors' meant\?\)"),
    "a key of a domain": (lambda s: s["domains"][0].update(axis=[]), r"\(is 'axes' meant\?\)"),
    "a key of the document": (
        lambda s: s.update(parameter_point=s.pop("parameter_points")),
        r"the document: 'parameter_point' means nothing here \(is 'parameter_points' meant\?\)",
    ),
    "fractions on other variables": (
        lambda s: s["distributions"][0].update(ref_coef_norm=["y"]),
        "refer to other observables than those of the mixture, x, are not supported",
    ),
    "a near name of a parameter": (
        lambda s: s["distributions"][1].update(sigma="scal"),
        r"distributions\[0\]: the parameter 'scal' has a value in no parameter point \(is 'scale' meant\?\)",
    ),
    "summands of other variables": (
        lambda s: s["distributions"][2].update(x="y"),
        r"same observables, but \[0\] has x and \[1\] no observable",
    ),
    "an extended mixture of fractions": (
        lambda s: s["distributions"][0].update(coefficients=["b"], extended=True),
        "a mixture with extended=true needs a coefficient for each summand",
    ),
    "a parameter that is the variable": (
        lambda s: s["distributions"][1].update(sigma="x"),
        "a parameter of it depends on the variable 'x'",
    ),
    "a side twice": (
        lambda s: crystal_ball(s, sigma=0.5, sigma_R=0.5, alpha=1.0, n=2.0),
        "'sigma' and 'sigma_R' cannot both be given",
    ),
    "one side": (
        lambda s: crystal_ball(s, sigma=0.5, alpha_L=1.0, n_L=2.0),
        "has 'alpha_L' and no 'alpha_R'",
    ),
    "a density of two variables": (
        lambda s: (
            s["distributions"].append({"name": "own", "type": "generic_dist", "expression": "x*y"}),
            s["likelihoods"][0].update(distributions=["own"], data=["plane"]),
            s["data"].append(hs3.unbinned("plane", [[1, 2]], hs3.axis("x", 0, 8), hs3.axis("y", 0, 8))),
        ),
        r"a generic_dist of several observables \(x, y\) is not supported",
    ),
    "no range of a density": (
        lambda s: (
            s["distributions"].append({"name": "own", "type": "generic_dist", "expression": "x*mu"}),
            s["likelihoods"][0].update(distributions=["own"]),
            s["data"][0]["axes"][0].clear(),
            s["data"][0]["axes"][0].update(name="x"),
        ),
        "the variable 'x' of a generic_dist needs a range",
    ),
    "nothing of the data": (
        lambda s: s["data"][0]["axes"][0].update(name="y"),
        "depends on none of the variables of its data, y",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_documents(case):
    change, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        mx.io.from_hs3(broken(change))


@pytest.mark.parametrize("name", ["combine_long_exercise_part1_nosys", "rf501_simultaneouspdf"])
def test_documents_without_a_likelihood(name):
    with pytest.raises(ValueError, match="no likelihood in it, so that there is nothing to fit"):
        mx.io.from_hs3(hs3.FOLDER / "workspaces" / f"{name}.json")


def test_choices():
    with pytest.raises(ValueError, match="no analysis or likelihood 'x'; there are 'fit', 'all'"):
        mx.io.from_hs3(EXTENDED, analysis="x")
    assert mx.io.from_hs3(EXTENDED, analysis="all")[0].poi is None
    with pytest.raises(ValueError, match="shapesys must be"):
        mx.io.from_hs3(EXTENDED, shapesys="both")
    with pytest.raises(FileNotFoundError):
        mx.io.from_hs3("not/there.json")
    spec = broken(lambda s: s["analyses"][0].update(parameters_of_interest=["s", "other"]))
    with pytest.warns(UserWarning, match="the parameter of interest 'other' occurs nowhere in the likelihood"):
        assert mx.io.from_hs3(spec)[0].parameters_of_interest == ("s",)


@pytest.mark.grid
@pytest.mark.parametrize("name", ["extended", "histfactory"])
def test_fuzz(name):
    spec = EXTENDED if name == "extended" else hs3.read("pairs/simplemodel_uncorrelated-background_hs3.json")
    assert fuzz.errors(mx.io.from_hs3, spec, places=120, each=2) > 80
