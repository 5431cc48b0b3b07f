"""Interpolations of HS3's normsys and histosys, modifier by modifier: the yields are those of RooFit's formulas.

`single` is `RooFit::Detail::MathFuncs::flexibleInterpSingle` (roofit/roofitcore/res/RooFit/Detail/MathFuncs.h of ROOT
6.36), and `group` the loops of `PiecewiseInterpolation` and `FlexibleInterpVar` over the modifiers of a sample; which
code is meant by a structure is from ROOT's `JSONFactories_HistFactory.cxx`.
"""

import copy
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

import hs3
import migrax as mx
from test_hs3_channels import AXES, BACKGROUND, SIGNAL, VALUES, add, modifier, sample, spec


def single(code, low, high, nominal, x, total):
    """What one modifier adds to `total`; codes of PiecewiseInterpolation."""
    if code == 0:
        return x * (high - nominal) if x > 0 else x * (nominal - low)
    if code == 1:
        return total * ((high / nominal) ** x - 1) if x >= 0 else total * ((low / nominal) ** -x - 1)
    if code == 2:
        a, b = 0.5 * (high + low) - nominal, 0.5 * (high - low)
        if x > 1:
            return (2 * a + b) * (x - 1) + high - nominal
        return -(2 * a - b) * (x + 1) + low - nominal if x < -1 else a * x**2 + b * x
    if code in (4, 6):
        if code == 6:
            high, low, nominal = high / nominal, low / nominal, 1.0
        up, down = high - nominal, nominal - low
        moved = x * (0.5 * (up + down) + x * 0.0625 * (up - down) * (15 + x * x * (-10 + x * x * 3)))
        if abs(x) >= 1:
            moved = x * (up if x > 0 else down)
        return moved * (total if code == 6 else 1)
    assert code == 5
    high, low = high / nominal, low / nominal
    if abs(x) >= 1:
        return total * ((high**x if x > 0 else low**-x) - 1)
    # value, slope and curvature of the exponentials at -1 and 1, by the linear system itself
    at = np.array([[t**k for k in range(1, 7)] for t in (1.0, -1.0)])
    slope = np.array([[k * t ** (k - 1) for k in range(1, 7)] for t in (1.0, -1.0)])
    bend = np.array([[k * (k - 1) * t ** (k - 2.0) for k in range(1, 7)] for t in (1.0, -1.0)])
    log = np.log([high, low])
    right = [high - 1, low - 1, high * log[0], -low * log[1], high * log[0] ** 2, low * log[1] ** 2]
    series = np.linalg.solve(np.concatenate([at, slope, bend]), right)
    return total * sum(a * x**k for k, a in enumerate(series, 1))


def group(modifiers, nominal):
    """All modifiers `(code, low, high, x)` of one sample, in their order."""
    total = nominal
    for code, low, high, x in modifiers:
        total = total + single(code, low, high, nominal, x, total)
    return total


LINEAR = {"type": "add", "in": "poly1", "out": None}
EXPONENTIAL = {"type": "mult", "in": "exp", "out": None}
QUADRATIC = {"type": "add", "in": "poly2", "out": "poly1"}
POLYNOMIAL = {"type": "add", "in": "poly6", "out": "poly1"}
DEFAULT = {"type": "mult", "in": "poly6", "out": "exp"}
FACTOR = {"type": "mult", "in": "poly6", "out": "poly1"}
# structure: the code of PiecewiseInterpolation; and what else says the same of histosys, of normsys
FORMS = {
    "linear": (LINEAR, 0, (0, "lin", "code0"), (0,)),
    "exponential": (EXPONENTIAL, 1, (1, "log", EXPONENTIAL | {"out": "exp"}), (1, "log", "code1")),
    "quadratic": (QUADRATIC, 2, (2, 3, "parabolic", "code2"), (2, 3)),
    "polynomial": (POLYNOMIAL, 4, (4, "poly6", "code4p"), ()),
    "default": (DEFAULT, 5, (5,), (4, 5, "code4", "poly6")),
    "factor": (FACTOR, 6, (6,), ()),
}
NOMINAL, LO, HI = (np.array(x) for x in ([50.0, 52.0, 40.0], [48.0, 50.0, 41.0], [53.0, 55.0, 38.0]))
AT = (-2.3, -1.0, -0.4, 0.0, 0.7, 1.0, 1.8)


def expected(change, **values):
    """The yields of the background."""
    nll, _, _ = mx.io.from_hs3(spec(change))
    return np.asarray(nll.parts["channels"].expected(VALUES | values)["SR"]["background"])


