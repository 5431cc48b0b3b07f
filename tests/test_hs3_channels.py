"""HistFactory channels of HS3 documents: all that the likelihood can do beside its value, and what is refused."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hs3
import migrax as mx

AXES = [{"name": "x", "min": 0.0, "max": 3.0, "nbins": 3}]
BACKGROUND = {
    "name": "background",
    "data": {"contents": [50.0, 52.0, 40.0], "errors": [4.0, 5.0, 3.0]},
    "modifiers": [
        {"name": "scale", "type": "normsys", "parameter": "alpha_scale", "data": {"lo": 0.9, "hi": 1.1}},
        {
            "name": "shape",
            "type": "histosys",
            "parameter": "alpha_shape",
            "data": {"lo": {"contents": [48.0, 50.0, 41.0]}, "hi": {"contents": [53.0, 55.0, 38.0]}},
        },
        {"name": "stat", "type": "staterror", "parameters": ["g0", "g1", "g2"]},
    ],
}
SIGNAL = {
    "name": "signal",
    "data": {"contents": [2.0, 12.0, 5.0]},
    "modifiers": [{"name": "mu", "type": "normfactor", "parameter": "mu"}],
}
VALUES = {"mu": 1.0, "alpha_scale": 0.0, "alpha_shape": 0.0, "g0": 1.0, "g1": 1.0, "g2": 1.0}


def spec(change=None):
    channel = {"name": "SR", "type": "histfactory_dist", "axes": AXES, "samples": [BACKGROUND, SIGNAL]}
    counts = {"name": "counts", "type": "binned", "contents": [51, 66, 44], "axes": AXES}
    ranges = {name: (-5.0, 5.0) if name.startswith("alpha") else (0.0, 10.0) for name in VALUES}
    found = copy.deepcopy(hs3.document([channel], [counts], VALUES, ranges=ranges, poi=["mu"]))
    if change is not None:
        change(found)
    return found


WORKSPACE = {  # the same for pyhf's reader
    "version": "1.0.0",
    "channels": [
        {
            "name": "SR",
            "samples": [
                {
                    "name": "background",
                    "data": [50.0, 52.0, 40.0],
                    "modifiers": [
                        {"name": "alpha_scale", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}},
                        {
                            "name": "alpha_shape",
                            "type": "histosys",
                            "data": {"lo_data": [48.0, 50.0, 41.0], "hi_data": [53.0, 55.0, 38.0]},
                        },
                        {"name": "stat", "type": "shapesys", "data": [4.0, 5.0, 3.0]},
                    ],
                },
                {
                    "name": "signal",
                    "data": [2.0, 12.0, 5.0],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
            ],
        }
    ],
    "observations": [{"name": "SR", "data": [51.0, 66.0, 44.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
}
POINT = {"mu": 1.3, "alpha_scale": 0.4, "alpha_shape": -1.2, "g0": 0.95, "g1": 1.02, "g2": 1.1}


@pytest.fixture(scope="module")
def both():
    ours = mx.io.from_hs3(spec())
    theirs = mx.io.from_pyhf(WORKSPACE)
    return ours, theirs


@pytest.mark.slow
def test_what_is_expected_of_counts_and_measurements(both):
    """The likelihood of pyhf's workspace of the same numbers, whose code is tested against pyhf."""
    (nll, _, data), (same, params, observed) = both
    point = {**{k: v for k, v in POINT.items() if not k.startswith("g")}, "stat": jnp.array([0.95, 1.02, 1.1])}
    assert set(point) == set(params)
    channels, counts = nll.parts["channels"], data["channels"]
    shown = lambda tree: [np.asarray(x) for x in jax.tree.leaves(tree)]  # noqa: E731
    for mine, other in (
        (channels.expected(POINT), same.expected(point)),
        (channels.prediction(POINT), same.prediction(point)),
        (channels.expected_data(POINT), same.expected_data(point)),
        (channels.pulls(POINT, counts), same.pulls(point, observed)),
        (channels.deviance(POINT, counts), same.deviance(point, observed)),
        (channels.faults(POINT, counts), same.faults(point, observed)),
        (channels.sample(POINT, jax.random.key(1)), same.sample(point, jax.random.key(1))),
    ):
        for a, b in zip(shown(mine), shown(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert channels.ndata(counts) == same.ndata(observed)
    value = channels.varying(POINT, counts) + channels.constant(counts)
    np.testing.assert_allclose(value, channels(POINT, counts), rtol=1e-12)
    np.testing.assert_allclose(value, same(point, observed), rtol=1e-12)


def test_errors_before_the_fit(both):
    (nll, params, data), _ = both
    found = {name: (float(x), float(e)) for name, x, e in nll.parts["channels"].prefit(params, data["channels"])}
    assert found["alpha_scale"] == (0.0, 1.0)
    np.testing.assert_allclose(found["g1"], (1.0, 5.0 / 52.0), rtol=1e-12)
    assert "mu" not in found


def sample(s, i=0):
    return s["distributions"][0]["samples"][i]


def modifier(s, k, **new):
    sample(s)["modifiers"][k].update(new)


def add(s, **new):
    sample(s)["modifiers"].append(new)


def add_channel(s, **new):
    """The signal alone, as a second channel."""
    name = "CR"
    more = {"name": name, "type": "histfactory_dist", "axes": AXES, "samples": [copy.deepcopy(SIGNAL)], **new}
    s["distributions"].append(more)
    s["data"].append({"name": "more", "type": "binned", "contents": [1, 2, 3], "axes": AXES})
    s["likelihoods"][0]["distributions"].append(name)
    s["likelihoods"][0]["data"].append("more")
    return more["samples"][0]


def lists_that_differ(s):
    add_channel(s)["modifiers"].append({"name": "free", "type": "shapefactor", "parameters": ["g0", "mu", "g2"]})


def shared_errors(s):
    background = add_channel(s, samples=[copy.deepcopy(BACKGROUND)])
    background["modifiers"] = [m for m in background["modifiers"] if m["type"] == "staterror"]


def strange_constraint(s):
    s["distributions"].append({**hs3.gaussian("soft", "alpha_scale", 0.0, 2.0)})
    modifier(s, 0, constraint_name="soft")


def two_in_a_product(s):
    add_channel(s)
    s["distributions"].append({"name": "both", "type": "product_dist", "factors": ["SR", "CR"]})
    s["likelihoods"][0].update(distributions=["both"], data=["counts"])


def twice(s):
    s["likelihoods"][0]["distributions"].append("SR")
    s["likelihoods"][0]["data"].append("counts")


BROKEN = {
    "a kind": (lambda s: modifier(s, 0, type="lumi"), "'lumi' is no modifier that is supported; there are normfactor"),
    "twice": (lambda s: add(s, **BACKGROUND["modifiers"][2]), "the staterror of 'g0' is at .* already"),
    "normfactor": (lambda s: sample(s, 1)["modifiers"][0].update(constraint="Gauss"), "constraint of a normfactor"),
    "normsys": (lambda s: modifier(s, 0, constraint="Poisson"), "'Poisson' is no constraint that is supported here"),
    "a constraint by name": (strange_constraint, "must be a Gaussian with a sigma of 1"),
    "a factor": (lambda s: modifier(s, 0, data={"lo": 0.0, "hi": 1.1}), "a factor must be positive"),
    "interpolation": (lambda s: modifier(s, 0, interpolation="spline"), "'spline' is no interpolation of a normsys"),
    "too few parameters": (lambda s: modifier(s, 2, parameters=["g0"]), "has 1 entries, the channel 3 bins"),
    "lists that differ": (lists_that_differ, "parameters of 'g0' differ|begins with 'g0'"),
    "shared errors": (shared_errors, "a staterror cannot share its parameters with the channel at"),
    "negative errors": (
        lambda s: sample(s)["data"].update(errors=[4.0, -5.0, 3.0]),
        "errors cannot be negative",
    ),
    "a constraint of staterror": (
        lambda s: modifier(s, 2, constraint="LogNormal"),
        "'LogNormal' is no constraint of a staterror that is supported: Poisson or Gauss",
    ),
    "a negative count": (lambda s: s["data"][0].update(contents=[1, -2, 3]), "a count cannot be negative"),
    "edges": (
        lambda s: s["distributions"][0].update(axes=[{"name": "x", "edges": [0.0, 2.0, 1.0]}]),
        "must be at least two numbers that grow",
    ),
    "half a bin": (
        lambda s: s["distributions"][0].update(axes=[{"name": "x", "min": 0.0, "max": 3.0, "nbins": 2.5}]),
        "must be a number of bins, got 2.5",
    ),
    "the channel twice": (twice, "a histfactory_dist is in it twice"),
    "two in a product": (two_in_a_product, "more than one histfactory_dist in a product"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_documents(case):
    change, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        mx.io.from_hs3(spec(change))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["edges", "bounds"])
def test_edges_of_bins(both, how):
    def change(s):
        for place in (*s["distributions"], *s["data"]):
            place["axes"] = [{"name": "x", how: [0.0, 1.0, 2.0, 3.0]}]

    nll, _, data = mx.io.from_hs3(spec(change))
    np.testing.assert_allclose(nll(POINT, data), both[0][0](POINT, both[0][2]), rtol=1e-14)
