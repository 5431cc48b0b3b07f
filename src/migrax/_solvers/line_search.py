"""The line search of `Migrad`: accept a step or shorten it, from values and slopes at both ends."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Scalar

# Sufficient decrease (Armijo): a fifth of what the slope promises, where the minimum of a parabola has half of it. With
# the usual 1e-4 a step counts that is thousands of times longer than the way on which the slope means anything: for a
# parameter whose likelihood is periodic or levels off, a place far away, in another period. Approximate Wolfe: 1e-4.
_DECREASE, _WOLFE = 0.2, 1e-4
# Of a step no longer than this (in a fit: errors) it is enough that value and slope have become smaller.
_NEAR = 3.0
# A refused step is cut to no less than 0.05 of itself, as in MINUIT; by ten if it met NaN or infinity.
_SHORTEST, _LONGEST, _CUT = 0.05, 0.5, 0.1


def accept(
    f: Scalar, slope: Scalar, step: Scalar, f_trial: Scalar, slope_trial: Scalar, noise: Scalar, length: Scalar
) -> Bool[Array, ""]:
    """Whether the trial is good enough.

    It is if it decreases sufficiently. Where the change is below the rounding noise of the values, or the step (of that
    `length`) is short and leads down, the slopes decide (the approximate Wolfe condition; Hager and Zhang, SIAM J.
    Optim. 16 (2005) 170, eq. 4.1).
    """
    finite = jnp.isfinite(f_trial) & jnp.isfinite(slope_trial)
    decreased = f_trial <= f + _DECREASE * step * slope
    by_slopes = (
        (f_trial <= f + noise)
        & ((f_trial >= f - noise) | (length <= _NEAR))
        & (jnp.abs(slope_trial) <= (1 - 2 * _WOLFE) * jnp.abs(slope))
    )
    return finite & (decreased | by_slopes)


def shorten(
    f: Scalar, slope: Scalar, step: Scalar, f_trial: Scalar, slope_trial: Scalar, again: Bool[Array, ""]
) -> Scalar:
    """The next step to try: the minimum of the cubic through both ends (Nocedal and Wright, eq. 3.59), kept between
    0.05 and 0.5 of the refused one.

    Where a second trial (`again`) changed the function by a small part of what the slope promises, up or down, it is no
    parabola whose minimum lies on the way: the slope does not hold so far. It may hold as far as it gives that change.
    """
    chord = (f_trial - f) / step
    size = jnp.maximum(jnp.maximum(jnp.abs(slope), jnp.abs(slope_trial)), jnp.abs(chord))
    usable = jnp.isfinite(size) & (size > 0)
    # In units in which nothing overflows. Harmless numbers elsewhere: NaN would spoil derivatives even where it is not
    # selected.
    a, b, c = jnp.where(usable, jnp.stack([slope, slope_trial, chord]) / jnp.where(usable, size, 1.0), 1.0)
    d1 = a + b - 3 * c
    square = d1**2 - a * b
    d2 = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    ratio = 1 - (b + d2 - d1) / (b - a + 2 * d2)
    cut = jnp.where(usable & (square > 0), jnp.clip(ratio, _SHORTEST, _LONGEST), _CUT)
    part = jnp.abs(c) / jnp.where(a != 0, jnp.abs(a), 1.0)
    levels = usable & again & (part > 0) & (part < _SHORTEST)
    return step * jnp.where(levels, part, cut)
