"""Conditional fits that start near the minimum of a fit: quasi-Newton steps with one gradient each, and no Hessian.

The covariance at the minimum, conditional on the held parameters, is the inverse Hessian of a quadratic likelihood, for
which one step is enough. It is updated by the BFGS formula. Fits that do not converge are left to the loop of a fit.

A predicted start may lie where the likelihood is not finite (on the tangent far from the minimum, an expected count may
be negative). It is then moved halfway back towards the nuisance parameters of the minimum, by the same evaluations.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp
from .._solvers.flat import value_and_grad
from .inverse_hessian import MANY, Shared, Updates, aside, at_the_minimum
from .minimum import Hold, Minimum

_MAX_STEPS, _MAX_STEPS_OF_MANY = 40, 128
_MAX_REFUSED = 8
_FEW_REFUSED = 3  # enough where the best point is as good as rounding allows
_MAX_HALVINGS = 6  # of the distance to a start that is not finite; then the nuisance parameters of the minimum are used
_CUT = 0.3  # the factor by which a rejected step is shortened
_DECREASE = 1e-4  # sufficient decrease (Armijo)
_TOLERANCE = 1e-11  # of the EDM, in units of UP = 1/2, before a last step that is not evaluated
_ROUNDING = 1e-7  # the same, where no step helps any more: the values are known no better


class Descent(NamedTuple):
    x: Float[Array, " n"]
    start: Float[Array, " n"]  # the first trial point at which the likelihood is finite
    converged: Bool[Array, ""]
    num_gradients: Int[Array, ""]


class _DescentState(NamedTuple):
    trial: Float[Array, " n"]  # the point evaluated next
    q: Float[Array, " n"]
    f: Scalar
    g: Float[Array, " n"]
    push: Float[Array, " n"]  # the gradient, including parameters that do not move
    inverse: Updates
    begin: Float[Array, " n"]  # the first finite point
    first: Bool[Array, ""]  # no finite point has been found yet
    halvings: Int[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    converged: Bool[Array, ""]


def descend(minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""]) -> Descent:
    """The conditional minimum with the parameters of `hold` held, from `start` or, if the likelihood is not finite
    there, from between it and the minimum of the fit. Returns at once if `skip`."""
    which = hold.which
    moves = ~which & ~minimum.active
    space = minimum.space.without(~moves)
    nearest = xp.where(which, hold.at, minimum.x)
    x = xp.where(moves & xp.isfinite(start), start, nearest)
    q, fallback = space.internal(x), space.internal(nearest)
    slopes = space.slopes(space.internal(xp.where(moves, minimum.x, x)))[0]
    begin = at_the_minimum(minimum.covariance, hold.rows, slopes, moves)
    off_axis = aside(begin)
    q, fallback = q + off_axis, fallback + off_axis
    noise = minimum.noise

    flat = minimum.above(space)

    def body(s: _DescentState) -> _DescentState:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        finite = xp.isfinite(f) & xp.all(xp.isfinite(g))
        push = xp.where(finite, g, 0.0)
        g = xp.where(moves, push, 0.0)
        first = s.first
        unstarted = first & ~finite
        halved = xp.where(s.halvings < _MAX_HALVINGS, fallback + 0.5 * (s.trial - fallback), fallback)
        inverse = s.inverse.updated(begin, s.trial - s.q, g - s.g, first | ~finite)
        slope = s.g @ (s.trial - s.q)
        decreases = f <= s.f + _DECREASE * slope
        # Within the rounding noise of the values the slopes decide.
        is_flat = (f <= s.f + 2 * noise) & (xp.abs(g @ (s.trial - s.q)) <= 0.9 * xp.abs(slope))
        accepted = finite & (first | decreases | is_flat)
        q, f = xp.where(accepted, s.trial, s.q), xp.where(accepted, f, s.f)
        g, push = xp.where(accepted, g, s.g), xp.where(accepted, push, s.push)
        step = -inverse.product(begin, g)
        edm = -0.5 * (g @ step)
        refused = xp.where(accepted | unstarted, 0, s.refused + 1)
        is_near = ~first & (edm <= _ROUNDING) & isinstance(begin, Shared)
        stuck = (refused > _MAX_REFUSED) | ((refused >= _FEW_REFUSED) & is_near)
        converged = (accepted & (edm <= xp.maximum(_TOLERANCE, noise))) | (stuck & is_near)
        steps = s.steps + 1
        return _DescentState(
            trial=xp.where(
                unstarted, halved, q + xp.where(accepted, step, xp.where(stuck, 0.0, _CUT * (s.trial - s.q)))
            ),
            q=q,
            f=f,
            g=g,
            push=push,
            inverse=inverse,
            begin=xp.where(first & finite, s.trial, s.begin),
            first=unstarted,
            halvings=s.halvings + unstarted,
            refused=refused,
            steps=steps,
            done=converged
            | stuck
            | (steps >= (_MAX_STEPS if q.size < MANY else _MAX_STEPS_OF_MANY))
            | (unstarted & xp.all(s.trial == fallback)),
            converged=converged,
        )

    zero, zeros, false, count = xp.zeros((), x.dtype), xp.zeros_like(q), xp.array(False), xp.array(0)
    cannot_start = ~minimum.valid | ~xp.all(xp.isfinite(q) & xp.isfinite(fallback))
    initial = _DescentState(
        q, q, zero, zeros, zeros, begin.updates(), q, ~false, count, count, count, skip | cannot_start, false
    )
    end = flow.while_loop(lambda s: ~s.done, body, initial)
    # The last step is not evaluated.
    x = space.external(xp.where(end.converged, end.trial, end.q))
    sign = xp.where(minimum.space.lower_is_nearer(minimum.x), xp.ones_like(x), -1.0)
    stay_at_bounds = xp.all(~minimum.active | which | (end.push * sign >= 0))  # the slopes keep them at their bounds
    return Descent(x, space.external(end.begin), end.converged & stay_at_bounds, end.steps)
