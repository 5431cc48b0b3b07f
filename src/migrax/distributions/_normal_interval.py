"""The log of the probability of an interval of the standard normal distribution, with closed forms of its derivatives.

With a = m - w/2 and b = m + w/2, P = Phi(b) - Phi(a) and phi the density, all derivatives of L = log P follow from

    N = (phi(b) - phi(a)) / P,    D = (phi(b) + phi(a)) / P,    dL = N dm + D dw/2,
    dN = -(m N + w/2 D) dm - (m D + w/2 N) dw/2 - N dL,    dD = -(m D + w/2 N) dm - (m N + w/2 D) dw/2 - D dL,

so that derivatives of any order cost a few products, and no second evaluation of a special function.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._util.logs import log
from ._stored import stored

# An end beyond this is infinite: nothing overflows in single precision either.
_INFINITY = 1e15
# Below this width times distance from the centre the expansion around the middle of the interval is exact to rounding.
_NARROW = 0.2
_TINY = 1e-5  # the fourth power is below rounding
_SQRT_2PI_INVERSE = 0.3989422804014327
# (1 + z) Phi(-z) exp(z²/2) for z >= 0 as a polynomial in (z - 5)/(z + 5), to 3e-16: a Chebyshev expansion as that of
# M. M. Shepherd and J. G. Laframboise, Math. Comp. 36 (1981) 249, computed with mpmath and written in powers.
_AT = 5.0
_TAIL = (
    0.46151582985003775, -0.09155228183400904, 0.031030368425963708, 0.010002352385229382, -0.026401042966308307,
    0.024536963243678652, -0.015170415402514863, 0.006522000667783896, -0.00167607234455447, 7.791597409338999e-06,
    0.00018233414511643843, -5.36075811148722e-05, -9.896097759279782e-06, 9.05982468125664e-06,
    -7.034644683537101e-08, -1.3074486019237587e-06, 1.27878221820937e-07, 1.9627809920091187e-07,
    -2.6286205089898754e-08, -3.095201755804207e-08, 3.627373163401201e-09, 4.4011596227599254e-09,
    -2.8220772290629865e-10, -3.815816262632953e-10,
)  # fmt: skip

Three = tuple[Array, Array, Array]


def log_standard_interval(a: Array, b: Array, width: Array) -> Array:
    """log(Phi(b) - Phi(a)), or -inf unless b > a, with derivatives 0. An end may be infinite.

    **Arguments:**

    - `a`, `b`: the ends, in standard deviations from the mean.
    - `width`: b - a, computed before the mean was subtracted, so that a narrow interval keeps its digits. Not used
        where an end is infinite.
    """
    a, b = jnp.clip(a, -_INFINITY, _INFINITY), jnp.clip(b, -_INFINITY, _INFINITY)
    empty = (b <= a) | (width <= 0) & (jnp.maximum(jnp.abs(a), jnp.abs(b)) < _INFINITY)
    a, b = jnp.where(empty, -1.0, a), jnp.where(empty, 1.0, b)
    # Where the density at one end is nothing beside that at the other, the interval is moved by the other alone:
    # products of large numbers would cancel.
    a_far, b_far = jnp.abs(a) > 12 + 3 * jnp.abs(b), jnp.abs(b) > 12 + 3 * jnp.abs(a)
    middle, far = jnp.where(a_far, b, jnp.where(b_far, a, 0.5 * (a + b))), a_far | b_far
    log_p = _log_interval(middle, jnp.where(far, 0.0, jnp.where(empty, 2.0, width)), (a, b))[0]
    return jnp.where(empty, -jnp.inf, log_p)


def log_standard_bins(
    edges: Float[Array, " n+1"], middle: Float[Array, " n"], width: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The same for adjacent bins with finite edges, whose tails are evaluated once for each edge. NaN unless the widths
    are positive."""
    return _log_interval(middle, width, (edges,))[0]


def log_upper_tail(z: Array) -> Array:
    """log Phi(-z) for z >= 0, precise however large z is."""
    return _log_tail_and_hazard(z)[0]


@jax.custom_jvp
def _log_interval(middle: Array, width: Array, ends: tuple[Array, ...]) -> Three:
    """L, N and D of the intervals between `ends` (a, b), or between adjacent `ends` (edges,). A width of 0 stands for
    one that is not narrow."""
    tails = [_scaled_tail(jnp.abs(z)) for z in ends]
    densities = [jnp.exp(-0.5 * z**2) for z in ends]
    if len(ends) == 1:
        z, tail, density = ((x[0][:-1], x[0][1:]) for x in (ends, tails, densities))
        return _from_ends(z, tail, density, middle, width)
    a, b = ends
    return _from_ends(ends, tuple(tails), tuple(densities), 0.5 * (a + b), jnp.where(width == 0, b - a, width))


