"""Template fits in which each bin of each template is a Poisson count of its own, profiled exactly.

R. J. Barlow and C. Beeston, Comput. Phys. Commun. 77 (1993) 219. In a bin with `n` data and `a_j` simulated events of
component `j`, each of which stands for `c_j` data events, the expectations `A_j` of the latter minimise

    mu - n log(mu) + sum_j (A_j - a_j log A_j),    mu = b + sum_j c_j A_j

(`b` is expected without error). They are A_j = a_j / (1 + c_j t), where t = 1 - n / mu solves one equation.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._util.logs import log, log1p
from .counts import Counts, terms_from_mean

_MAX_STEPS = 60


def barlow_beeston_terms(
    n: Float[Array, "*bins"], b: Float[Array, "*bins"], c: Float[Array, "k *bins"], a: Float[Array, "k *bins"]
) -> Float[Array, "*bins"]:
    """The profiled likelihood relative to the saturated model, per bin."""
    has_events = a > 0
    t = _root(n, b, c, jnp.where(has_events, a, 0.0))
    unexplained = (n > 0) & (b == 0) & ~jnp.any(has_events, axis=0)
    t = jnp.where(unexplained, -(jnp.finfo(t.dtype).max ** 0.5), t)
    # The strongest component without simulated events receives one if the data need more than the others can provide
    # (section 5 of the paper).
    strongest = jnp.max(jnp.where(has_events, 0.0, c), axis=0)
    is_assigned = (strongest > 0) & (t * strongest < -1)
    t = jnp.where(is_assigned, -1 / jnp.where(is_assigned, strongest, 1.0), t)
    x = c * t
    in_domain = has_events & (x > -1)
    x = jnp.where(in_domain, x, 0.0)
    mu = b + jnp.sum(jnp.where(in_domain, c * a / (1 + x), 0.0), axis=0)
    extra = jnp.where(is_assigned, n / jnp.where(is_assigned, 1 - t, 1.0) - mu, 0.0)
    simulated = jnp.sum(jnp.where(in_domain, a * (log1p(x) - x / (1 + x)), 0.0), axis=0)
    events = extra / jnp.where(is_assigned, strongest, 1.0)
    out = terms_from_mean(mu + extra, Counts(n), None) + simulated + events
    return jnp.where(jnp.all(in_domain | ~has_events, axis=0), out, jnp.nan)


def _root(n: Array, b: Array, c: Array, a: Array) -> Array:
    """The root t, with derivatives to second order; 1 in an empty bin."""
    empty = n <= 0
    n = jnp.where(empty, 1.0, n)
    fixed = [lax.stop_gradient(x) for x in (n, b, c, a)]
    s, solvable = _search(*fixed)
    # Each Newton step doubles the order up to which the derivatives are correct.
    for _ in range(2):
        value, slope = _equation(s, n, b, c, a)
        s = s - jnp.where(solvable, value, 0.0) / jnp.where(solvable, slope, 1.0)
    return jnp.where(empty, 1.0, -jnp.expm1(s))


def _equation(s: Array, n: Array, b: Array, c: Array, a: Array) -> tuple[Array, Array]:
    """Return log mu(t) + s - log n with t = 1 - exp(s), and its slope in s, which is at least 1."""
    ratio = jnp.exp(s)
    inverse = 1 / (1 - c * jnp.expm1(s))
    mu = b + jnp.sum(c * a * inverse, axis=0)
    slope = jnp.sum(c**2 * a * inverse**2, axis=0)
    positive = mu > 0
    mu = jnp.where(positive, mu, 1.0)
    return jnp.where(positive, log(mu), jnp.nan) + s - log(n), 1 + ratio * slope / mu


def _search(n: Array, b: Array, c: Array, a: Array) -> tuple[Array, Bool[Array, "*bins"]]:
    """Find the root by Newton steps inside a bracket; also return whether it exists."""
    first, _ = _equation(jnp.zeros_like(n), n, b, c, a)
    solvable = jnp.isfinite(first)
    top = jnp.max(jnp.where(a > 0, c, 0.0), axis=0)
    # where 1 + c t becomes 0 for the strongest component
    ceiling = jnp.where(top > 0, log1p(1 / jnp.where(top > 0, top, 1.0)), jnp.inf)
    start = jnp.where(solvable, -first, 0.0)
    low, high = jnp.minimum(start, 0.0), jnp.minimum(jnp.maximum(start, 0.0), ceiling)
    tolerance = 8 * jnp.finfo(n.dtype).eps

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        s, low, high, _, i = carry
        value, slope = _equation(s, n, b, c, a)
        above = ~(value < 0)  # beyond the ceiling there is no value
        low, high = jnp.where(above, low, s), jnp.where(above, s, high)
        newton = s - value / slope
        moved = jnp.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
        return moved, low, high, solvable & (jnp.abs(moved - s) > tolerance * (1 + jnp.abs(s))), i + 1

    def cond(carry: tuple[Array, ...]) -> Array:
        return jnp.any(carry[3]) & (carry[4] < _MAX_STEPS)

    middle = jnp.where(start < ceiling, start, 0.5 * (low + high))
    s, *_ = lax.while_loop(cond, body, (middle, low, high, solvable, jnp.array(0)))
    return s, solvable
