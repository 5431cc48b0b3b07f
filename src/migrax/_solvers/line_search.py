"""The line search of `Migrad`: accepts or shortens a step, from the values and slopes at both ends."""

from jaxtyping import Array, Bool, Scalar

from .._host import xp

# Sufficient decrease (Armijo): a fifth of what the slope predicts; at the minimum of a parabola it is half. The usual
# 1e-4 would accept steps thousands of times longer than the range over which the slope is valid: where a likelihood is
# periodic in a parameter or levels off, a point far away, in another period. Approximate Wolfe: 1e-4.
_DECREASE, _WOLFE = 0.2, 1e-4
# A step no longer than this (in a fit, in units of errors) only has to reduce the value and the slope.
_NEAR = 3.0
# A rejected step is shortened to at least 0.05 of its length, as in MINUIT; to 0.1 if it led to NaN or infinity.
_SHORTEST, _LONGEST, _CUT = 0.05, 0.5, 0.1


def accept(
    f: Scalar, slope: Scalar, step: Scalar, f_trial: Scalar, slope_trial: Scalar, noise: Scalar, length: Scalar
) -> Bool[Array, ""]:
    """Whether to accept the trial point.

    It is accepted when the function decreases sufficiently. Where the change is below the rounding noise of the values,
    or the step (its length is `length`) is short and leads down, the slopes decide (the approximate Wolfe condition;
    Hager and Zhang, SIAM J. Optim. 16 (2005) 170, eq. 4.1).
    """
    finite = xp.isfinite(f_trial) & xp.isfinite(slope_trial)
    decreased = f_trial <= f + _DECREASE * step * slope
    by_slopes = (
        (f_trial <= f + noise)
        & ((f_trial >= f - noise) | (length <= _NEAR))
        & (xp.abs(slope_trial) <= (1 - 2 * _WOLFE) * xp.abs(slope))
    )
    return finite & (decreased | by_slopes)


def shorten(
    f: Scalar, slope: Scalar, step: Scalar, f_trial: Scalar, slope_trial: Scalar, again: Bool[Array, ""]
) -> Scalar:
    """The next step to try: the minimum of the cubic through both ends (Nocedal and Wright, eq. 3.59), kept between
    0.05 and 0.5 of the rejected one.

    Where a second trial (`again`) changed the function, up or down, by a small fraction of what the slope predicts, the
    function is no parabola with its minimum on the way: the slope is not valid over the whole step. The step is then
    shortened to the length at which the slope would give that change.
    """
    chord = (f_trial - f) / step
    largest = xp.maximum(xp.maximum(xp.abs(slope), xp.abs(slope_trial)), xp.abs(chord))
    usable = xp.isfinite(largest) & (largest > 0)
    # In units in which nothing overflows. Unusable numbers are replaced: NaN would spoil derivatives even where it is
    # not selected.
    a, b, c = xp.where(usable, xp.stack([slope, slope_trial, chord]) / xp.where(usable, largest, 1.0), 1.0)
    d1 = a + b - 3 * c
    radicand = d1**2 - a * b
    d2 = xp.sqrt(xp.where(radicand > 0, radicand, 1.0))
    ratio = 1 - (b + d2 - d1) / (b - a + 2 * d2)
    cut = xp.where(usable & (radicand > 0), xp.clip(ratio, _SHORTEST, _LONGEST), _CUT)
    fraction = xp.abs(c) / xp.where(a != 0, xp.abs(a), 1.0)
    levels_off = usable & again & (fraction > 0) & (fraction < _SHORTEST)
    return step * xp.where(levels_off, fraction, cut)