@_log_interval.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Three, Three]:
    (m, w, _), (t_m, t_w, _) = primals, tangents
    _, n, d = out = _log_interval(*primals)
    w, t_w = 0.5 * w, 0.5 * t_w
    t_log = n * t_m + d * t_w
    even, odd = m * n + w * d, m * d + w * n
    return out, (t_log, -even * t_m - odd * t_w - n * t_log, -odd * t_m - even * t_w - d * t_log)


def _from_ends(
    ends: Sequence[Array], tails: Sequence[Array], densities: Sequence[Array], middle: Array, width: Array
) -> Three:
    """In three cases: a narrow interval by an expansion around its middle, one across the centre as 1 minus both tails,
    one beside it as a difference of tails. P = F exp(-r²/2), so that nothing underflows.

    The results are made of 1/F, not of F: XLA computes a quotient once, and a sum again wherever it is used.
    """
    (a, b), (tail_a, tail_b), (exp_a, exp_b) = ends, tails, densities
    is_narrow, is_left = width * (jnp.abs(middle) + 1) < _NARROW, b <= 0
    across = (a < 0) & (b > 0) & ~is_narrow
    half = 0.5 * width * jnp.abs(middle)
    # the density at the end that is farther from the centre, over that at the nearer one
    ratio = jnp.exp(-2 * half)
    near, far = jnp.where(is_left, tail_b, tail_a), jnp.where(is_left, tail_a, tail_b)
    both = exp_a * tail_a + exp_b * tail_b
    wide = jnp.where(across, 1 - both, near - ratio * far)
    inverse = 1 / jnp.where(is_narrow, _narrow_factor(middle, width), wide)
    reference = jnp.where(is_narrow, middle, jnp.where(across, 0.0, jnp.where(is_left, b, a)))
    # log(1 - x) by its series where x is tiny, as 1 - x loses its digits
    whole = across & (both < _TINY)
    log_p = jnp.where(whole, -both * (1 + both * (1 / 2 + both / 3)), -log(inverse)) - 0.5 * reference**2
    scale, sign = _SQRT_2PI_INVERSE * inverse, jnp.where(middle < 0, 1.0, -1.0)
    sinh, cosh = _narrow_densities(half, width)
    difference = jnp.where(is_narrow, sign * sinh, jnp.where(across, exp_b - exp_a, sign * (1 - ratio)))
    total = jnp.where(is_narrow, cosh, jnp.where(across, exp_a + exp_b, 1 + ratio))
    log_p, n, d = stored(exp_a, log_p, scale * difference, scale * total)
    return log_p, n, d


def _narrow_factor(middle: Array, width: Array) -> Array:
    """P exp(m²/2): the width, with the Hermite corrections of a Taylor expansion."""
    m2, w2 = middle**2, width**2
    he2, he4 = m2 - 1, (m2 - 6) * m2 + 3
    he6, he8 = ((m2 - 15) * m2 + 45) * m2 - 15, (((m2 - 28) * m2 + 210) * m2 - 420) * m2 + 105
    series = w2 / 24 * (he2 + w2 / 80 * (he4 + w2 / 168 * (he6 + w2 / 288 * he8)))
    return _SQRT_2PI_INVERSE * width * (1 + series)


def _narrow_densities(half: Array, width: Array) -> tuple[Array, Array]:
    """The difference and the sum of the densities at the ends, over that in the middle: 2 exp(-w²/8) times the
    hyperbolic sine and cosine of `half`, which is small."""
    x2, u = half**2, width**2 / 8
    twice = 2 * (1 - u * (1 - u / 2 * (1 - u / 3 * (1 - u / 4 * (1 - u / 5)))))
    sinh = half * (1 + x2 / 6 * (1 + x2 / 20 * (1 + x2 / 42 * (1 + x2 / 72))))
    cosh = 1 + x2 / 2 * (1 + x2 / 12 * (1 + x2 / 30 * (1 + x2 / 56)))
    return twice * sinh, twice * cosh


@jax.custom_jvp
def _log_tail_and_hazard(z: Array) -> tuple[Array, Array]:
    tail = _scaled_tail(z)
    return log(tail) - 0.5 * z**2, _SQRT_2PI_INVERSE / tail


@_log_tail_and_hazard.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (z,), (t_z,) = primals, tangents
    _, hazard = out = _log_tail_and_hazard(z)
    return out, (-hazard * t_z, hazard * (hazard - z) * t_z)


def _scaled_tail(z: Array) -> Array:
    """Phi(-z) exp(z²/2) for z >= 0, half of erfcx(z / sqrt 2)."""
    t = (z - _AT) / (z + _AT)
    polynomial = jnp.full_like(t, _TAIL[-1])
    for coefficient in _TAIL[-2::-1]:
        polynomial = polynomial * t + coefficient
    return polynomial / (1 + z)