@pytest.mark.grid
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["normsys", "histosys"])
def test_each_form_is_roofits(kind, form):
    said, code, of_shape, of_norm = FORMS[form]
    k, name = (0, "alpha_scale") if kind == "normsys" else (1, "alpha_shape")
    for way in (said, *(of_norm if kind == "normsys" else of_shape)):
        nll, _, _ = mx.io.from_hs3(spec(lambda s, way=way: modifier(s, k, interpolation=way)))
        yields = jax.vmap(lambda x, nll=nll: nll.parts["channels"].expected(VALUES | {name: x})["SR"]["background"])
        for x, found in zip(AT, np.asarray(yields(jnp.array(AT))), strict=True):
            right = NOMINAL * group([(code, 0.9, 1.1, x)], 1.0) if k == 0 else group([(code, LO, HI, x)], NOMINAL)
            np.testing.assert_allclose(found, right, rtol=1e-13, err_msg=f"{way} at {x}")


@pytest.mark.parametrize(("form", "interpolator"), [("linear", "code0"), ("polynomial", "code4p")])
def test_where_pyhf_has_it_too(form, interpolator):
    found = [expected(lambda s: modifier(s, 1, interpolation=FORMS[form][0]), alpha_shape=x) for x in AT]
    peer = getattr(pyhf.interpolators, interpolator)([[[LO, NOMINAL, HI]]])(np.array([AT]))
    np.testing.assert_allclose(found, NOMINAL + np.asarray(peer)[0, 0], rtol=1e-12)


def mixed(s):
    """Each modifier its own code, an addition after a factor, and two of one parameter."""
    modifier(s, 0, interpolation=EXPONENTIAL)
    modifier(s, 1, interpolation=DEFAULT)
    add(s, name="n2", type="normsys", parameter="alpha_shape", data={"lo": 0.8, "hi": 1.15}, interpolation=LINEAR)
    add(s, name="n3", type="normsys", parameter="alpha_scale", data={"lo": 0.97, "hi": 1.05}, interpolation=DEFAULT)
    shape = {"lo": {"contents": [45.0, 51.0, 39.0]}, "hi": {"contents": [57.0, 56.0, 42.0]}}
    add(s, name="h2", type="histosys", parameter="alpha_scale", data=shape, interpolation=QUADRATIC)
    add(s, name="h3", type="histosys", parameter="alpha_shape", data=shape, interpolation=FACTOR)


@pytest.mark.parametrize("x", [(0.3, -0.8), (-1.4, 1.7), (0.0, 0.0)])
def test_a_code_for_each_modifier(x):
    scale, shape = x
    norm = group([(1, 0.9, 1.1, scale), (0, 0.8, 1.15, shape), (5, 0.97, 1.05, scale)], 1.0)
    lo, hi = np.array([45.0, 51.0, 39.0]), np.array([57.0, 56.0, 42.0])
    right = norm * group([(5, LO, HI, shape), (2, lo, hi, scale), (6, lo, hi, shape)], NOMINAL)
    np.testing.assert_allclose(expected(mixed, alpha_scale=scale, alpha_shape=shape), right, rtol=1e-13)


def test_two_modifiers_of_one_parameter():
    def twice(s):
        add(s, **BACKGROUND["modifiers"][0] | {"name": "again", "data": {"lo": 0.95, "hi": 1.02}})
        add(s, **BACKGROUND["modifiers"][1] | {"name": "more"})
        add(s, name="k", type="normfactor", parameter="mu")
        add(s, name="l", type="normfactor", parameter="mu")

    x = {"alpha_scale": 1.3, "alpha_shape": -1.2, "mu": 1.5}
    norm = group([(5, 0.9, 1.1, 1.3), (5, 0.95, 1.02, 1.3)], 1.0)
    right = 1.5**2 * norm * group([(4, LO, HI, -1.2)] * 2, NOMINAL)
    np.testing.assert_allclose(expected(twice, **x), right, rtol=1e-13)
    nll, params, data = mx.io.from_hs3(spec(twice))
    assert set(data["channels"]["aux"]) == {"alpha_scale", "alpha_shape", "g0"}  # each of them once
    assert bool(mx.fit(nll, params, data).valid)


def test_a_factor_that_is_a_normsys_too():
    """One parameter, its constraint and its start; the yields are multiplied with it and moved by it."""

    def change(s):
        add(s, name="k", type="normfactor", parameter="alpha_scale")
        s["parameter_points"][0]["parameters"][1]["value"] = 0.8

    right = 0.7 * NOMINAL * group([(5, 0.9, 1.1, 0.7)], 1.0)
    np.testing.assert_allclose(expected(change, alpha_scale=0.7), right, rtol=1e-13)
    nll, params, data = mx.io.from_hs3(spec(change))
    assert set(params) == set(VALUES)
    assert float(params["alpha_scale"].value) == 0.8
    assert set(data["channels"]["aux"]) == {"alpha_scale", "alpha_shape", "g0"}
    found = {name for name, _, _ in nll.prefit(mx.resolve(params), data)}
    assert "alpha_scale" in found


