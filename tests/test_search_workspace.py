"""A small workspace such as those of searches: a strong signal in two small bins, a control region that normalises the
background, systematic and statistical uncertainties; its parameter of interest has no bounds in the file.

From the fit with a weak signal, the tangent to the nominal one makes an expected count negative. The numbers are
pyhf's."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

WORKSPACE = {
    "channels": [
        {
            "name": "SR",
            "samples": [
                {
                    "name": "signal",
                    "data": [40.0, 0.5],
                    "modifiers": [
                        {"name": "mu_SIG", "type": "normfactor", "data": None},
                        {"name": "jes", "type": "normsys", "data": {"hi": 1.1, "lo": 0.92}},
                    ],
                },
                {
                    "name": "ttbar",
                    "data": [10.0, 3.0],
                    "modifiers": [
                        {"name": "mu_tt", "type": "normfactor", "data": None},
                        {
                            "name": "scale",
                            "type": "histosys",
                            "data": {"hi_data": [14.0, 4.5], "lo_data": [6.0, 1.5]},
                        },
                        {"name": "mc", "type": "staterror", "data": [1.0, 0.4]},
                    ],
                },
            ],
        },
        {
            "name": "CR",
            "samples": [
                {"name": "ttbar", "data": [100.0], "modifiers": [{"name": "mu_tt", "type": "normfactor", "data": None}]}
            ],
        },
    ],
    "observations": [{"name": "SR", "data": [14.0, 4.0]}, {"name": "CR", "data": [98.0]}],
    "measurements": [{"name": "search", "config": {"poi": "mu_SIG", "parameters": []}}],
    "version": "1.0.0",
}
# pyhf 0.7.6 with SciPy's SLSQP, ftol=1e-13, q-tilde: CLs observed and expected at -2 to 2 standard deviations
CLS = {
    0.2: (0.2449970896, [0.00957983584, 0.03726401002, 0.12917932866, 0.35949270027, 0.70128354820]),
    1.0: (6.6829356e-08, [1.3982165e-13, 3.3767905e-11, 6.7690285e-09, 9.5927526e-07, 7.5067693e-05]),
    2.0: (7.1322631e-18, [1.2039300e-26, 6.6664101e-23, 3.0338148e-19, 9.6242044e-16, 1.6509249e-12]),
}
# and the roots of CLs = 0.05 by SciPy's brentq
LIMIT, EXPECTED, EXPECTED_HIGH = 0.3237655019, 0.2632216581, 0.5401631421


@functools.cache
def ours():
    return mx.io.from_pyhf(WORKSPACE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyhf's own
def test_bounds_are_those_of_pyhf():
    pyhf = pytest.importorskip("pyhf")
    nll, params, _ = ours()
    model = pyhf.Workspace(WORKSPACE).model()
    poi = params[nll.poi]
    assert (float(poi.lower), float(poi.upper)) == tuple(model.config.suggested_bounds()[model.config.poi_index])


@pytest.mark.parametrize("mu", CLS)
def test_cls(mu):
    nll, params, data = ours()
    found = mx.hypotest(nll, params, data, "mu_SIG", mu)
    observed, band = CLS[mu]
    assert bool(found.valid)
    np.testing.assert_allclose(found.cls, observed, rtol=1e-5)
    np.testing.assert_allclose(found.expected_cls, band, rtol=1e-4)


def test_limit_and_the_bound_to_raise():
    nll, params, data = ours()
    found = mx.upper_limit(nll, params, data, "mu_SIG")
    np.testing.assert_allclose(found.observed, LIMIT, rtol=1e-6)
    np.testing.assert_allclose(found.expected[jnp.array([2, 4])], [EXPECTED, EXPECTED_HIGH], rtol=1e-6)
    assert "bound" not in str(found)
    narrow = params | {"mu_SIG": mx.Parameter(0.1, lower=0.0, upper=0.22)}
    low = mx.upper_limit(nll, narrow, data, "mu_SIG")
    assert np.isnan(low.expected[4])
    assert "Beyond the upper bound of mu_SIG, 0.22: raise it" in str(low)
