"""A small workspace such as those of searches: a strong signal in two small bins, a control region that normalises the
background, systematic and statistical uncertainties; its parameter of interest has no bounds in the file.

From the fit with a weak signal, the tangent to the nominal one makes an expected count negative. The numbers are
pyhf's."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import migrax as mx

pyhf = pytest.importorskip("pyhf")

CODES = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
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
VALUES = (0.2, 1.0, 2.0)


@functools.cache
def ours():
    return mx.io.from_pyhf(WORKSPACE)


def theirs(mu):
    """CLs, observed and expected, with SciPy's SLSQP."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(maxiter=100_000, solver_options={"ftol": 1e-13}))
    workspace = pyhf.Workspace(WORKSPACE)
    model = workspace.model(modifier_settings=CODES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        observed, band = pyhf.infer.hypotest(
            mu, workspace.data(model), model, test_stat="qtilde", return_expected_set=True
        )
    return float(observed), [float(x) for x in band]


def test_bounds_are_those_of_pyhf():
    nll, params, _ = ours()
    model = pyhf.Workspace(WORKSPACE).model(modifier_settings=CODES)
    poi = params[nll.poi]
    assert (float(poi.lower), float(poi.upper)) == tuple(model.config.suggested_bounds()[model.config.poi_index])


def test_cls():
    """All values in one call, and each alone: the quick way, and the sure one."""
    nll, params, data = ours()
    together = jax.jit(jax.vmap(lambda mu: mx.hypotest(nll, params, data, "mu_SIG", mu)))(jnp.array(VALUES))
    for i, mu in enumerate(VALUES):
        observed, band = theirs(mu)
        np.testing.assert_allclose(together.cls[i], observed, rtol=2e-5)
        np.testing.assert_allclose(together.expected_cls[i], band, rtol=2e-4)
    alone = mx.hypotest(nll, params, data, "mu_SIG", 1.0)
    np.testing.assert_allclose(alone.cls, together.cls[1], rtol=1e-7)


def test_limit_and_the_bound_to_raise():
    nll, params, data = ours()
    found = mx.upper_limit(nll, params, data, "mu_SIG")
    np.testing.assert_allclose(found.observed, brentq(lambda mu: theirs(mu)[0] - 0.05, 0.1, 1.0), rtol=1e-5)
    median = brentq(lambda mu: theirs(mu)[1][2] - 0.05, 0.1, 1.0)
    np.testing.assert_allclose(found.expected[2], median, rtol=1e-5)
    assert "bound" not in str(found)
    narrow = params | {"mu_SIG": mx.Parameter(0.1, lower=0.0, upper=0.22)}
    low = mx.upper_limit(nll, narrow, data, "mu_SIG")
    assert np.isnan(low.expected[4])
    assert "Beyond the upper bound of mu_SIG, 0.22: raise it" in str(low)
