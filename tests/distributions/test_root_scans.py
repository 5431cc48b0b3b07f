"""Likelihoods at scanned values of the parameters against ROOT's (see `tests/data/hs3/README.md`)."""

import csv
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from migrax.distributions import Bernstein, CrystalBall, Exponential, LogNormal, Normal, Truncated

DATA = pathlib.Path(__file__).parent.parent / "data" / "hs3" / "root_scans"
MAKERS = {
    "unbinned_crystalball": lambda p, a, b: CrystalBall(p["m0"], p["sigma"], p["alpha"], p["n"], a, b),
    "unbinned_exponential": lambda p, a, b: Exponential(p["c"], a, b),
    "unbinned_lognormal": lambda p, a, b: Truncated(LogNormal(p["mu"], p["sigma"]), a, b),
    "unbinned_gauss": lambda p, a, b: Truncated(Normal(p["mu"], p["sigma"]), a, b),
    "unbinned_gauss_weighted": lambda p, a, b: Truncated(Normal(p["mu"], p["sigma"]), a, b),
    "unbinned_bernstein": lambda p, a, b: Bernstein(jnp.stack([p[f"c{k}"] for k in range(1, 6)]), a, b),
    "binned_gauss": lambda p, a, b: Truncated(Normal(p["mu"], p["sigma"]), a, b),
}


def read(name):
    """The parameters' values, the domains, the data, and the scans: values and ROOT's NLL of each parameter."""
    file = json.loads((DATA / f"{name}.json").read_text())
    start = {p["name"]: float(p["value"]) for p in file["parameter_points"][0]["parameters"]}
    domains = {axis["name"]: (float(axis["min"]), float(axis["max"])) for axis in file["domains"][0]["axes"]}
    scans = {}
    with open(DATA / f"{name}.csv") as lines:
        for row in csv.DictReader(lines):
            scans.setdefault(row["parameter"], []).append((float(row["value"]), float(row["root_nll"])))
    return start, domains, file["data"][0], {key: np.array(scan) for key, scan in scans.items()}


def likelihood(name, params, domain, data):
    d = MAKERS[name](params, *domain)
    if data["type"] == "binned":
        axis = data["axes"][0]
        edges = jnp.linspace(axis["min"], axis["max"], axis["nbins"] + 1)
        # as RooFit does: the density in the middle of a bin stands for all of it
        return -jnp.sum(jnp.array(data["contents"]) * d.log_prob(0.5 * (edges[:-1] + edges[1:])))
    events = jnp.array(data["entries"])[:, 0]
    return -jnp.sum(jnp.array(data["weights"]) * d.log_prob(events))


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_scans(name):
    start, domains, data, scans = read(name)
    domain = domains[data["axes"][0]["name"]]
    for parameter, scan in scans.items():
        values, exact = scan.T
        got = jax.jit(jax.vmap(lambda v, p=parameter: likelihood(name, start | {p: v}, domain, data)))(values)
        if data["type"] == "binned":
            got, exact = got - got[0], exact - exact[0]
        # ROOT's density underflows where its log is below -745
        got, exact = got[np.isfinite(exact)], exact[np.isfinite(exact)]
        assert len(exact) >= len(scan) - 2
        np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-10, err_msg=parameter)
