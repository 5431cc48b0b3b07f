"""HistFactory models by hand, as little as pyhf's validation cases need: an independent reading of the format.

Channels of bins with samples; normfactor, shapesys, lumi, normsys (code 1), histosys (code 0), shapefactor.
"""

import jax.numpy as jnp
import numpy as np

import migrax as mx


def model(workspace):
    """Likelihood, parameters and data of a workspace with one measurement."""
    config = workspace["measurements"][0]["config"]
    given = {p["name"]: p for p in config["parameters"]}
    params, constraints, auxiliary = {}, {}, {}
    for channel in workspace["channels"]:
        bins = len(channel["samples"][0]["data"])
        for sample in channel["samples"]:
            for m in sample["modifiers"]:
                name, kind = m["name"], m["type"]
                if name in params:
                    continue
                if kind == "normfactor":
                    params[name] = mx.Parameter(1.0, lower=0.0, upper=10.0)
                elif kind == "shapefactor":
                    params[name] = mx.Parameter(jnp.ones(bins), lower=0.0, upper=10.0)
                elif kind == "lumi":
                    sigma = given[name]["sigmas"][0]
                    params[name] = mx.Parameter(1.0, lower=0.0, upper=10.0)
                    constraints[name], auxiliary[name] = mx.NormalConstraint(name, sigma), jnp.asarray(1.0)
                elif kind in ("normsys", "histosys"):
                    params[name] = mx.Parameter(0.0, lower=-5.0, upper=5.0)
                    constraints[name], auxiliary[name] = mx.NormalConstraint(name, 1.0), jnp.asarray(0.0)
                elif kind == "shapesys":
                    tau = (np.array(sample["data"]) / np.array(m["data"])) ** 2
                    params[name] = mx.Parameter(jnp.ones(bins), lower=1e-10, upper=10.0)
                    constraints[name], auxiliary[name] = mx.PoissonConstraint(name, tau), jnp.asarray(tau)
                else:
                    raise ValueError(kind)
    parts = {c["name"]: mx.PoissonNLL(lambda p, c=c: _expected(c, p)) for c in workspace["channels"]}
    counts = {o["name"]: jnp.asarray(o["data"]) for o in workspace["observations"]}
    return mx.Joint({**parts, **constraints}), params, {**counts, **auxiliary}


def _expected(channel, p):
    total = 0.0
    for sample in channel["samples"]:
        nominal = jnp.asarray(sample["data"])
        shift, factor = 0.0, jnp.ones_like(nominal)
        for m in sample["modifiers"]:
            theta = p[m["name"]]
            if m["type"] == "histosys":
                high, low = (jnp.asarray(m["data"][k]) for k in ("hi_data", "lo_data"))
                shift = shift + theta * jnp.where(theta >= 0, high - nominal, nominal - low)
            elif m["type"] == "normsys":
                factor = factor * jnp.where(theta >= 0, m["data"]["hi"] ** theta, m["data"]["lo"] ** -theta)
            else:
                factor = factor * theta
        total = total + factor * (nominal + shift)
    return total


BACKGROUND = np.array([50.0, 52.0])
TAU = (BACKGROUND / np.array([3.0, 7.0])) ** 2


def two_bins(signal):
    """Two bins with uncorrelated background errors, and any signal."""
    counts = mx.PoissonNLL(lambda p: p["mu"] * signal + p["b"] * BACKGROUND)
    return mx.Joint({"n": counts, "b": mx.PoissonConstraint("b", TAU)})


def hello_world(observed=(51.0, 48.0)):
    """The example of pyhf's README."""
    nll = two_bins(np.array([12.0, 11.0]))
    params = {
        "mu": mx.Parameter(1.0, lower=0.0, upper=10.0),
        "b": mx.Parameter(jnp.ones(2), lower=1e-10, upper=10.0),
    }
    return nll, params, {"n": jnp.asarray(observed), "b": jnp.asarray(TAU)}
