"""The line search of `Migrad`: accept a step or shorten it, from values and slopes at both ends."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Sufficient decrease (Armijo); Nocedal and Wright, Numerical Optimization (2006), section 3.1.
_DECREASE = 1e-4
# MINUIT clips the parabola's step to [0.05, 5]; a step that met NaN or infinity is cut by ten.
_SHORTEST, _LONGEST, _CUT = 0.05, 0.5, 0.1


def accept(
    f: Float[Array, ""],
    slope: Float[Array, ""],
    step: Float[Array, ""],
    f_trial: Float[Array, ""],
    slope_trial: Float[Array, ""],
    noise: Float[Array, ""],
) -> Bool[Array, ""]:
    """Whether the trial is good enough: it decreases sufficiently or, where the change is below the rounding noise of
    the values, the slopes say so (the approximate Wolfe condition; Hager and Zhang, SIAM J. Optim. 16 (2005) 170,
    eq. 4.1)."""
    finite = jnp.isfinite(f_trial) & jnp.isfinite(slope_trial)
    decreased = f_trial <= f + _DECREASE * step * slope
    by_slopes = (f_trial <= f + noise) & (jnp.abs(slope_trial) <= (1 - 2 * _DECREASE) * jnp.abs(slope))
    return finite & (decreased | by_slopes)


def shorten(
    f: Float[Array, ""],
    slope: Float[Array, ""],
    step: Float[Array, ""],
    f_trial: Float[Array, ""],
    slope_trial: Float[Array, ""],
) -> Float[Array, ""]:
    """The next step to try: the minimum of the cubic through both ends (Nocedal and Wright, eq. 3.59), kept between
    0.05 and 0.5 of the refused one."""
    d1 = slope + slope_trial - 3 * (f_trial - f) / step
    d2 = jnp.sqrt(jnp.maximum(d1**2 - slope * slope_trial, 0))
    ratio = 1 - (slope_trial + d2 - d1) / (slope_trial - slope + 2 * d2)
    usable = jnp.isfinite(ratio)
    return step * jnp.where(usable, jnp.clip(ratio, _SHORTEST, _LONGEST), _CUT)
