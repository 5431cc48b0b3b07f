"""A parameter that is NaN gives NaN, not a probability of 0."""

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

D = mx.distributions
EDGES = np.array([0.2, 1.0, 2.0, 2.9])
CASES = {
    "Normal": (D.Normal, (1.0, 2.0)),
    "TruncatedNormal": (D.TruncatedNormal, (1.0, 2.0, -1.0, 3.0)),
    "Exponential": (D.Exponential, (1.0,)),
    "LogNormal": (D.LogNormal, (1.0, 0.5)),
    "Cauchy": (D.Cauchy, (1.0, 0.5)),
    "RelativisticBreitWigner": (D.RelativisticBreitWigner, (1.0, 0.5)),
    "StudentT": (D.StudentT, (1.0, 0.5, 3.0)),
    "QGaussian": (D.QGaussian, (1.0, 0.5, 1.3)),
    "Gamma": (D.Gamma, (2.0, 0.5)),
    "Argus": (D.Argus, (3.0, 0.5)),
    "Voigt": (D.Voigt, (1.0, 0.5, 0.3)),
    "Landau": (D.Landau, (1.0, 0.5)),
    "Moyal": (D.Moyal, (1.0, 0.5)),
    "CrystalBall": (D.CrystalBall, (1.0, 0.5, 1.2, 3.0)),
    "DoubleCrystalBall": (D.DoubleCrystalBall, (1.0, 0.5, 1.2, 3.0, 1.0, 2.0)),
    "Cruijff": (D.Cruijff, (1.0, 0.5, 0.4, 0.1, 0.1, 0.0, 3.0)),
    "Weibull": (D.Weibull, (1.0, 0.5)),
    "GeneralizedPareto": (D.GeneralizedPareto, (0.0, 1.0, 0.2)),
    "GeneralizedExtremeValue": (D.GeneralizedExtremeValue, (0.0, 1.0, 0.2)),
}  # fmt: skip


@pytest.mark.grid
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nan_parameters(case):
    make, at = case
    for i in range(len(at)):
        d = make(*at[:i], jnp.nan, *at[i + 1 :])
        assert np.all(np.isnan(d.log_integral(EDGES[:-1], EDGES[1:]))), i
        assert np.all(np.isnan(d.log_bin_integrals(EDGES))), i
        assert np.isnan(d.log_prob(1.5)), i
