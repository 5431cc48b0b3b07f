"""`mx.io.from_hs3(..., engine="pyhs3")` against the native reading of the same documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hs3
import migrax as mx

pytest.importorskip("pyhs3")
pytestmark = pytest.mark.slow

# whose values pyhs3 0.4 has; a log-normal density and a Crystal Ball it normalises by quadrature
DOCUMENTS = {
    "pairs/simplemodel_uncorrelated-background_hs3": 1e-12,
    "pairs/simplemodel_correlated-background_hs3": 1e-12,
    "root_scans/unbinned_gauss": 1e-12,
    "root_scans/unbinned_gauss_weighted": 1e-12,
    "root_scans/unbinned_exponential": 1e-12,
    "root_scans/unbinned_crystalball": 1e-7,
    "root_scans/unbinned_lognormal": 1e-8,
    "paper/paper_gaussian": 1e-12,
}


def both(name):
    path = hs3.FOLDER / f"{name}.json"
    return mx.io.from_hs3(path), mx.io.from_hs3(path, engine="pyhs3")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_values_and_gradients(name):
    (nll, params, data), (theirs, their_params, their_data) = both(name)
    assert set(mx.names(their_params)) == set(mx.names(params))
    assert theirs.poi == nll.poi
    assert isinstance(theirs, mx.io.PyHS3)
    for name_, p in their_params.items():
        for key in ("value", "lower", "upper"):
            np.testing.assert_array_equal(getattr(p, key), getattr(params[name_], key))
    rng = np.random.default_rng(1)
    at = mx.resolve(params)
    for _ in range(4):
        moved = {k: v * rng.uniform(0.9, 1.1) + rng.uniform(0, 0.05) for k, v in at.items() if k in their_params}
        ours, slopes = jax.value_and_grad(lambda p: nll(at | p, data))(moved)
        value, their_slopes = jax.value_and_grad(theirs)(moved, their_data)
        np.testing.assert_allclose(value, ours, rtol=DOCUMENTS[name])
        # of a Crystal Ball pyhs3's slopes are NaN, where a fit of it says so
        for key in moved if "crystalball" not in name else ():
            np.testing.assert_allclose(their_slopes[key], slopes[key], rtol=1e-6, atol=1e-6)


def test_fit_and_vmap():
    (nll, params, data), (theirs, their_params, their_data) = both("root_scans/unbinned_lognormal")
    result, same = mx.fit(nll, params, data), mx.fit(theirs, their_params, their_data)
    assert bool(same.valid)
    np.testing.assert_allclose(same.values, result.values, rtol=1e-6)
    np.testing.assert_allclose(same.errors, result.errors, rtol=1e-5)
    (variable,) = their_data
    factors = jnp.array([0.9, 0.95, 1.0])
    fits = jax.jit(jax.vmap(lambda f: mx.fit(theirs, their_params, {variable: f * their_data[variable]}).values))
    apart = [mx.fit(nll, params, jax.tree.map(lambda x, f=f: f * x, data)).values for f in factors]
    np.testing.assert_allclose(fits(factors), apart, rtol=1e-6)
    slope = jax.grad(lambda f: mx.fit(theirs, their_params, {variable: f * their_data[variable]})["mu"].value)(1.0)
    ends = [mx.fit(nll, params, jax.tree.map(lambda x, f=f: f * x, data))["mu"].value for f in (0.999, 1.001)]
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 0.002, rtol=1e-4)


def test_minos():
    (nll, params, data), (theirs, their_params, their_data) = both("root_scans/unbinned_lognormal")
    found = mx.minos(theirs, mx.fit(theirs, their_params, their_data), their_data, "mu")
    native = mx.minos(nll, mx.fit(nll, params, data), data, "mu")
    np.testing.assert_allclose([found.lower, found.upper], [native.lower, native.upper], rtol=1e-6)
    with pytest.raises(TypeError, match=r"no Asimov data.*engine=.native"):
        mx.hypotest(theirs, their_params, their_data, "mu", 1.0)


REFUSED = {
    "binned data": ("root_scans/binned_gauss", "pyhs3 leaves 'model_channel' out of the likelihood"),
    "what pyhs3 does not read": ("paper/paper_histfactory", "pyhs3 cannot read this document"),
}


def test_other_data_are_refused():
    _, (theirs, params, data) = both("pairs/simplemodel_uncorrelated-background_hs3")
    assert data == {}
    assert bool(mx.fit(theirs, params).valid)
    for wrong in (jnp.array([51.0, 48.0]), {"channels": {"SR": jnp.array([51.0, 48.0])}}):
        with pytest.raises(ValueError, match=r"takes the events of no variable as data, got .*native"):
            mx.fit(theirs, params, wrong)
    with pytest.raises(TypeError, match=r"draws no toys.*native"):
        mx.sample(theirs, params, jax.random.key(0), 3)
    _, (theirs, params, data) = both("root_scans/unbinned_gauss")
    (variable,) = theirs.variables
    with pytest.raises(ValueError, match=rf"the events of '{variable}' as data, got nothing"):
        mx.fit(theirs, params, {})


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    name, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        mx.io.from_hs3(hs3.FOLDER / f"{name}.json", engine="pyhs3")


INFINITE = "is inf at the start: it multiplies the probabilities of constraints"


def test_many_constraints():
    """pyhs3 multiplies their probabilities: where that underflows it is refused; newer pytensors add the logarithms,
    as we do."""
    spec, bins = hs3.read("pairs/simplemodel_uncorrelated-background_hs3.json"), 400
    (channel,) = (d for d in spec["distributions"] if d["type"] == "histfactory_dist")
    names = [f"g{i}" for i in range(bins)]
    for sample in channel["samples"]:
        sample["data"] = {"contents": [50.0] * bins, "errors": [0.0] * bins}
        for modifier in sample["modifiers"]:
            if modifier["type"] == "shapesys":
                modifier |= {"parameters": names, "data": {"vals": [0.1] * bins}}
    for axis in (channel["axes"][0], *(d["axes"][0] for d in spec["data"])):
        axis["nbins"] = bins
    for data in spec["data"]:
        data["contents"] = [100.0] * bins
    spec["parameter_points"][0]["parameters"] += [{"name": name, "value": 1.0} for name in names]
    nll, params, data = mx.io.from_hs3(spec)
    assert np.isfinite(nll(mx.resolve(params), data))
    try:
        theirs, start, observed = mx.io.from_hs3(spec, engine="pyhs3")
    except ValueError as error:
        if INFINITE in str(error):
            return
        raise
    points = [{name: value * scale for name, value in mx.resolve(start).items()} for scale in (1.0, 1.01, 0.99)]
    difference = [theirs(p, observed) - nll(mx.resolve(params) | p, data) for p in points]
    np.testing.assert_allclose(difference, difference[0], rtol=0, atol=1e-6)


def test_impossible_at_the_start():
    """Counts where nothing is expected."""
    spec = hs3.read("pairs/simplemodel_uncorrelated-background_hs3.json")
    (channel,) = (d for d in spec["distributions"] if d["type"] == "histfactory_dist")
    for sample in channel["samples"]:
        sample["data"]["contents"][0] = 0.0
    with pytest.raises(ValueError, match=INFINITE):
        mx.io.from_hs3(spec, engine="pyhs3")


def test_options():
    path = hs3.FOLDER / "paper" / "paper_gaussian.json"
    with pytest.raises(ValueError, match='bins is for engine="native"'):
        mx.io.from_hs3(path, engine="pyhs3", bins="centres")
    with pytest.raises(ValueError, match='engine must be "native" or "pyhs3", got \'root\''):
        mx.io.from_hs3(path, engine="root")