def test_the_default_of_a_channel():
    """It is for modifiers that do not say theirs: of both kinds, as in ROOT, whose files say the commonest there."""

    def change(s):
        s["distributions"][0]["default_interpolation"] = DEFAULT
        add(s, **BACKGROUND["modifiers"][1] | {"name": "own"}, interpolation=POLYNOMIAL)

    x = {"alpha_scale": 0.6, "alpha_shape": 0.5}
    right = group([(5, 0.9, 1.1, 0.6)], 1.0) * group([(5, LO, HI, 0.5), (4, LO, HI, 0.5)], NOMINAL)
    np.testing.assert_allclose(expected(change, **x), right, rtol=1e-13)


def test_the_argument_is_for_what_says_nothing():
    def change(s):
        modifier(s, 1, interpolation=FACTOR)

    nll, _, _ = mx.io.from_hs3(spec(change), interpolation={"normsys": "code1", "histosys": "code0"})
    found = nll.parts["channels"].expected(VALUES | {"alpha_scale": 0.6, "alpha_shape": 0.5})["SR"]["background"]
    right = group([(1, 0.9, 1.1, 0.6)], 1.0) * group([(6, LO, HI, 0.5)], NOMINAL)
    np.testing.assert_allclose(found, right, rtol=1e-13)


@pytest.mark.slow
def test_derivatives_jit_and_a_fit_of_mixed_codes():
    nll, params, data = mx.io.from_hs3(spec(mixed))
    at = jnp.array([1.2, 0.3, -0.8, 0.97, 1.02, 1.01])
    names = sorted(VALUES)
    order = [names.index(n) for n in ("mu", "alpha_scale", "alpha_shape", "g0", "g1", "g2")]
    value = jax.jit(lambda x: nll({n: x[order.index(i)] for i, n in enumerate(names)}, data))
    slope, h = jax.grad(value)(at), 1e-5
    steps = [(value(at.at[i].add(h)) - value(at.at[i].add(-h))) / (2 * h) for i in range(6)]
    np.testing.assert_allclose(slope, steps, rtol=1e-6, atol=1e-7)
    result = mx.fit(nll, params, data)
    assert bool(result.valid)


def test_an_empty_bin_stays_empty_and_an_emptied_one_is_roofits():
    def change(s):
        sample(s)["data"]["contents"] = [50.0, 0.0, 40.0]
        contents = {"lo": {"contents": [48.0, 0.0, 41.0]}, "hi": {"contents": [53.0, 0.0, 0.0]}}
        modifier(s, 1, interpolation=DEFAULT, data=contents)

    for x in (-1.5, 0.4, 1.3):
        found = expected(change, alpha_shape=x)
        right = group([(5, 48.0, 53.0, x)], 50.0)
        np.testing.assert_allclose(found[:2], [right, 0.0], rtol=1e-13)
        # RooFit leaves out the logarithm of nothing: its limit
        last = group([(5, 41.0, 40.0 * np.finfo(float).eps, x)], 40.0)
        np.testing.assert_allclose(found[2], last, rtol=1e-11, atol=1e-12)


def with_default(value):
    return lambda s: s["distributions"][0].update(default_interpolation=value)


def said(k, value):
    return lambda s: modifier(s, k, interpolation=value)


def emptied(s):
    modifier(s, 1, interpolation=EXPONENTIAL)
    sample(s)["modifiers"][1]["data"]["hi"]["contents"] = [53.0, 0.0, 38.0]


def from_nothing(s):
    sample(s)["data"]["contents"] = [50.0, 0.0, 40.0]
    modifier(s, 1, interpolation=DEFAULT)


