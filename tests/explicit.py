"""Run in a process of its own: fits of arrays whose sharding is part of their type, over four devices of the host.

Each case prints what it finds as JSON; `test_explicit_sharding.py` knows the right values.
"""

import json
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import migrax as mx

RNG = np.random.default_rng(12)
X = RNG.normal(1.0, 2.0, 400)
LANES = RNG.normal(1.0, 2.0, (8, 40))
ON, OFF = 140.0, 100.0


def log_prob(p, x):
    return mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x)


def expected(p):
    return jnp.stack([p["s"] + p["b"], p["b"]])


def params():
    return {"mu": mx.Parameter(0.5), "sigma": mx.Parameter(1.5, lower=0.1)}


def yields():
    return {"s": mx.Parameter(1.0, lower=0.0, upper=200.0), "b": mx.Parameter(90.0, lower=0.0)}


NLL = mx.UnbinnedNLL(log_prob)
COUNTING = mx.PoissonNLL(expected)


def own(p, x):
    return jnp.sum(0.5 * ((x - p["mu"]) / p["sigma"]) ** 2 + jnp.log(p["sigma"]))


def mesh(n=4, name="toys"):
    return jax.make_mesh((n,), (name,), axis_types=(AxisType.Explicit,), devices=jax.devices()[:n])


def put(a, *spec, on=None):
    return jax.device_put(a, NamedSharding(mesh() if on is None else on, PartitionSpec(*spec)))


def values_of(x):
    return mx.fit(NLL, params(), x).values


def fit():
    result = mx.fit(NLL, params(), put(X, "toys"))
    weighted = mx.fit(NLL, params(), mx.Events(put(X, "toys"), put(np.full(X.size, 0.5), "toys")))
    return {
        "values": result.values,
        "errors": result.errors,
        "valid": result.valid,
        "weighted": weighted.errors,
    }


def errors():
    """From the shape, around a fit of a user's own function to the same array."""
    x = put(X, "toys")
    result = mx.fit(own, params(), x)
    minos = mx.minos(own, result, x, "mu")
    profile = mx.profile(own, result, x, "mu", np.array([0.8, 1.2]))
    contour = mx.contour(own, result, x, ("mu", "sigma"), size=8)
    return {
        "upper": minos.upper,
        "rise": profile.rise,
        "contour": contour.values,
        "hesse": mx.hesse(own, result.params, x).errors,
        "residuals": jnp.sum(x - result.values[0]),  # what comes out goes with what went in
    }


def lanes():
    """Lanes spread over devices, and events of lanes; the derivative of a lane's."""
    gradient = jax.grad(lambda x: values_of(x)[0])
    return {
        "lanes": jax.jit(jax.vmap(values_of))(put(LANES, "toys")),
        "events": jax.vmap(values_of)(put(LANES, None, "toys")),
        "gradient": jax.jit(jax.vmap(gradient))(put(LANES, "toys")),
    }


def toys():
    """Given ones, where they are, over the same mesh, and in a mesh that is set; with a store."""
    found = {
        "spread": mx.fit_toys(NLL, params(), put(LANES, "toys")).values,
        "over events": mx.fit_toys(NLL, params(), put(LANES, None, "toys")).values,
        "with mesh": mx.fit_toys(NLL, params(), put(LANES, "toys"), mesh=mesh()).values,
    }
    with jax.set_mesh(mesh()):
        found["in a mesh"] = mx.fit_toys(NLL, params(), LANES).values
        found["in a mesh, spread"] = mx.fit_toys(NLL, params(), put(LANES, "toys")).values
        x = put(X, "toys")
        found["in a mesh, closed over"] = mx.fit(lambda p, _: own(p, x), params()).values
    return found


def tests():
    counts = put(np.array([ON, OFF]), "bins", on=mesh(2, "bins"))
    return {
        "significance": mx.discovery(COUNTING, yields(), counts, "s").significance,
        "cls": mx.hypotest(COUNTING, yields(), counts, "s", 80.0).cls,
        "limit": mx.upper_limit(COUNTING, yields(), counts, "s").observed,
        "impact": mx.impacts(COUNTING, mx.fit(COUNTING, yields(), counts), counts, "s").postfit_up,
        "drawn": jnp.mean(mx.sample(COUNTING, yields(), jax.random.key(1), 1000), axis=0),
    }


def bootstrap():
    x = put(X, "toys")
    result = mx.fit(NLL, params(), x)
    return {"errors": mx.bootstrap(NLL, result, x, 64, jax.random.key(0), kind="poisson").error}


CASES = {"fit": fit, "errors": errors, "lanes": lanes, "toys": toys, "tests": tests, "bootstrap": bootstrap}


def main():
    jax.config.update("jax_enable_x64", True)
    assert jax.device_count() == 4
    found = {}
    for name, case in CASES.items():
        try:
            found[name] = {key: np.asarray(a).tolist() for key, a in case().items()}
        except Exception:
            found[name] = {"raised": traceback.format_exc()[-1500:]}
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
