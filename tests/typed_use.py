# pyright: strict, reportUnknownMemberType=false
"""A user's program, which pyright has to accept in its strict mode (`make lint`); `test_typed_use` runs it.

The rule that is off refuses `jnp.array` and `jnp.zeros` themselves.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import migrax as mx


def expected(p: dict[str, Array]) -> Float[Array, " bins"]:
    return p["signal"] * jnp.array([1.0, 6.0, 2.0]) + p["background"]


counts = jnp.array([8.0, 14.0, 9.0])
nll = mx.PoissonNLL(expected)
params = {"signal": mx.Parameter(1.0), "background": mx.Parameter(5.0, lower=0.0)}

result = mx.fit(nll, params, counts)
valid: bool = bool(result.valid)
error: Array = result["signal"].error
assert result.covariance is not None  # it is with hesse=False
matrix: Array = result.covariance.matrix
correlation: Array = result.covariance["signal", "background"]
names: tuple[str, ...] = result.names
print(result, result.message)
told: dict[str, object] = result.to_dict()
latex: str = result.to_latex()

minos = mx.minos(nll, result, counts, where=["signal"], cl=0.9)
upper: Array = minos["signal"].upper
profile = mx.profile(nll, result, counts, "signal", 20)
region = mx.contour(nll, result, counts, ("signal", "background"), cl=[0.68, 0.95])
background_only = mx.fit(nll, mx.fix(result.params, "signal", 0.0), counts)
test = mx.hypotest(nll, result.params, counts, poi="signal", value=1.0)
limit = mx.upper_limit(nll, result.params, counts, poi="signal")
observed: Array = limit.observed

toys = mx.fit_toys(nll, result.params, mx.Toys(100, jax.random.key(0)), minos=True)
print(mx.pull_study(toys, result.params), mx.coverage_study(toys, result.params))
print(mx.goodness_of_fit(nll, result, counts))
joint = mx.Joint({"bins": nll, "calibration": mx.NormalConstraint("background", 1.0)})
normal = mx.distributions.Normal(0.0, 1.0)
density: Array = normal.log_prob(jnp.zeros(3))
m = mx.Minuit(nll, params, counts)
m.migrad().hesse().minos("signal")
m.values["signal"] = 2.0
ax = mx.plot.profile(profile)