WHERE = r"distributions\[0\]\.samples\[0\]\.modifiers\[0\]\.interpolation"
REFUSED = {
    "a key": (said(0, DEFAULT | {"inn": 1}), WHERE + r": 'inn' means nothing here \(is 'in' meant\?\)"),
    "no out": (said(0, {"type": "mult", "in": "exp"}), WHERE + ": has no 'out'; where it is the same function"),
    "no type": (said(0, {"in": "exp", "out": None}), WHERE + ": has no 'type'"),
    "a type": (said(0, DEFAULT | {"type": "lin"}), WHERE + r"\.type: must be 'add' or 'mult', got 'lin'"),
    "a function": (said(0, DEFAULT | {"in": "poly4"}), WHERE + r"\.in: 'poly4' is no function; there are poly1, poly2"),
    "a pair": (
        said(0, {"type": "add", "in": "poly6", "out": "exp"}),
        WHERE + ": poly6 within and exp beyond one standard deviation is not supported; of the type 'add' there are",
    ),
    "poly6 beyond": (said(0, DEFAULT | {"out": None}), WHERE + ": poly6 within and the same beyond"),
    "a code": (said(0, 6), WHERE + ": 6 is no code of a normsys; there are 0, 1, 2, 3, 4, 5"),
    "a fraction": (said(0, 0.5), WHERE + r": 0\.5 is no code"),
    "true": (said(0, True), WHERE + ": True is no interpolation of a normsys"),
    "a list": (said(0, [1]), WHERE + ": an array is no interpolation of a normsys"),
    "a name of a channel": (with_default("poly6"), r"distributions\[0\]\.default_interpolation: must be an object"),
    "the channel's": (with_default(DEFAULT | {"out": "x"}), r"default_interpolation\.out: 'x' is no function"),
    "a power of nothing": (emptied, "the bin 1 would be multiplied with 0, of which no exponential can be taken"),
    "a multiple of nothing": (from_nothing, "the bin 1 is empty but for the variation, which is no multiple of it"),
    "a logarithm": (
        lambda s: modifier(s, 0, data={"lo": -0.1, "hi": 1.1}, interpolation=DEFAULT),
        "a factor must be positive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    change, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        mx.io.from_hs3(spec(change))


def without(s, *names):
    point = s["parameter_points"][0]
    point["parameters"] = [p for p in point["parameters"] if p["name"] not in names]


class TestStarts:
    def test_the_default_of_a_modifier(self):
        with pytest.warns(UserWarning, match="start at their default, .*: alpha_scale at 0, g1 at 1, mu at 1$"):
            _, params, _ = mx.io.from_hs3(spec(lambda s: without(s, "mu", "alpha_scale", "g1")))
        assert [float(params[n].value) for n in ("mu", "alpha_scale", "g1")] == [1.0, 0.0, 1.0]

    def test_the_middle_of_the_domain(self):
        values = {"m": 1.0, "s": 2.0}
        data = [hs3.unbinned("x", [0.5, 1.5, 2.5], hs3.axis("x", -9.0, 9.0))]
        document = hs3.document([hs3.gaussian("g", mean="m", sigma="s")], data, values, ranges={"m": (-1.0, 4.0)})
        without(document, "m")
        with pytest.warns(UserWarning, match=r"in the middle of their domain: m at 1\.5$"):
            _, params, _ = mx.io.from_hs3(document)
        assert (float(params["m"].value), float(params["m"].lower), float(params["m"].upper)) == (1.5, -1.0, 4.0)

    def test_a_domain_without_an_end_has_no_middle(self):
        data = [hs3.unbinned("x", [0.5, 1.5, 2.5], hs3.axis("x", -9.0, 9.0))]
        document = hs3.document([hs3.gaussian("g", mean="m", sigma="s")], data, {"m": 1.0, "s": 2.0})
        document["domains"][0]["axes"] = [{"name": "s", "min": 0.0}]
        without(document, "s")
        with pytest.raises(ValueError, match="'s' has a value in no parameter point"):
            mx.io.from_hs3(document)

    def test_the_value_of_the_domain(self):
        def change(s):
            without(s, "mu")
            (axis,) = [a for a in s["domains"][0]["axes"] if a["name"] == "mu"]
            axis.update(value=0.5, const=True)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, params, _ = mx.io.from_hs3(spec(change))
        assert float(params["mu"].value) == 0.5
        assert bool(np.all(params["mu"].fixed))


def test_channels_share_parameters_across_codes():
    """Two channels of the same number of bins, one of which needs stages: each has its own code."""

    def change(s):
        background = copy.deepcopy(BACKGROUND)
        background["modifiers"] = background["modifiers"][:2]
        background["modifiers"][1]["interpolation"] = FACTOR
        more = {"name": "CR", "type": "histfactory_dist", "axes": AXES, "samples": [background, copy.deepcopy(SIGNAL)]}
        s["distributions"].append(more)
        s["data"].append({"name": "more", "type": "binned", "contents": [51, 66, 44], "axes": AXES})
        s["likelihoods"][0]["distributions"].append("CR")
        s["likelihoods"][0]["data"].append("more")

    nll, _, _ = mx.io.from_hs3(spec(change))
    found = nll.parts["channels"].expected(VALUES | {"alpha_shape": 1.6, "alpha_scale": -0.5})
    norm = group([(5, 0.9, 1.1, -0.5)], 1.0)
    for channel, code in (("SR", 4), ("CR", 6)):
        right = norm * group([(code, LO, HI, 1.6)], NOMINAL)
        np.testing.assert_allclose(found[channel]["background"], right, rtol=1e-13)
